//! `/api/notifications`: a user's list, read state, and notifying users.
//!
//! The list follows the archive: a notification of this moment may still be on its way into it.

use std::time::SystemTime;

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::events::require;
use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::delivery::publish::Fact;
use crate::store::Notification;
use crate::types::{EventId, Position, PositionError, Problem, Timestamp, UserId};

#[derive(Serialize)]
struct List<'a> {
    notifications: Vec<Item<'a>>,
    /// Of all, not of this page.
    unread: u64,
    /// To give as `before` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    id: &'a EventId,
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: &'a UserId,
    data: &'a RawValue,
    timestamp: Timestamp,
    #[serde(flatten)]
    position: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewNotification {
    user_id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Option<Box<RawValue>>,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Read {
    ids: Option<Vec<EventId>>,
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
    /// How many this made read.
    read: u64,
    unread: u64,
}

/// Scope of tokens that may notify users.
const WRITE: &str = "notifications:write";
/// What makes an event a notification.
const SERVER_EVENT: &str = "notification:new";
const LIMIT_DEFAULT: usize = 50;
/// Ids in one request.
const IDS_MAX: usize = 200;

impl Api {
    pub(super) async fn notifications(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        match *request.method() {
            Method::GET => {
                self.notifications_of(identity.user(), request.uri().query())
                    .await
            }
            Method::POST => self.notify(request, &identity).await,
            _ => self.read_notifications(request, &identity).await,
        }
    }

    async fn notifications_of(&self, user: &UserId, query: Option<&str>) -> Answer {
        let before = request::query(query, "before")?;
        let before = before.map(|text| {
            text.parse().map_err(|error: PositionError| {
                Problem::field("before", format!("before is {text:?}; {error}"))
            })
        });
        let limit = request::limit(query, LIMIT_DEFAULT, self.page_max)?;
        let unread_only = match request::query(query, "unread")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Problem::field("unread", "unread must be true or false")),
        };
        let store = &self.context.store;
        // One more than is shown tells whether there are more.
        let mut found = store
            .notifications(user, before.transpose()?, unread_only, limit + 1)
            .await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let unread = store.unread_notifications(user).await?;
        let next = found.last().filter(|_| has_more);
        Ok(problem::json(&List {
            next: next.map(|last| last.position.to_string()),
            notifications: found.iter().map(item).collect(),
            unread,
        }))
    }

    async fn notify(&self, request: Request<Incoming>, by: &Identity) -> Answer {
        require(by, WRITE)?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: NewNotification = request::json(&body)?;
        let wrong =
            |field: &str, error: &dyn std::fmt::Display| Problem::field(field, error.to_string());
        let user = UserId::parse(&new.user_id).map_err(|error| wrong("userId", &error))?;
        let id = new.id.map(|id| EventId::parse(&id)).transpose();
        let row = self
            .context
            .vocabulary
            .current()
            .by_type(&new.kind)
            .cloned();
        if row.is_none_or(|row| row.server.as_deref() != Some(SERVER_EVENT)) {
            let message = format!("type must be one that members get as {SERVER_EVENT}");
            return Err(Problem::field("type", message));
        }
        let empty = || RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
        self.tell(Fact {
            kind: &new.kind,
            user,
            conversation: None,
            data: new.data.unwrap_or_else(empty),
            id: id.map_err(|error| wrong("id", &error))?,
            at: SystemTime::now().into(),
        })
        .await
    }

    async fn read_notifications(&self, request: Request<Incoming>, of: &Identity) -> Answer {
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let Read { ids, all } = request::json(&body)?;
        let ids = match (ids, all) {
            (Some(ids), false) if (1..=IDS_MAX).contains(&ids.len()) => Some(ids),
            (None, true) => None,
            _ => {
                let message = format!("give ids (1 to {IDS_MAX}) or all: true");
                return Err(Problem::field("ids", message));
            }
        };
        let (store, user, now) = (&self.context.store, of.user(), SystemTime::now().into());
        let read = store.read_notifications(user, ids.as_deref(), now).await?;
        let unread = store.unread_notifications(user).await?;
        Ok(problem::json(&Done {
            ok: true,
            read,
            unread,
        }))
    }
}

fn item(notification: &Notification) -> Item<'_> {
    Item {
        id: &notification.id,
        kind: &notification.kind,
        user_id: &notification.user,
        data: &notification.data,
        timestamp: notification.at,
        position: notification.position,
        read_at: notification.read_at,
    }
}
