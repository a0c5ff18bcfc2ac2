//! What the product does with a client's events.
//!
//! [`register`] fills the main namespace: who may enter, the events that a row of the catalogue
//! describes (publish a durable event, relay an ephemeral one; looked up when one arrives, so that a
//! reloaded row counts at once), and those a row cannot say: join and leave, edits by the owner,
//! typing that expires. Every answer to a mistake is typed; the translation into acks is here and
//! nowhere else.

mod announce;
mod chain;
pub mod change;
mod check;
mod connect;
pub mod connection;
pub mod conversation;
mod fact;
mod fields;
pub mod group;
mod join;
mod leave;
mod lookup;
pub mod members;
mod message;
mod misfit;
pub mod presence;
pub mod private;
mod rate;
pub mod reaction;
pub mod read_cursor;
mod reply;
pub mod returns;
mod typing;
mod watch;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::accounts::Accounts;
use crate::auth::{Authenticator, Identity};
use crate::cluster::presence::Presence;
use crate::delivery::crowd::Crowds;
use crate::delivery::fanout::Fanout;
use crate::delivery::history::History;
use crate::delivery::publish::Publisher;
use crate::directory::Directory;
use crate::events::{Durability, Vocabulary};
use crate::lifecycle::health::What;
use crate::lifecycle::{Admission, Health};
use crate::limits::{Limits, Meter, Rules};
use crate::server::{Event, Json, Namespace, Socket};
use crate::store::Store;
use crate::telemetry::{Count, metrics};
use crate::timeline::Timeline;
use crate::types::{Problem, RoomName, Timestamp};

pub(crate) use chain::{Chain, Turn};
pub use check::{Sender, envelope, formed};
pub use fact::Fact;
pub use join::conversation as conversation_room;
pub use message::Accepted;
pub use reply::{problem_data, read};
pub use watch::Watch;

/// What handlers need; one for each node, shared by its workers.
#[derive(Clone)]
pub struct Context {
    /// Who a token names.
    pub authenticator: Authenticator,
    /// What events mean.
    pub vocabulary: Vocabulary,
    /// Into the log.
    pub publisher: Publisher,
    /// Rooms' order.
    pub timeline: Timeline,
    /// Between workers and nodes.
    pub bus: crate::cluster::bus::Bus,
    /// Rooms' past.
    pub history: History,
    /// Rooms that one socket may be in.
    pub rooms_max: usize,
    /// What is known for good.
    pub store: Store,
    /// The same, cached.
    pub directory: Directory,
    /// Logins.
    pub accounts: Accounts,
    /// How often who may do what.
    pub limits: Limits,
    /// The rules that are not the catalogue's.
    pub rules: Rules,
    /// What works.
    pub health: Health,
    /// Whose turn it is to be let in.
    pub admission: Admission,
    /// Who is here.
    pub presence: Presence,
    /// Clients that come back.
    pub returns: returns::Returns,
    /// Large conversations whose presence somebody watches.
    pub crowds: Crowds,
    /// Whether everybody may see who is online.
    pub is_presence_for_all: bool,
    /// Whether users may put themselves into courses.
    pub is_self_enrolment: bool,
    /// How long a typing notice lasts without another.
    pub typing_for: std::time::Duration,
    /// One writer at a time for a message's reactions.
    pub turns: reaction::Turns,
    /// Receipts that were told of a moment ago.
    pub receipts: read_cursor::Receipts,
}

impl Context {
    /// Whether a room's shard is known to be away: nobody can be put into the room, and nothing
    /// comes to it.
    fn is_away(&self, room: &RoomName) -> bool {
        let shard = self.timeline.shard_of(room);
        let name = self.timeline.shard_name(shard);
        name.is_some_and(|name| self.health.is_down(What::Rooms, name))
    }
}

/// What a connected socket carries.
pub(crate) struct Session {
    identity: Identity,
    fanout: Rc<Fanout>,
    typing: typing::Typing,
    order: Rc<Chain>,
    /// Events of whatever kind.
    meter: Cell<Option<Meter>>,
    watching: presence::Watching,
    /// What is kept of the socket, if its client can come back to it.
    kept: OnceCell<returns::Kept>,
    /// What the socket is to be sent first.
    replay: RefCell<Option<returns::Replay>>,
    /// Why its client did not get back the socket that it asked for.
    not_resumed: Cell<Option<&'static str>>,
}

impl Session {
    /// A socket that nothing has come from yet.
    pub(crate) fn new(identity: Identity, fanout: Rc<Fanout>) -> Self {
        Self {
            identity,
            fanout,
            typing: typing::Typing::default(),
            order: Rc::default(),
            meter: Cell::new(None),
            watching: presence::Watching::default(),
            kept: OnceCell::new(),
            replay: RefCell::default(),
            not_resumed: Cell::new(None),
        }
    }

    /// Whether its client can come back to it.
    fn is_kept(&self) -> bool {
        self.kept.get().is_some_and(returns::Kept::is_written)
    }

    /// Whether it is older than what is kept of it in this generation.
    fn is_before(&self, generation: u64) -> bool {
        let kept = self.kept.get();
        kept.is_some_and(|kept| kept.generation < generation)
    }

    /// The session's user as a sender of events.
    fn sender(&self, socket: &Socket) -> Sender<'_> {
        Sender {
            identity: &self.identity,
            address: Some(socket.handshake().address),
        }
    }
}

/// Fills the main namespace.
pub fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    if let Some(rule) = context.rules.events_per_socket {
        namespace.gate(move |socket, event| rate::admit(rule, socket, event));
    }
    connect::register(namespace, context);
    join::register(namespace, context);
    leave::register(namespace, context);
    change::register(namespace, context);
    reaction::register(namespace, context);
    read_cursor::register(namespace, context);
    private::register(namespace, context);
    presence::register(namespace, context);
    connection::register(namespace, context);
    let (context, received) = (Arc::clone(context), Received::new());
    namespace.on_any(move |socket, event| {
        received.of(event.name()).add(1);
        by_row(&context, socket, event);
    });
}

/// An event without code of its own: what its row says is all there is to it.
fn by_row(context: &Arc<Context>, socket: &Socket, event: Event) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    let row = context.row(event.name()).and_then(|row| {
        // Its code answers to the name that it has in the program, whatever a file calls it.
        let is_known = !row.is_coded;
        is_known
            .then_some(row)
            .ok_or_else(|| check::unknown(event.name()))
    });
    match row {
        Ok(row) => match row.durability {
            Durability::Durable => message::publish(context, &row, (socket, &session), event),
            Durability::Ephemeral => typing::relay(context, &row, (socket, &session), event),
        },
        Err(problem) => reply::refuse(event, &problem),
    }
}

/// Counters of the events that come with the program. Names that an operator adds are not labels:
/// clients and files must not make time series.
struct Received {
    builtin: HashMap<Arc<str>, Count>,
    others: Count,
}

impl Received {
    fn new() -> Self {
        let vocabulary = Vocabulary::builtin();
        let current = vocabulary.current();
        let clients = current.rows().iter().filter_map(|row| row.client.clone());
        Self {
            builtin: clients
                .map(|name| (Arc::clone(&name), metrics::EVENTS_RECEIVED.of([&name])))
                .collect(),
            others: metrics::EVENTS_RECEIVED.of(["other"]),
        }
    }

    fn of(&self, event: &str) -> &Count {
        self.builtin.get(event).unwrap_or(&self.others)
    }
}

/// Does an event's work when its turn has come, after what the socket sent before, and answers the
/// event with what it gives. The work passes its turn on once what must be in order is done: when the
/// event has entered the log's queue, before it is waited for.
pub(crate) fn in_order<T, Fut>(
    (socket, session): (&Socket, &Rc<Session>),
    event: Event,
    work: impl FnOnce(Turn) -> Fut + 'static,
) where
    T: Serialize,
    Fut: Future<Output = Result<T, Problem>> + 'static,
{
    let turn = session.order.turn();
    answer(socket, event, async move {
        turn.come().await;
        work(turn).await
    });
}

/// Answers an event with what its work gives, in whatever order.
pub(crate) fn answer<T: Serialize>(
    socket: &Socket,
    mut event: Event,
    work: impl Future<Output = Result<T, Problem>> + 'static,
) {
    let ack = event.take_ack();
    socket.spawn(async move {
        let done = work.await;
        // An event without an ack holds its own place in flight until here.
        drop(event);
        match done {
            Ok(answer) => {
                if let Some(ack) = ack {
                    ack.send(Json(answer));
                }
            }
            Err(problem) => reply::refuse_ack(ack, &problem),
        }
    });
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A client's own text, cut for a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
