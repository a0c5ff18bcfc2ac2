//! `POST /api/events`: domain events of other services.

use std::time::{Duration, SystemTime};

use http::Request;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::delivery::effects::{self, Told};
use crate::delivery::publish::Fact;
use crate::events::{Durability, Row, Who};
use crate::types::{Code, ConversationId, EventId, IdError, Problem, UserId};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewEvent {
    #[serde(rename = "type")]
    kind: Option<String>,
    event_type: Option<String>,
    data: Box<RawValue>,
    user_id: Option<String>,
    conversation_id: Option<String>,
    id: Option<String>,
}

/// What of the data the envelope has too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    conversation_id: Option<String>,
}

#[derive(Serialize)]
struct Published<'a> {
    ok: bool,
    id: &'a EventId,
    topic: Option<&'a str>,
}

/// Scope of tokens that may tell events.
const WRITE: &str = "events:write";
/// Scope of tokens that may tell events of other users.
const ACT: &str = "users:act";
/// Who tells an event may read what it did at once; if that takes longer, the answer comes before.
const APPLIED_WITHIN: Duration = Duration::from_secs(2);

impl Api {
    pub(super) async fn events(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: NewEvent = request::json(&body)?;
        let kind = new.kind.or(new.event_type);
        let kind = kind.ok_or_else(|| Problem::field("type", "type is missing"))?;
        self.may_tell(&identity, &kind)?;
        let user = match &new.user_id {
            Some(user) => acting_for(&identity, user)?,
            None => identity.user().clone(),
        };
        let place: Option<Place> = serde_json::from_str(new.data.get()).ok();
        let conversation = new
            .conversation_id
            .or_else(|| place.and_then(|p| p.conversation_id));
        let fact = Fact {
            kind: &kind,
            user,
            conversation: parsed("conversationId", conversation, ConversationId::parse)?,
            data: new.data,
            id: parsed("id", new.id, EventId::parse)?,
            at: SystemTime::now().into(),
        };
        self.tell(fact).await
    }

    /// Puts an event into the log; answers when what it does can be read.
    pub(super) async fn tell(&self, fact: Fact<'_>) -> Answer {
        let context = &self.context;
        let (row, event) = fact.form(&context.vocabulary)?;
        let at = context.publisher.publish(&row, &event)?.await?;
        let (row, event, topic) = (&*row, &event, row.topic.as_deref());
        let told = Told { row, event, at };
        if !effects::applied(&context.directory, told, APPLIED_WITHIN).await {
            tracing::debug!(kind = %row.kind, id = %event.id, "effects take longer than the answer");
        }
        Ok(problem::created(&Published {
            ok: true,
            id: &event.id,
            topic,
        }))
    }

    /// Whether the token may tell events of a type at all.
    fn may_tell(&self, identity: &Identity, kind: &str) -> Result<(), Problem> {
        let row = self.context.vocabulary.current().by_type(kind).cloned();
        require(identity, row.as_deref().map_or(WRITE, scope))?;
        let Some(row) = row else {
            let shown: String = kind.chars().take(64).collect();
            let message = format!("there is no event type {shown:?}");
            return Err(Problem {
                code: Code::NotFound,
                ..Problem::field("type", message)
            });
        };
        if row.durability == Durability::Ephemeral {
            let message = format!("{} is not kept, so it cannot be told here", row.kind);
            return Err(Problem::field("type", message));
        }
        Ok(())
    }
}

/// The scope that a row wants of a service.
fn scope(row: &Row) -> &str {
    match row.who {
        Who::Services => &row.scope,
        Who::Members | Who::Anyone => WRITE,
    }
}

/// Refuses a token that has not this scope.
pub(super) fn require(identity: &Identity, scope: &str) -> Result<(), Problem> {
    if identity.has_scope(scope) {
        return Ok(());
    }
    let message = format!("this needs a service's token with the scope {scope:?}");
    Err(Problem::new(Code::Forbidden, message))
}

fn acting_for(identity: &Identity, user: &str) -> Result<UserId, Problem> {
    if user == identity.user().as_str() {
        return Ok(identity.user().clone());
    }
    require(identity, ACT)?;
    UserId::parse(user).map_err(|error| Problem::field("userId", error.to_string()))
}

fn parsed<T>(
    name: &str,
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, IdError>,
) -> Result<Option<T>, Problem> {
    let parsed = text.map(|text| parse(&text)).transpose();
    parsed.map_err(|error| Problem::field(name, error.to_string()))
}
