//! Makes tokens: for logins, for development and for tests of other parts. HS256 only.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};

use super::globs::Rooms;
use super::token::LOGIN_CLAIM;
use crate::types::{Timestamp, UserId};

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Claim `sub`.
    pub user: UserId,
    /// Claim `name`.
    pub name: Option<String>,
    /// Claim `rooms`.
    pub rooms: Rooms,
    /// Claim `jti`.
    pub token_id: String,
    /// Claim `scope`, separated by spaces.
    pub scope: Option<String>,
    /// Whether it is good only while its session is known and not ended.
    pub is_login: bool,
    /// How long it is valid, in whole seconds.
    pub life: Duration,
}

/// A new random id for a token.
#[must_use]
pub fn token_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Makes a token that is valid from `now` on.
#[must_use]
pub fn issue(secret: &[u8], grant: &Grant, now: Timestamp) -> String {
    sign(secret, &claims(grant, now))
}

/// What a token is to say, as its claims.
pub(super) fn claims(grant: &Grant, now: Timestamp) -> Map<String, Value> {
    let seconds = now.as_millis().div_euclid(1_000);
    let life = i64::try_from(grant.life.as_secs()).unwrap_or(i64::MAX);
    let rooms = grant.rooms.iter().map(Value::from).collect();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), grant.user.as_str().into());
    if let Some(name) = &grant.name {
        claims.insert("name".to_owned(), name.as_str().into());
    }
    claims.insert("rooms".to_owned(), Value::Array(rooms));
    claims.insert("jti".to_owned(), grant.token_id.as_str().into());
    if let Some(scope) = &grant.scope {
        claims.insert("scope".to_owned(), scope.as_str().into());
    }
    if grant.is_login {
        claims.insert(LOGIN_CLAIM.to_owned(), true.into());
    }
    claims.insert("iat".to_owned(), seconds.into());
    claims.insert("exp".to_owned(), seconds.saturating_add(life).into());
    claims
}

/// The token of these claims.
pub(super) fn sign(secret: &[u8], claims: &Map<String, Value>) -> String {
    jsonwebtoken::encode(
        &Header::default(),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("a map of texts and numbers is JSON, and any secret serves for HMAC")
}
