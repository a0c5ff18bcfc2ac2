//! REST: who belongs to a course or building.

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::handlers::group::{self, Group};
use crate::types::{Problem, UserId};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct New {
    user_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    user_id: UserId,
}

#[derive(Serialize)]
struct Page {
    members: Vec<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled {
    ok: bool,
    user_id: UserId,
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 200;

impl Api {
    pub(super) async fn group_members(
        &self,
        request: Request<Incoming>,
        kind: &str,
        id: &str,
    ) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::segment(id, "id")?;
        let group = match kind {
            "courses" => Group::Course,
            _ => Group::Building,
        };
        let query = request.uri().query().map(str::to_owned);
        let query = query.as_deref();
        match *request.method() {
            Method::GET => self.list_group(&identity, (group, &id), query).await,
            Method::DELETE => {
                let user = whom(&identity, request::query(query, "userId")?.as_deref())?;
                let room = group.room(&id)?;
                group::withdraw(&self.context, &identity, &room, &user).await?;
                Ok(problem::nothing())
            }
            _ => {
                let body = request::body(request, (self.body_max, self.body_within)).await?;
                // Without a body it is about who asks.
                let new: New = if body.is_empty() {
                    New::default()
                } else {
                    request::json(&body)?
                };
                let user = whom(&identity, new.user_id.as_deref())?;
                group::enroll(&self.context, &identity, (group, &id), &user).await?;
                Ok(problem::json(&Enrolled {
                    ok: true,
                    user_id: user,
                }))
            }
        }
    }

    async fn list_group(
        &self,
        identity: &Identity,
        (group, id): (Group, &str),
        query: Option<&str>,
    ) -> Answer {
        let room = group.room(id)?;
        let limit = request::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
        let after: Option<UserId> = request::place(query, "after")?;
        // One more than asked tells whether there is a next page.
        let page = (after.as_ref(), limit + 1);
        let mut users = group::members(&self.context, identity, &room, page).await?;
        let has_more = users.len() > limit;
        users.truncate(limit);
        let next = users.last().filter(|_| has_more).map(request::cursor);
        let members = users.into_iter().map(|user_id| Member { user_id });
        Ok(problem::json(&Page {
            members: members.collect(),
            next,
        }))
    }
}

/// The user who is named, or who asks.
fn whom(identity: &Identity, named: Option<&str>) -> Result<UserId, Problem> {
    match named {
        None | Some("me") => Ok(identity.user().clone()),
        Some(id) => UserId::parse(id).map_err(|error| Problem::field("userId", error.to_string())),
    }
}
