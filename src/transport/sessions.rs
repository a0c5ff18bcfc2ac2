//! The sessions of one worker: found by id, pinged, ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::session::{OPENING_FOR, Session};
use super::wheel::Wheel;
use crate::cluster::internal::Peers;
use crate::cluster::nodes::{NodeInfo, Tag};
use crate::lifecycle::admission::Opening;
use crate::lifecycle::{Admission, Drain, Phase};
use crate::protocol::engineio::handshake::{Parameters, Transport};
use crate::protocol::engineio::session::Timing;
use crate::rooms::Limits;
use crate::server::{Handshake, Local, random_token};
use crate::telemetry::metrics;
use crate::types::{CloseReason, NodeId, SessionId};

/// Settings of sessions.
#[derive(Clone)]
pub struct Settings {
    /// Where clients look for it; begins and ends with `/`.
    pub path: String,
    /// Times.
    pub timing: Timing,
    /// Bytes of a message or polling body.
    pub payload_max: usize,
    /// Time for a polling body to arrive.
    pub body_within: Duration,
    /// What is offered.
    pub transports: Vec<Transport>,
    /// Polling sessions may move to WebSocket.
    pub allow_upgrades: bool,
    /// Bounds of each outbox.
    pub outbox: Limits,
    /// Named in session ids.
    pub node: NodeId,
    /// The other nodes, where there may be some.
    pub peers: Option<Peers>,
    /// Lets clients in.
    pub admission: Admission,
}

/// When a session is looked at.
enum Due {
    /// As long as it lives.
    Always(Weak<Session>),
    /// For one deadline that came nearer meanwhile.
    Once(Weak<Session>),
}

/// All sessions of one worker.
pub struct Sessions {
    me: Weak<Self>,
    local: Rc<Local>,
    settings: Settings,
    tag: Tag,
    drain: Drain,
    all: RefCell<HashMap<SessionId, Rc<Session>>>,
    wheel: Wheel<Due>,
    ending: RefCell<Vec<(Rc<Session>, CloseReason)>>,
    reaper: Cell<Option<Waker>>,
    started: Instant,
}

thread_local! {
    /// The sessions of this thread's worker, for requests that another worker's connection brought.
    static HERE: RefCell<Option<Rc<Sessions>>> = const { RefCell::new(None) };
}

/// Precision of deadlines: fine for short test timings, a quarter of a second at the defaults.
fn grain(timing: &Timing) -> Duration {
    let shortest = timing
        .ping_timeout
        .min(timing.ping_interval)
        .min(timing.upgrade_timeout);
    (shortest / 40).clamp(Duration::from_millis(5), Duration::from_millis(250))
}

impl Sessions {
    /// The sessions of this thread's worker.
    #[must_use]
    pub fn install(local: &Rc<Local>, settings: Settings, drain: Drain) -> Rc<Self> {
        let sessions = Rc::new_cyclic(|me| Self {
            me: me.clone(),
            local: Rc::clone(local),
            wheel: Wheel::new(grain(&settings.timing), Instant::now()),
            tag: Tag::of(&settings.node),
            settings,
            drain,
            all: RefCell::default(),
            ending: RefCell::default(),
            reaper: Cell::new(None),
            started: Instant::now(),
        });
        HERE.set(Some(Rc::clone(&sessions)));
        sessions
    }

    /// True for paths that belong to this part.
    #[must_use]
    pub fn is_path(&self, path: &str) -> bool {
        path.starts_with(&self.settings.path) || path == self.settings.path.trim_end_matches('/')
    }

    /// How this worker asks other nodes.
    #[must_use]
    pub const fn peers(&self) -> Option<&Peers> {
        self.settings.peers.as_ref()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Looks after deadlines and ends; never returns.
    pub async fn run(&self) {
        let mut timer = tokio::time::interval(self.wheel.grain());
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = timer.tick() => self.tick(Instant::now()),
                () = std::future::poll_fn(|context| {
                    self.reaper.set(Some(context.waker().clone()));
                    if self.ending.borrow().is_empty() { Poll::Pending } else { Poll::Ready(()) }
                }) => self.reap(),
            }
        }
    }

    /// Asks every client to go elsewhere, spread evenly over `window`.
    pub async fn part(&self, window: Duration) {
        let all: Vec<_> = self.all.borrow().values().cloned().collect();
        let Ok(count) = u32::try_from(all.len()) else {
            return;
        };
        let start = tokio::time::Instant::now();
        let mut parting = tokio::task::JoinSet::new();
        for (index, session) in (0_u32..).zip(all) {
            tokio::time::sleep_until(start + window * index / count.max(1)).await;
            parting.spawn_local(go(session, CloseReason::ServerShuttingDown));
        }
        while parting.join_next().await.is_some() {}
        self.reap();
    }

    /// Asks about this share of the clients to go elsewhere, chosen at random.
    fn shed(&self, share: f64) {
        let all = self.all.borrow();
        let settled = all.values().filter(|session| session.is_settled());
        let chosen = settled.filter(|_| rand::random_bool(share));
        for session in chosen {
            metrics::ADMISSION_SHED.add(1);
            // Ends within the time that acks have, or with the worker.
            drop(tokio::task::spawn_local(go(
                Rc::clone(session),
                CloseReason::Rebalanced,
            )));
        }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) const fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// New sessions are refused once the listeners are shut.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.phase() >= Phase::Closed
    }

    pub(super) const fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The other live node whose session this is.
    pub(super) fn elsewhere(&self, id: &SessionId) -> Option<Arc<NodeInfo>> {
        let tag = Tag::of_session(id);
        let peers = self.settings.peers.as_ref().filter(|_| tag != self.tag)?;
        peers.nodes().find_by_tag(tag)
    }

    /// A time for decisions that do not depend on it.
    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    pub(super) const fn parameters(&self) -> Parameters {
        Parameters {
            ping_interval: self.settings.timing.ping_interval,
            ping_timeout: self.settings.timing.ping_timeout,
            payload_max: self.settings.payload_max,
        }
    }

    /// Opens a session.
    pub(super) fn open(
        &self,
        transport: Transport,
        handshake: (Handshake, Opening),
    ) -> Rc<Session> {
        let id = self.new_id();
        let session = Session::open(&self.me, (id.clone(), transport), handshake);
        self.wheel
            .add(Due::Always(Rc::downgrade(&session)), session.next_tick());
        let late = Instant::now() + OPENING_FOR;
        self.wheel.add(Due::Once(Rc::downgrade(&session)), late);
        self.all.borrow_mut().insert(id, Rc::clone(&session));
        metrics::CONNECTIONS_OPENED.of(label(transport)).add(1);
        session
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<Rc<Session>> {
        self.all.borrow().get(id.as_str()).cloned()
    }

    /// Has a session looked at when a deadline of it came nearer.
    pub(super) fn watch(&self, session: &Rc<Session>) {
        self.wheel
            .add(Due::Once(Rc::downgrade(session)), session.next_tick());
    }

    /// Ends a session soon, from a task of its own: callers may be walking rooms.
    pub(super) fn end(&self, session: &Rc<Session>, reason: CloseReason) {
        self.ending.borrow_mut().push((Rc::clone(session), reason));
        if let Some(waker) = self.reaper.take() {
            waker.wake();
        }
    }

    pub(super) fn forget(&self, id: &SessionId) {
        self.all.borrow_mut().remove(id.as_str());
    }

    /// Runs something where the session lives. `None` when that worker is gone or unknown.
    pub(super) async fn at_owner<R: Send + 'static>(
        &self,
        id: &SessionId,
        act: impl FnOnce(&Rc<Self>) -> R + Send + 'static,
    ) -> Option<R> {
        let owner = self.owner_of(id)?;
        if owner == self.local.index() {
            return self.me.upgrade().map(|here| act(&here));
        }
        let (reply, answer) = oneshot::channel();
        let mailboxes = self.local.io().mailboxes().clone();
        let sent = mailboxes.run(owner, move |_| {
            if let Some(here) = HERE.with_borrow(Clone::clone) {
                // Nobody waits any more when the request was given up.
                drop(reply.send(act(&here)));
            }
        });
        if sent.await { answer.await.ok() } else { None }
    }

    /// The same without waiting; lost when that worker's queue is full.
    pub(super) fn tell_owner(&self, id: &SessionId, act: impl FnOnce(&Rc<Self>) + Send + 'static) {
        let Some(owner) = self.owner_of(id) else {
            return;
        };
        if owner == self.local.index() {
            if let Some(here) = self.me.upgrade() {
                act(&here);
            }
            return;
        }
        let command = crate::server::Command(Box::new(move |_| {
            if let Some(here) = HERE.with_borrow(Clone::clone) {
                act(&here);
            }
        }));
        if let Some(mailbox) = self.local.io().mailboxes().all().get(owner) {
            drop(mailbox.try_send(command));
        }
    }

    fn tick(&self, now: Instant) {
        for due in self.wheel.due(now) {
            let (weak, is_again) = match due {
                Due::Always(weak) => (weak, true),
                Due::Once(weak) => (weak, false),
            };
            let Some(session) = weak.upgrade() else {
                continue;
            };
            session.tick(now);
            if is_again && !session.is_over() {
                self.wheel.add(Due::Always(weak), session.next_tick());
            }
        }
    }

    fn reap(&self) {
        loop {
            let ending = std::mem::take(&mut *self.ending.borrow_mut());
            if ending.is_empty() {
                return;
            }
            for (session, reason) in ending {
                session.finish(reason);
            }
        }
    }

    /// `[worker][node, 4 characters][random, 15 characters]`: a request that reaches another worker,
    /// or another node, can be sent to where its session is.
    fn new_id(&self) -> SessionId {
        let worker = char::from(ALPHABET[self.local.index() % ALPHABET.len()]);
        let random = random_token();
        SessionId::parse(&format!("{worker}{}{}", self.tag.as_str(), &random[..15]))
            .expect("20 characters of the alphabet")
    }

    /// The worker that a session id names, when it names this node.
    fn owner_of(&self, id: &SessionId) -> Option<usize> {
        let text = id.as_str();
        let is_ours = Tag::of_session(id) == self.tag;
        let worker = ALPHABET.iter().position(|c| *c == text.as_bytes()[0]);
        worker.filter(|_| is_ours)
    }
}

/// Ends a session whose client is to come back, to any node. Who waits for an ack gets it first.
async fn go(session: Rc<Session>, reason: CloseReason) {
    drop(tokio::time::timeout(ACKS_WITHIN, session.answered()).await);
    session.part(reason).await;
}

/// Asks about this share of this worker's clients (0 to 1) to go elsewhere.
pub fn shed_here(share: f64) {
    if let Some(here) = HERE.with_borrow(Clone::clone) {
        here.shed(share.clamp(0.0, 1.0));
    }
}

/// How long a parting session may wait for acks that are on their way.
const ACKS_WITHIN: Duration = Duration::from_secs(3);

/// As many workers as a session id can name with its first character; requests for the sessions of
/// any more would be sent to others.
pub const WORKERS_MAX: usize = 64;

const ALPHABET: &[u8; WORKERS_MAX] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) const fn label(transport: Transport) -> crate::telemetry::labels::Transport {
    match transport {
        Transport::Polling => crate::telemetry::labels::Transport::Polling,
        Transport::WebSocket => crate::telemetry::labels::Transport::Websocket,
    }
}
