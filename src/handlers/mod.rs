//! What the product does with a client's events.
//!
//! [`register`] fills the main namespace: who may enter, the events that a row of the catalogue
//! describes (publish a durable event, relay an ephemeral one), and those a row cannot say: join and
//! leave, typing that expires. Every answer to a mistake is typed; the translation into acks is here
//! and nowhere else.

mod change;
mod connect;
mod connection;
mod join;
mod leave;
mod message;
mod presence;
mod private;
mod reaction;
mod read_cursor;
mod reply;
mod typing;

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::value::RawValue;

use crate::accounts::Accounts;
use crate::auth::{Authenticator, Identity, permissions};
use crate::cluster::presence::Presence;
use crate::delivery::fanout::Fanout;
use crate::delivery::history::History;
use crate::delivery::publish::Publisher;
use crate::directory::Directory;
use crate::events::{Author, Catalogue, Durability, Envelope, Row, form};
use crate::limits::{Limits, Rules};
use crate::server::Namespace;
use crate::store::Store;
use crate::telemetry::metrics;
use crate::timeline::Timeline;
use crate::types::{Code, Problem, RoomName, Timestamp};

pub use join::conversation as conversation_room;
pub use reply::{problem_data, read};

/// What handlers need; one for each node, shared by its workers.
#[derive(Clone)]
pub struct Context {
    /// Who a token names.
    pub authenticator: Authenticator,
    /// What events mean.
    pub catalogue: Arc<Catalogue>,
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
    /// Who is here.
    pub presence: Presence,
    /// How long a typing notice lasts without another.
    pub typing_for: std::time::Duration,
}

/// What a connected socket carries.
pub(crate) struct Session {
    identity: Identity,
    fanout: Rc<Fanout>,
    typing: typing::Typing,
}

/// Fills the main namespace.
pub fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    connect::register(namespace, context);
    join::register(namespace, context);
    leave::register(namespace);
    change::register(namespace, context);
    reaction::register(namespace, context);
    read_cursor::register(namespace, context);
    private::register(namespace, context);
    presence::register(namespace, context);
    connection::register(namespace, context);
    for row in context.catalogue.rows() {
        let Some(event) = &row.client else { continue };
        match row.durability {
            Durability::Durable => message::register(namespace, context, event),
            Durability::Ephemeral => typing::register(namespace, context, event),
        }
    }
    let others = metrics::EVENTS_RECEIVED.of(["other"]);
    namespace.on_any(move |_, event| {
        others.add(1);
        let message = format!("there is no event {:?}", shorten(event.name()));
        reply::refuse(event, &Problem::new(Code::NotFound, message));
    });
}

/// An event as its row wants it, from a user who may send it.
///
/// # Errors
/// What is wrong with the data, or that this user may not send there.
pub fn envelope(
    row: &Row,
    identity: &Identity,
    data: Box<RawValue>,
) -> Result<(Envelope, RoomName), Problem> {
    if identity.is_expired(now()) {
        let message = "the token has expired; connect with a new one";
        return Err(Problem::new(Code::Unauthenticated, message));
    }
    let author = Author {
        user: identity.user().clone(),
        at: now(),
        random: rand::random(),
    };
    let (envelope, room) = form(row, author, data)?;
    permissions::may_send(identity, &room)?;
    Ok((envelope, room))
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A client's own text, cut for a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
