//! What a worker does about its sockets beside their events.
//!
//! A socket ends with what let it in. When a token's time is over, its sockets are closed: the
//! worker remembers the earliest end among its sockets and looks at them all once it has come. When
//! control words were lost, every socket's login is asked for again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Context, Session, now, returns};
use crate::cluster::control::Control;
use crate::delivery::fanout::{Duties, Fanout};
use crate::rooms::{Hub, NamespaceId};
use crate::server::{Local, Socket};
use crate::types::{CloseReason, Epoch, ShardId, SocketId, Timestamp};

/// How late a socket may end after its token.
const EVERY: Duration = Duration::from_secs(1);
/// Sockets asked about before the worker's other tasks get a turn.
const CHECKS_PER_TURN: usize = 64;
/// Sockets whose lives are told in one go.
const TOUCHED_AT_ONCE: usize = 2_048;
/// Remembered for sockets that are entering, which takes seconds.
const SUPERSEDED_MAX: usize = 4_096;
/// Rooms live in the main namespace.
const NAMESPACE: NamespaceId = NamespaceId(0);

/// Looks after the sockets of one worker.
pub struct Watch {
    context: Arc<Context>,
    hub: Rc<Hub>,
    /// When the first token of its sockets ends, or earlier.
    earliest: Cell<Timestamp>,
    must_recheck: Cell<bool>,
    /// Sockets that were taken over and not found: whoever still gets one of them has to let it go.
    superseded: RefCell<VecDeque<(SocketId, u64)>>,
}

impl Watch {
    /// A watch over this worker's sockets, found there by its handlers; takes over what control
    /// words ask of the fan-out's surroundings.
    pub fn install(context: &Arc<Context>, local: &Local, fanout: &Fanout) -> Rc<Self> {
        let watch = Rc::new(Self {
            context: Arc::clone(context),
            hub: Rc::clone(local.hub()),
            earliest: Cell::new(Timestamp::from_millis(i64::MAX)),
            must_recheck: Cell::new(false),
            superseded: RefCell::default(),
        });
        local.provide(Rc::clone(&watch));
        let (timeline, other) = (context.timeline.clone(), Rc::downgrade(&watch));
        let returning = Arc::clone(context);
        fanout.on_control(Duties {
            shard_of: Box::new(move |room| timeline.shard_of(room)),
            rooms_max: context.rooms_max,
            others: Box::new(move |control| {
                if let Some(watch) = other.upgrade() {
                    watch.control(control);
                }
            }),
            moved: Box::new(move |socket, room, joined| {
                returns::moved(&returning, socket, room, joined);
            }),
        });
        watch
    }

    /// Ends sockets in time; never returns.
    pub async fn run(&self) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut touched = (self.epochs(), Instant::now());
        loop {
            timer.tick().await;
            if now() >= self.earliest.get() {
                self.end_expired(now());
            }
            if self.must_recheck.take() {
                self.recheck().await;
            }
            let now = (self.epochs(), Instant::now());
            let is_due = now.1.duration_since(touched.1) >= self.context.returns.touch_every();
            // What was written in an epoch that has ended counts no more.
            if self.context.returns.is_on() && (is_due || now.0 != touched.0) {
                self.touch().await;
                touched = now;
            }
        }
    }

    fn epochs(&self) -> Vec<(ShardId, Epoch)> {
        let timeline = &self.context.timeline;
        let shards = timeline.shards().into_iter();
        shards
            .map(|(shard, _)| (shard, timeline.epoch(shard)))
            .collect()
    }

    async fn touch(&self) {
        let sockets = self.sockets();
        let kept: Vec<_> = sockets.filter(|(_, session)| session.is_kept()).collect();
        for chunk in kept.chunks(TOUCHED_AT_ONCE) {
            returns::touch(&self.context, chunk.to_vec()).await;
            tokio::task::yield_now().await;
        }
    }

    /// The client of a socket has come back elsewhere.
    pub(super) fn take_over(&self, socket: &SocketId, generation: u64) {
        let member = self.hub.member(NAMESPACE, socket.as_str());
        let found = member.and_then(|member| Socket::of(&member));
        let old = found.filter(|socket| {
            let session = socket.data::<Session>();
            session.is_some_and(|session| session.is_before(generation))
        });
        if let Some(old) = old {
            returns::take_over(&old);
            return;
        }
        let mut superseded = self.superseded.borrow_mut();
        if superseded.len() == SUPERSEDED_MAX {
            superseded.pop_front();
        }
        superseded.push_back((socket.clone(), generation));
    }

    /// Whether somebody took a socket over while it was entering.
    pub(super) fn is_superseded(&self, socket: &Socket) -> bool {
        let superseded = self.superseded.borrow();
        let session = socket.data::<Session>();
        session.is_some_and(|session| {
            let mut later = superseded.iter().filter(|(id, _)| id == socket.id());
            later.any(|(_, generation)| session.is_before(*generation))
        })
    }

    /// A socket that has to end at this time is about to enter.
    pub(super) fn note(&self, ends_at: Timestamp) {
        self.earliest.set(self.earliest.get().min(ends_at));
    }

    fn control(&self, control: &Control) {
        match control {
            Control::Forget { cache, key } => self.context.directory.forget(cache, key),
            Control::Recheck => {
                self.context.directory.forget_all();
                self.must_recheck.set(true);
            }
            Control::TakeOver { socket, generation } => self.take_over(socket, *generation),
            _ => {}
        }
    }

    fn sockets(&self) -> impl Iterator<Item = (Socket, Rc<Session>)> {
        let members = self.hub.members(NAMESPACE).into_iter();
        members.filter_map(|member| {
            let socket = Socket::of(&member)?;
            let session = socket.data::<Session>()?;
            Some((socket, session))
        })
    }

    fn end_expired(&self, now: Timestamp) {
        let mut earliest = Timestamp::from_millis(i64::MAX);
        for (socket, session) in self.sockets() {
            if session.identity.is_expired(now) {
                socket.close(CloseReason::ForcedServerClose);
            } else {
                earliest = earliest.min(session.identity.expires_at());
            }
        }
        self.earliest.set(earliest);
    }

    async fn recheck(&self) {
        let sockets: Vec<_> = self.sockets().collect();
        tracing::warn!(
            sockets = sockets.len(),
            "control words were lost; asking about every login"
        );
        for (index, (socket, session)) in sockets.into_iter().enumerate() {
            let checked = self.context.accounts.check(&session.identity, now()).await;
            end_if_refused(&socket, checked);
            if index % CHECKS_PER_TURN == CHECKS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Ends a socket whose login is over; that nobody can tell is no reason.
pub(super) fn end_if_refused(socket: &Socket, checked: Result<(), crate::types::Problem>) {
    if checked.is_err_and(|problem| problem.code.kind() == crate::types::Kind::Client) {
        socket.close(CloseReason::ForcedServerClose);
    }
}
