//! What a worker does about its sockets beside their events.
//!
//! A socket ends with what let it in. When a token's time is over, its sockets are closed: the
//! worker remembers the earliest end among its sockets and looks at them all once it has come. When
//! control words were lost, every socket's login is asked for again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, Session, now};
use crate::cluster::control::Control;
use crate::delivery::fanout::{Duties, Fanout};
use crate::rooms::{Hub, NamespaceId};
use crate::server::{Local, Socket};
use crate::types::{CloseReason, Timestamp};

/// How late a socket may end after its token.
const EVERY: Duration = Duration::from_secs(1);
/// Sockets asked about before the worker's other tasks get a turn.
const CHECKS_PER_TURN: usize = 64;
/// Rooms live in the main namespace.
const NAMESPACE: NamespaceId = NamespaceId(0);

/// Looks after the sockets of one worker.
pub struct Watch {
    context: Arc<Context>,
    hub: Rc<Hub>,
    /// When the first token of its sockets ends, or earlier.
    earliest: Cell<Timestamp>,
    must_recheck: Cell<bool>,
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
        });
        local.provide(Rc::clone(&watch));
        let (timeline, other) = (context.timeline.clone(), Rc::downgrade(&watch));
        fanout.on_control(Duties {
            shard_of: Box::new(move |room| timeline.shard_of(room)),
            rooms_max: context.rooms_max,
            others: Box::new(move |control| {
                if let Some(watch) = other.upgrade() {
                    watch.control(control);
                }
            }),
        });
        watch
    }

    /// Ends sockets in time; never returns.
    pub async fn run(&self) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if now() >= self.earliest.get() {
                self.end_expired(now());
            }
            if self.must_recheck.take() {
                self.recheck().await;
            }
        }
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
