//! REST: conversations and their members.

use std::collections::HashSet;

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::handlers::conversation::{self, Place, Wish, name};
use crate::handlers::{Sender, conversation_room, read_cursor};
use crate::store::{Conversation, ConversationKind, LastMessage, Listed, Member, Role};
use crate::types::{
    Code, ConversationId, Epoch, EventId, Position, Problem, Seq, Timestamp, UserId,
};

/// A user's conversations.
#[derive(Serialize)]
struct List<'a> {
    conversations: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The store did not answer; this is what was known before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// A conversation as its members see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a ConversationId,
    kind: &'static str,
    title: &'a str,
    creator: &'a UserId,
    created_at: Timestamp,
    members: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<&'a UserId>,
}

/// One of a list: with what is new in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message: Option<Last<'a>>,
    unread: u64,
    read: Position,
    active_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Last<'a> {
    id: &'a EventId,
    user_id: &'a UserId,
    /// Nothing once it was deleted, shown as an empty text.
    #[serde(serialize_with = "or_empty")]
    content: Option<&'a RawValue>,
    timestamp: Timestamp,
    epoch: Epoch,
    seq: Seq,
}

/// One conversation, with how far its members have read, where they are few enough to be told.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    shown: Shown<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Reader<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reader<'a> {
    user_id: &'a UserId,
    epoch: Epoch,
    seq: Seq,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownMember<'a> {
    user_id: &'a UserId,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Members<'a> {
    members: Vec<ShownMember<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Added<'a> {
    ok: bool,
    added: &'a [UserId],
}

/// A conversation to be made.
#[derive(Deserialize)]
struct New {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

/// Members to be added.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewMembers {
    user_ids: Vec<String>,
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize)]
struct NewRole {
    role: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpTo {
    up_to: Box<RawValue>,
}

/// Entries of a list, unless asked otherwise.
const LIMIT: usize = 50;
/// At most: what the directory keeps of a user's list.
const LIMIT_MAX: usize = 100;
/// Users that one request may name.
const USERS_MAX: usize = 100;
const TITLE_BYTES_MAX: usize = 256;

impl Api {
    pub(super) async fn conversations(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        match *request.method() {
            Method::POST => self.create_conversation(request, &identity).await,
            _ => self.list_conversations(&request, &identity).await,
        }
    }

    async fn list_conversations(&self, request: &Request<Incoming>, of: &Identity) -> Answer {
        let query = request.uri().query();
        let limit = request::limit(query, LIMIT, LIMIT_MAX)?;
        let after: Option<(i64, ConversationId)> = request::place(query, "after")?;
        let (directory, user) = (&self.context.directory, of.user());
        if let Some((at, id)) = after {
            let before = (Timestamp::from_millis(at), id);
            let store = &self.context.store;
            let found = store.conversations_of(user, Some(before), limit).await?;
            return Ok(list(&found, limit, false));
        }
        let found = directory.conversations_of(user).await?;
        let first = &found.value[..limit.min(found.value.len())];
        Ok(list(first, limit, found.is_stale))
    }

    async fn create_conversation(&self, request: Request<Incoming>, by: &Identity) -> Answer {
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let wish = wish(request::json(&body)?, by.user())?;
        let (made, _) = conversation::create(&self.context, by, wish).await?;
        let other = self.other(&made, by.user()).await?;
        let role = self.context.store.role(&made.id, by.user()).await?;
        Ok(problem::created(&shown(&made, role, other.as_ref())))
    }

    pub(super) async fn conversation(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::conversation_id(id)?;
        let known = self.known(&identity, &id).await?;
        let other = self.other(&known, identity.user()).await?;
        let role = self.context.directory.role(&id, identity.user()).await?;
        let cursors = if read_cursor::is_told(known.member_count) {
            self.context.store.cursors(&id, LIMIT_MAX).await?
        } else {
            Vec::new()
        };
        let reads = cursors.iter().map(|(user_id, position)| Reader {
            user_id,
            epoch: position.epoch,
            seq: position.seq,
        });
        Ok(problem::json(&Whole {
            shown: shown(&known, role, other.as_ref()),
            reads: reads.collect(),
        }))
    }

    pub(super) async fn members(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::conversation_id(id)?;
        if request.method() == Method::POST {
            return self.add_members(request, &identity, &id).await;
        }
        self.known(&identity, &id).await?;
        let query = request.uri().query();
        let limit = request::limit(query, LIMIT, LIMIT_MAX)?;
        let after: Option<UserId> = request::place(query, "after")?;
        let store = &self.context.store;
        let members = store.members(&id, after.as_ref(), limit).await?;
        let last = members.last().filter(|_| members.len() == limit);
        let next = last.map(|member| request::cursor(&member.user));
        let members = members.iter().map(|member: &Member| ShownMember {
            user_id: &member.user,
            role: name(member.role),
            joined_at: Some(member.joined_at),
        });
        Ok(problem::json(&Members {
            members: members.collect(),
            next,
        }))
    }

    async fn add_members(
        &self,
        request: Request<Incoming>,
        by: &Identity,
        id: &ConversationId,
    ) -> Answer {
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: NewMembers = request::json(&body)?;
        let users = users("userIds", &new.user_ids)?;
        if users.is_empty() {
            return Err(Problem::field("userIds", "userIds names nobody"));
        }
        let role = new.role.as_deref().map_or(Ok(Role::Member), role)?;
        let place = Place { by, id };
        let added = conversation::add(&self.context, place, &users, role).await?;
        Ok(problem::json(&Added {
            ok: true,
            added: &added,
        }))
    }

    pub(super) async fn member(&self, request: Request<Incoming>, id: &str, user: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::conversation_id(id)?;
        let user = match user {
            "me" => identity.user().clone(),
            other => request::user_id(other)?,
        };
        let place = Place {
            by: &identity,
            id: &id,
        };
        if request.method() == Method::DELETE {
            conversation::remove(&self.context, place, &user).await?;
            return Ok(problem::nothing());
        }
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: NewRole = request::json(&body)?;
        let role = role(&new.role)?;
        conversation::set_role(&self.context, place, &user, role).await?;
        Ok(problem::json(&ShownMember {
            user_id: &user,
            role: name(role),
            joined_at: None,
        }))
    }

    pub(super) async fn read(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::conversation_id(id)?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let up_to: UpTo = request::json(&body)?;
        let data = serde_json::json!({ "conversationId": id, "upTo": up_to.up_to });
        let sender = Sender {
            identity: &identity,
            address: None,
        };
        let read = read_cursor::read(&self.context, sender, &request::raw(&data)?).await?;
        Ok(problem::json(&read))
    }

    /// A conversation that this user may read.
    async fn known(
        &self,
        identity: &Identity,
        id: &ConversationId,
    ) -> Result<std::sync::Arc<Conversation>, Problem> {
        let room = conversation_room(id.as_str())?;
        self.context.directory.may_join(identity, &room).await?;
        let known = self.context.directory.conversation(id).await?;
        known.ok_or_else(|| Problem::new(Code::NotFound, "there is no such conversation"))
    }

    /// Who else is in a conversation of two.
    async fn other(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Option<UserId>, Problem> {
        if conversation.kind != ConversationKind::Direct {
            return Ok(None);
        }
        let members = self
            .context
            .store
            .members(&conversation.id, None, 2)
            .await?;
        let mut users = members.into_iter().map(|member| member.user);
        Ok(users.find(|member| member != user))
    }
}

fn list(
    found: &[Listed],
    limit: usize,
    stale: bool,
) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let last = found.last().filter(|_| found.len() == limit);
    let next =
        last.map(|last| request::cursor(&(last.active_at.as_millis(), &last.conversation.id)));
    problem::json(&List {
        conversations: found.iter().map(item).collect(),
        next,
        stale,
    })
}

fn item(listed: &Listed) -> Item<'_> {
    Item {
        shown: shown(
            &listed.conversation,
            Some(listed.role),
            listed.other.as_ref(),
        ),
        last_message: listed.last.as_ref().map(last),
        unread: listed.unread,
        read: listed.read,
        active_at: listed.active_at,
    }
}

fn last(last: &LastMessage) -> Last<'_> {
    Last {
        id: &last.id,
        user_id: &last.user,
        content: Some(&*last.content).filter(|content| content.get() != "null"),
        timestamp: last.at,
        epoch: last.position.epoch,
        seq: last.position.seq,
    }
}

fn or_empty<S: Serializer>(content: &Option<&RawValue>, to: S) -> Result<S::Ok, S::Error> {
    match content {
        Some(content) => content.serialize(to),
        None => to.serialize_str(""),
    }
}

fn shown<'a>(
    conversation: &'a Conversation,
    role: Option<Role>,
    other: Option<&'a UserId>,
) -> Shown<'a> {
    Shown {
        id: &conversation.id,
        kind: match conversation.kind {
            ConversationKind::Direct => "direct",
            ConversationKind::Group => "group",
        },
        title: &conversation.title,
        creator: &conversation.creator,
        created_at: conversation.created_at,
        members: conversation.member_count,
        role: role.map(name),
        other,
    }
}

fn wish(new: New, creator: &UserId) -> Result<Wish, Problem> {
    let kind = match new.kind.as_deref() {
        None | Some("group") => ConversationKind::Group,
        Some("direct") => ConversationKind::Direct,
        Some(_) => return Err(Problem::field("kind", "kind is \"group\" or \"direct\"")),
    };
    let title = new.title.unwrap_or_default();
    if title.len() > TITLE_BYTES_MAX || title.chars().any(char::is_control) {
        let message = format!("title is one line of at most {TITLE_BYTES_MAX} bytes");
        return Err(Problem::field("title", message));
    }
    let id = new.id.map(|id| {
        ConversationId::parse(&id).map_err(|error| Problem::field("id", error.to_string()))
    });
    let mut others = users("members", &new.members)?;
    others.retain(|user| user != creator);
    Ok(Wish {
        id: id.transpose()?,
        kind,
        title,
        others,
    })
}

/// The users of a list, each once.
fn users(field: &str, names: &[String]) -> Result<Vec<UserId>, Problem> {
    if names.len() > USERS_MAX {
        let message = format!("{field} names {}, allowed are {USERS_MAX}", names.len());
        return Err(Problem::field(field, message));
    }
    let mut seen = HashSet::new();
    let mut users = Vec::with_capacity(names.len());
    for name in names {
        let user = UserId::parse(name).map_err(|error| Problem::field(field, error.to_string()))?;
        if seen.insert(user.clone()) {
            users.push(user);
        }
    }
    Ok(users)
}

fn role(text: &str) -> Result<Role, Problem> {
    [Role::Member, Role::Moderator, Role::Owner]
        .into_iter()
        .find(|role| name(*role) == text)
        .ok_or_else(|| Problem::field("role", "role is \"member\", \"moderator\" or \"owner\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(json: &str) -> Result<Wish, Problem> {
        let creator = UserId::parse("ann").unwrap();
        wish(request::json(json.as_bytes()).unwrap(), &creator)
    }

    #[test]
    fn a_wish_names_each_other_member_once() {
        let wish = new(r#"{"title":"x","members":["bob","ann","bob"],"more":1}"#).unwrap();
        assert_eq!(wish.others, [UserId::parse("bob").unwrap()]);
        assert_eq!((wish.kind, wish.id), (ConversationKind::Group, None));
    }

    #[test]
    fn what_is_wrong_with_a_wish_is_told_by_field() {
        let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
        let many = serde_json::json!({ "members": many }).to_string();
        let cases = [
            (r#"{"kind":"room"}"#, "kind"),
            (r#"{"id":""}"#, "id"),
            (r#"{"title":"a\nb"}"#, "title"),
            (r#"{"members":[""]}"#, "members"),
            (&many, "members"),
        ];
        for (json, field) in cases {
            assert_eq!(
                new(json).unwrap_err().field.as_deref(),
                Some(field),
                "{json}"
            );
        }
        assert_eq!(role("admin").unwrap_err().field.as_deref(), Some("role"));
    }
}
