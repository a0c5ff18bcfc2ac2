//! REST: history, sending, edits, deletions, reactions.

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::delivery::history::Shown;
use crate::handlers::reaction::{self, Reacting};
use crate::handlers::{Accepted, Sender, change, conversation_room, private};
use crate::types::{Code, Epoch, EventId, Position, Problem, UserId};

/// A page of history.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct History<'a> {
    conversation_id: &'a str,
    epoch: Epoch,
    messages: Vec<Box<RawValue>>,
    /// Position to give as `after` for what came later.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Position to give as `before` for what came earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    /// Whether nothing between these messages is missing.
    complete: bool,
    /// How far the archive is, when it is behind: what is missing is later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_up_to: Option<String>,
    /// That later changes may be missing: a store does not answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// What of a message's body decides where it goes; the rest is checked against the catalogue.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    channel_id: Option<String>,
    conversation_id: Option<String>,
    sender_id: Option<String>,
}

/// What was reacted to a message.
#[derive(Serialize)]
struct Reactions<'a> {
    reactions: Vec<Reaction<'a>>,
}

#[derive(Serialize)]
struct Reaction<'a> {
    emoji: &'a str,
    count: u64,
    users: &'a [UserId],
}

const LIMIT_DEFAULT: usize = 50;

impl Api {
    pub(super) async fn history(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::segment(id, "conversationId")?;
        let room = conversation_room(&id)?;
        let directory = &self.context.directory;
        directory.may_join(&identity, &room).await?;
        let query = request.uri().query();
        let position = |name| -> Result<Option<Position>, Problem> {
            let text = request::query(query, name)?;
            text.map(|text| {
                text.parse().map_err(|e: crate::types::PositionError| {
                    Problem::field(name, format!("{name} is {text:?}; {e}"))
                })
            })
            .transpose()
        };
        let (before, after) = (position("before")?, position("after")?);
        let limit = request::limit(query, LIMIT_DEFAULT, self.page_max)?;
        let history = &self.context.history;
        let page = match (before, after) {
            (Some(_), Some(_)) => {
                return Err(Problem::field("after", "give before or after, not both"));
            }
            (None, Some(after)) => history.after_page(&room, after, limit).await?,
            (before, None) => history.before(&room, before, limit).await?,
        };
        let messages = page.messages.into_iter().map(|Shown { data, .. }| data);
        let text = |position: Option<Position>| position.map(|position| position.to_string());
        Ok(problem::json(&History {
            conversation_id: &id,
            epoch: page.top.epoch,
            messages: messages.collect(),
            next: text(page.next),
            previous: text(page.previous),
            complete: page.complete,
            archived_up_to: text(page.archived_up_to),
            stale: page.is_stale,
        }))
    }

    pub(super) async fn send(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let mut object: Map<String, Value> = request::json(&body)?;
        let route: Route = request::json(&body)?;
        let identity = match &route.sender_id {
            Some(sender) => acting_for(&identity, sender)?,
            None => identity,
        };
        if let (None, Some(channel)) = (&route.conversation_id, route.channel_id) {
            object.insert("conversationId".to_owned(), channel.into());
        }
        for name in ["channelId", "senderId", "senderName"] {
            object.remove(name);
        }
        let sender = sender(&identity);
        if object.contains_key("toUserId") && !object.contains_key("conversationId") {
            let content = object.remove("content");
            object.insert("message".to_owned(), content.unwrap_or_default());
            let data = request::raw(&object)?;
            let queued = private::send(&self.context, sender, &data).await;
            let answer = queued.map_err(private::as_content)?.accepted().await?;
            return Ok(problem::created(&answer));
        }
        let row = self.context.row("message:send")?;
        let data = request::raw(&object)?;
        let (envelope, room) = self.context.accept(&row, sender, data).await?;
        let pending = self.context.publisher.publish(&row, &envelope)?;
        let answer = Accepted::when(pending, envelope.id, room).await?;
        Ok(problem::created(&answer))
    }

    pub(super) async fn message(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::message_id(id)?;
        let is_deletion = request.method() == Method::DELETE;
        let mut object = if is_deletion {
            Map::new()
        } else {
            self.object(request).await?
        };
        object.insert("messageId".to_owned(), id.as_str().into());
        let (sender, data) = (sender(&identity), request::raw(&object)?);
        let queued = if is_deletion {
            change::delete(&self.context, sender, &data).await?
        } else {
            change::edit(&self.context, sender, &data).await?
        };
        Ok(problem::json(&queued.accepted().await?))
    }

    pub(super) async fn reactions(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::message_id(id)?;
        let sender = sender(&identity);
        let reacting = match *request.method() {
            Method::POST => Reacting::Add,
            Method::DELETE => Reacting::Remove,
            _ => return self.list_reactions(sender, id).await,
        };
        let emoji = request::query(request.uri().query(), "emoji")?;
        let mut object = self.object(request).await?;
        if let Some(emoji) = emoji {
            // Not every client can send a body with DELETE.
            object.insert("emoji".to_owned(), emoji.into());
        }
        object.insert("messageId".to_owned(), id.as_str().into());
        let data = request::raw(&object)?;
        let queued = reaction::react(&self.context, sender, &data, reacting).await?;
        Ok(problem::json(&queued.accepted().await?))
    }

    async fn list_reactions(&self, sender: Sender<'_>, id: EventId) -> Answer {
        let found = reaction::of(&self.context, sender, id).await?;
        let reactions = found.iter().map(|reaction| Reaction {
            emoji: &reaction.emoji,
            count: reaction.count,
            users: &reaction.users,
        });
        Ok(problem::json(&Reactions {
            reactions: reactions.collect(),
        }))
    }

    /// A body that is a JSON object, or nothing at all.
    async fn object(&self, request: Request<Incoming>) -> Result<Map<String, Value>, Problem> {
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        if body.is_empty() {
            return Ok(Map::new());
        }
        request::json(&body)
    }
}

const fn sender(identity: &Identity) -> Sender<'_> {
    Sender {
        identity,
        address: None,
    }
}

/// The user as whom a message is sent: the token's own, or another for whom a service may act. The
/// service's rooms are the other's too, its scopes are not.
fn acting_for(identity: &Identity, sender: &str) -> Result<Identity, Problem> {
    if sender == identity.user().as_str() {
        return Ok(identity.clone());
    }
    if !identity.has_scope(ACT) {
        return Err(Problem {
            code: Code::Forbidden,
            ..Problem::field(
                "senderId",
                "senderId is not the user that the token names, and the token has no scope \
                 \"users:act\"",
            )
        });
    }
    let user =
        UserId::parse(sender).map_err(|error| Problem::field("senderId", error.to_string()))?;
    Ok(identity.acting_for(user))
}

/// Scope of tokens that may send as other users.
const ACT: &str = "users:act";
