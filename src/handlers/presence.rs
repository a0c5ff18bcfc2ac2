//! `register`, `presence:query`, `presence:subscribe`, `presence:unsubscribe`.
//!
//! Who subscribes to users is in their rooms `presence:{id}` first and told how they stand then, so no
//! change falls between. Only users who are visible can be watched: the others are named in the answer. In
//! conversations of more than [`CROWD`] members it is a number, and batches of changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::fields::Fields;
use super::{Context, Session, answer, conversation_room, now, reply, returns};
use crate::auth::Identity;
use crate::cluster::presence::Departure;
use crate::delivery::crowd::Crowd;
use crate::delivery::fanout::is_watched;
use crate::server::{Event, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{CloseReason, Code, ConversationId, Problem, RoomName, Timestamp, UserId};

/// How a user stands, as clients are told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Who.
    pub user_id: UserId,
    /// Whether the user is online.
    pub online: bool,
    /// When last seen, of who is offline and was here before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// That this may not hold any more: who knows does not answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// What a socket watches beside users.
#[derive(Default)]
pub(super) struct Watching {
    crowds: RefCell<HashMap<ConversationId, Arc<Crowd>>>,
}

#[derive(Serialize)]
struct One {
    ok: bool,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize)]
struct Several {
    ok: bool,
    presence: Vec<State>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<UserId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Conversation {
    ok: bool,
    conversation_id: ConversationId,
    online: usize,
    /// Of each member, where they are not too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<Vec<State>>,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// Users named in one event, and users that one socket watches.
const USERS_MAX: usize = 500;
/// Conversations with more members are told as a number.
const CROWD: usize = 100;
/// Such conversations that one socket watches.
const CROWDS_MAX: usize = 20;
/// Questions to the directory at once.
const ASKED_AT_ONCE: usize = 16;

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    on(
        namespace,
        context,
        "register",
        |context, socket, session, event| {
            let named = event.raw(0);
            async move {
                let named =
                    named.ok_or_else(|| Problem::field("userId", "the user id is missing"))?;
                let state = refresh(&context, &socket, &session, named.get())?;
                socket.emit("presence:state", crate::server::Json(&state));
                Ok(One { ok: true, state })
            }
        },
    );
    on(
        namespace,
        context,
        "presence:query",
        |context, socket, session, event| {
            let user = Fields::of(event).and_then(|fields| fields.id("userId", UserId::parse));
            async move {
                let state = query(&context, &session.identity, user?).await?;
                socket.emit("presence:state", crate::server::Json(&state));
                Ok(One { ok: true, state })
            }
        },
    );
    on_subscribe(namespace, context);
    on(
        namespace,
        context,
        "presence:unsubscribe",
        |context, socket, session, event| {
            let done = Fields::of(event)
                .and_then(|fields| unsubscribe(&context, (&socket, &session), &fields));
            async move { done.map(|()| Done { ok: true }) }
        },
    );
}

fn on_subscribe(namespace: &mut Namespace, context: &Arc<Context>) {
    let context = Arc::clone(context);
    let received = metrics::EVENTS_RECEIVED.of(["presence:subscribe"]);
    namespace.on("presence:subscribe", move |socket, event| {
        received.add(1);
        let Some(session) = socket.data::<Session>() else {
            return;
        };
        let (context, watcher) = (Arc::clone(&context), (socket.clone(), session));
        match Fields::of(&event) {
            Err(problem) => reply::refuse(event, &problem),
            Ok(fields) if fields.has("conversationId") => answer(socket, event, async move {
                let id = fields.id("conversationId", ConversationId::parse)?;
                allowed(&context, &watcher.1.identity, "presence:subscribe").await?;
                subscribe_conversation(&context, (&watcher.0, &watcher.1), id).await
            }),
            Ok(fields) => answer(socket, event, async move {
                let users = fields.ids("userIds", USERS_MAX, UserId::parse)?;
                allowed(&context, &watcher.1.identity, "presence:subscribe").await?;
                let (visible, refused) = visible(&context, &watcher.1.identity, users).await?;
                let presence = watch(&context, (&watcher.0, &watcher.1), visible).await?;
                Ok(Several {
                    ok: true,
                    presence,
                    refused,
                })
            }),
        }
    });
}

/// An event whose answer is found without order.
fn on<T: Serialize + 'static, Fut>(
    namespace: &mut Namespace,
    context: &Arc<Context>,
    name: &'static str,
    work: impl Fn(Arc<Context>, Socket, Rc<Session>, &Event) -> Fut + Send + Sync + 'static,
) where
    Fut: Future<Output = Result<T, Problem>> + 'static,
{
    let context = Arc::clone(context);
    let received = metrics::EVENTS_RECEIVED.of([name]);
    namespace.on(name, move |socket, event| {
        received.add(1);
        let Some(session) = socket.data::<Session>() else {
            return;
        };
        let work = work(
            Arc::clone(&context),
            socket.clone(),
            Rc::clone(&session),
            &event,
        );
        let context = Arc::clone(&context);
        answer(socket, event, async move {
            allowed(&context, &session.identity, name).await?;
            work.await
        });
    });
}

/// Whether a token is still good and its user has not asked too often.
pub(super) async fn allowed(
    context: &Context,
    identity: &Identity,
    event: &str,
) -> Result<(), Problem> {
    if identity.is_expired(now()) {
        let message = "the token has expired; connect with a new one";
        return Err(Problem::new(Code::Unauthenticated, message));
    }
    let key = format!("user {} {event}", identity.user());
    let limits = &context.limits;
    let decision = limits.take("other", context.rules.other, &key, now()).await;
    decision.check("other")
}

/// A socket has entered: its user is here.
pub(super) fn came(context: &Context, socket: &Socket) {
    if let Some(session) = socket.data::<Session>() {
        let presence = &context.presence;
        presence.came(session.identity.user(), socket.id(), now());
    }
}

/// A socket has ended.
pub(super) fn went(context: &Context, socket: &Socket, reason: CloseReason) {
    if let Some(session) = socket.data::<Session>() {
        let how = departure(reason);
        let presence = &context.presence;
        presence.went(session.identity.user(), socket.id(), how, now());
    }
}

/// Left on purpose, or may be back at once. A page that is closed looks like a link that broke.
const fn departure(reason: CloseReason) -> Departure {
    match reason {
        CloseReason::ClientNamespaceDisconnect
        | CloseReason::ServerNamespaceDisconnect
        | CloseReason::ForcedServerClose
        | CloseReason::SessionRevoked => Departure::Left,
        CloseReason::ServerShuttingDown
        | CloseReason::Rebalanced
        | CloseReason::PingTimeout
        | CloseReason::TransportClose
        | CloseReason::TransportError
        | CloseReason::ParseError
        | CloseReason::ForcedClose
        | CloseReason::SlowConsumer
        | CloseReason::ConnectTimeout
        | CloseReason::TakenOver
        | CloseReason::Interrupted
        | CloseReason::Unavailable => Departure::Lost,
    }
}

/// `register USER_ID`, also as `{userId}`.
fn refresh(
    context: &Context,
    socket: &Socket,
    session: &Session,
    named: &str,
) -> Result<State, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Named {
        Bare(String),
        Member {
            #[serde(rename = "userId")]
            user_id: String,
        },
    }
    let named: Named = serde_json::from_str(named)
        .map_err(|_| Problem::field("userId", "give the user's id, as a text"))?;
    let (Named::Bare(id) | Named::Member { user_id: id }) = named;
    let user = UserId::parse(&id).map_err(|error| Problem::field("userId", error.to_string()))?;
    if user != *session.identity.user() {
        let message = "this is not the user whom the token names";
        return Err(Problem {
            code: Code::Forbidden,
            ..Problem::field("userId", message)
        });
    }
    if socket.is_connected() {
        context.presence.came(&user, socket.id(), now());
    }
    Ok(State {
        user_id: user,
        online: true,
        last_seen: None,
        stale: false,
    })
}

async fn query(context: &Context, identity: &Identity, user: UserId) -> Result<State, Problem> {
    let (mut states, _) = states(context, identity, vec![user]).await?;
    states.pop().ok_or_else(|| {
        let message =
            "you can see only who is connected with you, or in a conversation or course with you";
        Problem {
            code: Code::Forbidden,
            ..Problem::field("userId", message)
        }
    })
}

/// How those of these users stand whom an identity may see, in the order asked, and the others.
///
/// # Errors
/// When the store does not answer.
pub async fn states(
    context: &Context,
    identity: &Identity,
    users: Vec<UserId>,
) -> Result<(Vec<State>, Vec<UserId>), Problem> {
    let (visible, refused) = visible(context, identity, users).await?;
    Ok((states_of(context, visible).await?, refused))
}

async fn visible(
    context: &Context,
    identity: &Identity,
    users: Vec<UserId>,
) -> Result<(Vec<UserId>, Vec<UserId>), Problem> {
    if context.is_presence_for_all {
        return Ok((users, Vec::new()));
    }
    let viewer = identity.user();
    let asked = stream::iter(users).map(async |user| {
        let is_visible = context.directory.is_visible(viewer, &user).await?;
        Ok::<_, Problem>((user, is_visible))
    });
    let told: Vec<_> = asked.buffered(ASKED_AT_ONCE).try_collect().await?;
    let (visible, refused): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|(_, is_visible)| *is_visible);
    let users = |told: Vec<(UserId, bool)>| told.into_iter().map(|(user, _)| user).collect();
    Ok((users(visible), users(refused)))
}

async fn states_of(context: &Context, users: Vec<UserId>) -> Result<Vec<State>, Problem> {
    let here = context.presence.states(&users).await;
    let is_unknown =
        |state: &&crate::cluster::presence::State| !state.is_online && state.last_seen.is_none();
    let unknown: Vec<UserId> = here
        .iter()
        .filter(is_unknown)
        .map(|state| state.user.clone())
        .collect();
    let seen = context.directory.last_seen(&unknown).await?;
    let stored: HashMap<UserId, Timestamp> = unknown
        .into_iter()
        .zip(seen)
        .filter_map(|(user, at)| Some((user, at?)))
        .collect();
    let shown = here.into_iter().map(|state| State {
        last_seen: state.last_seen.or_else(|| stored.get(&state.user).copied()),
        user_id: state.user,
        online: state.is_online,
        stale: state.is_stale,
    });
    Ok(shown.collect())
}

/// Watches users as far as they are visible.
pub(super) async fn subscribe_users(
    context: &Context,
    (socket, session): (&Socket, &Session),
    users: Vec<UserId>,
) -> Result<Vec<State>, Problem> {
    let (visible, _) = visible(context, &session.identity, users).await?;
    watch(context, (socket, session), visible).await
}

/// Watches a conversation; how many of it are online.
pub(super) async fn online(
    context: &Context,
    watcher: (&Socket, &Session),
    id: ConversationId,
) -> Result<usize, Problem> {
    Ok(subscribe_conversation(context, watcher, id).await?.online)
}

/// Puts a socket into users' rooms, then looks how they stand.
async fn watch(
    context: &Context,
    (socket, session): (&Socket, &Session),
    users: Vec<UserId>,
) -> Result<Vec<State>, Problem> {
    let rooms: Vec<RoomName> = users.iter().filter_map(room).collect();
    let member = socket.member();
    let new = rooms
        .iter()
        .filter(|room| !member.is_in(room.as_str()))
        .count();
    if member.count_rooms(is_watched) + new > USERS_MAX {
        let message = format!("a socket may watch {USERS_MAX} users; unsubscribe from some first");
        return Err(Problem::new(Code::Conflict, message));
    }
    for room in &rooms {
        session.fanout.listen(socket, room);
    }
    returns::watched(context, (socket, session), &rooms).await?;
    states_of(context, users).await
}

async fn subscribe_conversation(
    context: &Context,
    (socket, session): (&Socket, &Session),
    id: ConversationId,
) -> Result<Conversation, Problem> {
    let room = conversation_room(id.as_str())?;
    context.directory.may_join(&session.identity, &room).await?;
    let members = context.store.members(&id, None, CROWD + 1).await?;
    if members.len() <= CROWD {
        let users = members.into_iter().map(|member| member.user).collect();
        let presence = watch(context, (socket, session), users).await?;
        return Ok(Conversation {
            ok: true,
            conversation_id: id,
            online: presence.iter().filter(|state| state.online).count(),
            presence: Some(presence),
        });
    }
    let watched = session.watching.crowds.borrow().len();
    if watched >= CROWDS_MAX && !session.watching.crowds.borrow().contains_key(&id) {
        let message = format!("a socket may watch {CROWDS_MAX} large conversations");
        return Err(Problem::new(Code::Conflict, message));
    }
    let crowd = context.crowds.watch(&id).await?;
    session.fanout.listen(socket, crowd.room());
    let room = [crowd.room().clone()];
    returns::watched(context, (socket, session), &room).await?;
    let online = crowd.online();
    session
        .watching
        .crowds
        .borrow_mut()
        .insert(id.clone(), crowd);
    Ok(Conversation {
        ok: true,
        conversation_id: id,
        online,
        presence: None,
    })
}

/// Ends what was subscribed to; what was not is no mistake.
fn unsubscribe(
    context: &Context,
    (socket, session): (&Socket, &Session),
    fields: &Fields,
) -> Result<(), Problem> {
    if fields.has("conversationId") {
        let id = fields.id("conversationId", ConversationId::parse)?;
        let crowd = session.watching.crowds.borrow_mut().remove(&id);
        if let Some(crowd) = crowd {
            socket.leave(crowd.room().as_str());
            returns::unwatched(context, socket, vec![crowd.room().clone()]);
        }
        return Ok(());
    }
    let users = fields.ids("userIds", USERS_MAX, UserId::parse)?;
    let rooms: Vec<RoomName> = users.iter().filter_map(room).collect();
    for room in &rooms {
        socket.leave(room.as_str());
    }
    returns::unwatched(context, socket, rooms);
    Ok(())
}

/// Where a user's comings and goings are told.
pub(super) fn room(user: &UserId) -> Option<RoomName> {
    // A prefix and the longest user id are a valid name.
    RoomName::parse(&format!("presence:{user}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_left_on_purpose_is_offline_at_once() {
        let left: Vec<_> = CloseReason::ALL
            .into_iter()
            .filter(|reason| departure(*reason) == Departure::Left)
            .map(CloseReason::text)
            .collect();
        assert_eq!(
            left,
            [
                "client namespace disconnect",
                "server namespace disconnect",
                "forced server close",
                "session revoked",
            ]
        );
    }

    #[test]
    fn the_longest_user_id_has_a_room() {
        let user = UserId::parse(&"x".repeat(128)).unwrap();
        assert!(room(&user).is_some_and(|room| is_watched(&room)));
    }
}
