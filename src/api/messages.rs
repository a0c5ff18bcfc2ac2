//! `GET /api/conversations/{id}/messages` and `POST /api/messages`.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, Api, problem, request};
use crate::auth::permissions;
use crate::delivery::history::Shown;
use crate::handlers::{Accepted, Sender, conversation_room};
use crate::types::{Code, Epoch, Position, Problem};

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
}

/// What of a message's body decides where it goes; the rest is checked against the catalogue.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    channel_id: Option<String>,
    conversation_id: Option<String>,
    sender_id: Option<String>,
}

const LIMIT_DEFAULT: usize = 50;

impl Api {
    pub(super) async fn history(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = percent_decode_str(id).decode_utf8().map_err(|_| {
            Problem::field(
                "conversationId",
                "conversationId is not UTF-8 after percent-decoding",
            )
        })?;
        let room = conversation_room(&id)?;
        permissions::may_join(&identity, &room)?;
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
        let limit = limit(request::query(query, "limit")?.as_deref(), self.page_max)?;
        let history = &self.context.history;
        let shown = match (before, after) {
            (Some(_), Some(_)) => {
                return Err(Problem::field("after", "give before or after, not both"));
            }
            (None, Some(after)) => history.after_page(&room, after, limit).await?,
            (before, None) => history.before(&room, before, limit).await?,
        };
        let top = history.top(&room).await?;
        let next = shown.last().map(|e| e.position).filter(|p| p.seq < top.seq);
        let previous = shown.first().map(|e| e.position).filter(|p| p.seq.0 > 1);
        let messages = shown.into_iter().map(|Shown { data, .. }| data).collect();
        Ok(problem::json(&History {
            conversation_id: &id,
            epoch: top.epoch,
            messages,
            next: next.map(|p| p.to_string()),
            previous: previous.map(|p| p.to_string()),
        }))
    }

    pub(super) async fn send(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let mut object: serde_json::Map<String, serde_json::Value> = request::json(&body)?;
        let route: Route = request::json(&body)?;
        if route
            .sender_id
            .is_some_and(|sender| sender != identity.user().as_str())
        {
            return Err(Problem::new(
                Code::Forbidden,
                "senderId is not the user that the token names",
            ));
        }
        if let (None, Some(channel)) = (&route.conversation_id, route.channel_id) {
            object.insert("conversationId".to_owned(), channel.into());
        }
        for name in ["channelId", "senderId", "senderName"] {
            object.remove(name);
        }
        let data = serde_json::value::to_raw_value(&object)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let row = self.context.row("message:send")?;
        let sender = Sender {
            identity: &identity,
            address: None,
        };
        let (envelope, room) = self.context.accept(&row, sender, data).await?;
        let pending = self.context.publisher.publish(&row, &envelope)?;
        let answer = Accepted::when(pending, envelope.id, room).await?;
        let mut response = problem::json(&answer);
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }
}

impl Api {
    pub(super) async fn message(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
    pub(super) async fn reactions(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
}

fn limit(text: Option<&str>, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(LIMIT_DEFAULT.min(max));
    };
    let number = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    number.ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Problem::field(
            "limit",
            format!("limit is {shown:?}, allowed are 1 to {max}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_outside_the_range_name_the_range() {
        assert_eq!(
            limit(None, 20).unwrap(),
            20,
            "a small page_max bounds the default too"
        );
        assert_eq!(limit(None, 200).unwrap(), 50);
        assert_eq!(limit(Some("200"), 200).unwrap(), 200);
        for bad in ["0", "201", "-1", "many", ""] {
            assert!(
                limit(Some(bad), 200)
                    .unwrap_err()
                    .message
                    .contains("1 to 200"),
                "{bad}"
            );
        }
    }
}
