//! `connection:request`, `connection:accept`, `connection:reject`: the store first, then the other user is
//! told by a durable event, then the answer. A retry finds what is stored and tells the same event. The
//! acting user's other devices are told too, as far as they are here: what they miss they find in the list.

use std::sync::Arc;

use serde::Serialize;

use super::change::raw;
use super::fields::Fields;
use super::presence::allowed;
use super::{Context, Session, answer, now, reply};
use crate::auth::Identity;
use crate::cluster::bus::Ephemeral;
use crate::delivery::fanout::user_room;
use crate::delivery::publish::Fact;
use crate::events::{derived_id, random_id};
use crate::server::Namespace;
use crate::store::{Connection, Status};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, Timestamp, UserId};

/// A connection as clients are told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    request_id: String,
    from_user_id: UserId,
    to_user_id: UserId,
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
    #[serde(flatten)]
    connection: Shown,
}

/// The data of the events.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    request_id: &'a str,
    from_user_id: &'a UserId,
    to_user_id: &'a UserId,
}

/// Ids of requests are as long as those of events; longer ones are none.
const ID_BYTES_MAX: usize = 64;

impl From<Connection> for Shown {
    fn from(connection: Connection) -> Self {
        Self {
            request_id: connection.id,
            from_user_id: connection.from,
            to_user_id: connection.to,
            status: word(connection.status),
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

/// The word for a status.
#[must_use]
pub const fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Accepted => "accepted",
        Status::Rejected => "rejected",
    }
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    for event in [
        "connection:request",
        "connection:accept",
        "connection:reject",
    ] {
        let context = Arc::clone(context);
        let received = metrics::EVENTS_RECEIVED.of([event]);
        namespace.on(event, move |socket, given| {
            received.add(1);
            let Some(session) = socket.data::<Session>() else {
                return;
            };
            let fields = match Fields::of(&given) {
                Ok(fields) => fields,
                Err(problem) => return reply::refuse(given, &problem),
            };
            let context = Arc::clone(&context);
            answer(socket, given, async move {
                let connection = act(&context, &session.identity, event, &fields).await?;
                Ok(Done {
                    ok: true,
                    connection: connection.into(),
                })
            });
        });
    }
}

async fn act(
    context: &Context,
    identity: &Identity,
    event: &str,
    fields: &Fields,
) -> Result<Connection, Problem> {
    if event == "connection:request" {
        let to = fields.id("toUserId", UserId::parse)?;
        allowed(context, identity, event).await?;
        return request(context, identity.user(), to).await;
    }
    let id = fields.id("requestId", |text| Ok(text.to_owned()))?;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(Problem::field(
            "requestId",
            "requestId is no id of a request",
        ));
    }
    allowed(context, identity, event).await?;
    let status = if event == "connection:accept" {
        Status::Accepted
    } else {
        Status::Rejected
    };
    answer_request(context, identity.user(), &id, status).await
}

/// Asks a user for a connection. One that is asked for already is the answer, and told once more.
///
/// # Errors
/// `invalid` for oneself, `not_found` for nobody, `conflict` when they are connected, or the other one has
/// asked.
pub async fn request(context: &Context, from: &UserId, to: UserId) -> Result<Connection, Problem> {
    if *from == to {
        let message = "a connection is with somebody else";
        return Err(Problem::field("toUserId", message));
    }
    // Where accounts are kept elsewhere, nobody here knows who exists.
    let has_accounts = context.directory.user(from).await?.value.is_some();
    if has_accounts && context.directory.user(&to).await?.value.is_none() {
        return Err(Problem {
            code: Code::NotFound,
            ..Problem::field("toUserId", "there is no such user")
        });
    }
    let id = random_id(rand::random());
    let store = &context.store;
    let connection = store
        .request_connection(id.as_str(), from, &to, now())
        .await?;
    match connection.status {
        Status::Accepted => {
            let message = "you are connected with this user already";
            return Err(Problem::new(Code::Conflict, message));
        }
        Status::Pending if connection.from != *from => {
            let message = format!(
                "this user has asked you; accept request {} instead",
                connection.id
            );
            return Err(Problem::new(Code::Conflict, message));
        }
        Status::Pending | Status::Rejected => {}
    }
    tell(context, from, &connection).await?;
    Ok(connection)
}

/// Accepts or rejects a request, by who was asked. The same answer again is no mistake.
///
/// # Errors
/// `not_found`: no such request to this user, or it was answered otherwise.
pub async fn answer_request(
    context: &Context,
    by: &UserId,
    id: &str,
    status: Status,
) -> Result<Connection, Problem> {
    let store = &context.store;
    let connection = store.answer_connection(id, by, status, now()).await?;
    context
        .directory
        .connection_changed(&connection.from, &connection.to);
    tell(context, by, &connection).await?;
    Ok(connection)
}

/// Tells what is stored; told twice it is the same event.
async fn tell(context: &Context, by: &UserId, connection: &Connection) -> Result<(), Problem> {
    let kind = match connection.status {
        Status::Pending => "CONNECTION_REQUEST",
        Status::Accepted => "CONNECTION_ACCEPTED",
        Status::Rejected => "CONNECTION_REJECTED",
    };
    let data = raw(&Data {
        request_id: &connection.id,
        from_user_id: &connection.from,
        to_user_id: &connection.to,
    })?;
    let fact = Fact {
        kind,
        user: by.clone(),
        conversation: None,
        data,
        id: Some(derived_id(&["connection", &connection.id, kind])),
        at: connection.updated_at,
    };
    let own = own_devices(context, by, &fact);
    let (_, publishing) = context.publisher.publish_type(&context.vocabulary, fact)?;
    publishing.await?;
    if let Some(event) = own {
        let dropped = context.bus.publish_ephemeral(Arc::new(event));
        metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
    }
    Ok(())
}

/// The same for the room of who acts; the event itself goes to the other one's.
fn own_devices(context: &Context, by: &UserId, fact: &Fact<'_>) -> Option<Ephemeral> {
    let row = context.vocabulary.current().by_type(fact.kind).cloned()?;
    Some(Ephemeral {
        room: user_room(by)?,
        event: row.server.clone()?,
        data: fact.data.clone(),
        except: None,
    })
}
