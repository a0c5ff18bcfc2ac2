//! `POST /api/development/token`: a token for whatever name is asked for.
//!
//! Exists only in development mode, which is refused on listeners that other machines can reach; it
//! answers loopback clients only, all the same.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Request;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{Answer, Api, problem, request};
use crate::types::{Code, Problem, Timestamp, UserId};

#[derive(Deserialize)]
struct Wish {
    user: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Granted<'a> {
    token: &'a str,
    user: &'a UserId,
    expires_at: Timestamp,
}

/// Long enough for an afternoon of trying things.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

impl Api {
    pub(super) async fn token(&self, request: Request<Incoming>, client: IpAddr) -> Answer {
        let development = self.development.as_ref().filter(|_| client.is_loopback());
        let development = development.ok_or_else(|| {
            Problem::new(
                Code::NotFound,
                "tokens are made here in development mode only",
            )
        })?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let wish: Wish = request::json(&body)?;
        let user = UserId::parse(wish.user.trim())
            .map_err(|error| Problem::field("user", error.to_string()))?;
        let now = SystemTime::now().into();
        let issued = development.issue(&user, &["conversation:*".to_owned()], LIFE, now);
        let token = issued.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let expires_at = Timestamp::from(SystemTime::now() + LIFE);
        Ok(problem::json(&Granted {
            token: &token,
            user: &user,
            expires_at,
        }))
    }
}
