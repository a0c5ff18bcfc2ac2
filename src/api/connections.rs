//! REST: connections between users.

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{Answer, Api, problem, request};
use crate::handlers::connection::{self, Shown};
use crate::store::Status;
use crate::types::{Problem, Timestamp, UserId};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    to_user_id: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    status: Option<String>,
}

#[derive(Serialize)]
struct Page {
    connections: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;

impl Api {
    pub(super) async fn connections(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        if request.method() == Method::GET {
            return self
                .list_connections(identity.user(), request.uri().query())
                .await;
        }
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: New = request::json(&body)?;
        let to = new.to_user_id.unwrap_or_default();
        let to = UserId::parse(&to).map_err(|e| Problem::field("toUserId", e.to_string()))?;
        let made = connection::request(&self.context, identity.user(), to).await?;
        Ok(problem::created(&Shown::from(made)))
    }

    pub(super) async fn connection(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::segment(id, "requestId")?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let change: Change = request::json(&body)?;
        let status = change.status.as_deref().and_then(status);
        let status = status.filter(|status| *status != Status::Pending);
        let status = status
            .ok_or_else(|| Problem::field("status", "status must be accepted or rejected"))?;
        let changed =
            connection::answer_request(&self.context, identity.user(), &id, status).await?;
        Ok(problem::json(&Shown::from(changed)))
    }

    async fn list_connections(&self, user: &UserId, query: Option<&str>) -> Answer {
        let limit = request::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
        let wanted = match request::query(query, "status")? {
            None => None,
            Some(word) => Some(status(&word).ok_or_else(|| {
                Problem::field("status", "status must be pending, accepted or rejected")
            })?),
        };
        let before: Option<(i64, String)> = request::place(query, "after")?;
        let before = before.map(|(at, id)| (Timestamp::from_millis(at), id));
        // One more than asked tells whether there is a next page.
        let store = &self.context.store;
        let mut found = store
            .connections_of(user, wanted, before, limit + 1)
            .await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| has_more);
        let next = last.map(|last| request::cursor(&(last.created_at.as_millis(), &last.id)));
        Ok(problem::json(&Page {
            connections: found.into_iter().map(Shown::from).collect(),
            next,
        }))
    }
}

fn status(word: &str) -> Option<Status> {
    let all = [Status::Pending, Status::Accepted, Status::Rejected];
    all.into_iter().find(|one| connection::word(*one) == word)
}
