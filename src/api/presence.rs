//! REST: who is online.

use http::Request;
use hyper::body::Incoming;
use serde::Serialize;

use super::{Answer, Api, problem, request};
use crate::handlers::presence::{State, states};
use crate::types::{Problem, UserId};

#[derive(Serialize)]
struct Presence {
    presence: Vec<State>,
}

/// Users in one request.
const USERS_MAX: usize = 100;

impl Api {
    pub(super) async fn presence(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let text = request::query(request.uri().query(), "users")?.unwrap_or_default();
        let mut users: Vec<UserId> = Vec::new();
        for (n, id) in text.split(',').enumerate() {
            if n >= USERS_MAX {
                let message = format!("users names more than {USERS_MAX}");
                return Err(Problem::field("users", message));
            }
            let user =
                UserId::parse(id).map_err(|error| Problem::field("users", error.to_string()))?;
            if !users.contains(&user) {
                users.push(user);
            }
        }
        // Whom the user may not see is left out.
        let (presence, _) = states(&self.context, &identity, users).await?;
        Ok(problem::json(&Presence { presence }))
    }
}
