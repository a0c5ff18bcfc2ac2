//! How often somebody may ask, and the headers that say so.
//!
//! Every request takes a token of `api`, for the user who asks or, where nobody is logged in, for the
//! address; a service's (a token with scopes) one of `services` and no other. Sign-up and login take one for the address besides, whoever asks; every other endpoint one of
//! `other`, for each user and endpoint. Sending has the catalogue's limiter instead, which the sending
//! itself takes from. An answer carries `RateLimit-Limit`, `-Remaining` and `-Reset` (seconds) of
//! the limit that is nearest.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, Method, Response};
use http_body_util::Full;

use super::{Api, Asker};
use crate::auth::Identity;
use crate::limits::{self, Decision, Rule};
use crate::types::{Problem, Timestamp};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What browsers let pages of other origins read of an answer.
pub const EXPOSED: &str =
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, Idempotent-Replayed";

/// The client event whose limiter `POST /api/messages` is under.
const SEND: &str = "message:send";

impl Api {
    /// Takes the tokens that a request costs. What is nearest to its end, and whether it may go on.
    /// `path` is the template, which does not grow with what clients ask.
    pub(super) async fn admit(
        &self,
        asker: Option<&Asker>,
        client: IpAddr,
        (method, path): (&Method, &str),
    ) -> (Option<Decision>, Result<(), Problem>) {
        if self.context.limits.is_off() {
            return (None, Ok(()));
        }
        let rules = &self.context.rules;
        let address = limits::address(client);
        let user = asker.and_then(|asker| asker.as_ref().ok());
        let key = user.map_or_else(
            || format!("address {address}"),
            |identity| format!("user {}", identity.user()),
        );
        let is_service = user.is_some_and(Identity::is_service);
        let (name, rule) = if is_service {
            ("services", rules.services)
        } else {
            ("api", rules.api)
        };
        let api = self.take(name, rule, &key).await;
        if let Err(problem) = api.check(name) {
            return (Some(api), Err(problem));
        }
        let (name, rule, key) = match path {
            "/api/login" if *method == Method::POST => ("login", rules.login, address),
            "/api/signup" if *method == Method::POST => ("signup", rules.signup, address),
            "/api/messages" if user.is_some() => return (Some(api), Ok(())),
            _ if is_service => return (Some(api), Ok(())),
            _ => ("other", rules.other, format!("{key} {method} {path}")),
        };
        let other = self.take(name, rule, &key).await;
        (Some(nearest(api, other)), other.check(name))
    }

    /// The nearest limit once a message was sent: sending took from the catalogue's limiter.
    pub(super) async fn after(
        &self,
        asker: Option<&Asker>,
        path: &str,
        decision: Option<Decision>,
    ) -> Option<Decision> {
        let decision = decision?;
        let Some(Ok(identity)) = asker.filter(|_| path == "/api/messages") else {
            return Some(decision);
        };
        let row = self.context.row(SEND).ok();
        let limiter = row.as_ref().and_then(|row| row.limiter.as_ref());
        let Some(limiter) = limiter else {
            return Some(decision);
        };
        let (rule, user) = (Rule::from(limiter), identity.user().as_str());
        let limits = &self.context.limits;
        let left = limits.look(&limiter.name, rule, user, now()).await;
        Some(left.map_or(decision, |left| nearest(decision, left)))
    }

    async fn take(&self, name: &str, rule: Rule, key: &str) -> Decision {
        self.context.limits.take(name, rule, key, now()).await
    }
}

/// Says it in the headers.
pub(super) fn tell(response: &mut Response<Full<Bytes>>, decision: Option<Decision>) {
    let Some(decision) = decision else { return };
    let headers = response.headers_mut();
    headers.insert(LIMIT, decision.limit.into());
    headers.insert(REMAINING, decision.remaining.into());
    headers.insert(RESET, seconds(decision.reset).into());
}

/// A refusal before any other, then the one with fewer left.
fn nearest(one: Decision, other: Decision) -> Decision {
    match (one.retry_after, other.retry_after) {
        (None, Some(_)) => other,
        (Some(_), None) => one,
        _ if other.remaining < one.remaining => other,
        _ => one,
    }
}

/// Rounded up: after that many it is so.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn decision(remaining: u32, retry_after: Option<Duration>) -> Decision {
        Decision {
            limit: 30,
            remaining,
            reset: Duration::from_millis(1_500),
            retry_after,
        }
    }

    #[test]
    fn the_nearest_limit_is_told() {
        let wait = Some(Duration::from_secs(1));
        let (many, few, none) = (decision(9, None), decision(2, None), decision(0, wait));
        assert_eq!(nearest(many, few), few);
        assert_eq!(nearest(few, many), few);
        assert_eq!(nearest(none, decision(0, None)), none);
        assert_eq!(nearest(decision(0, None), none), none);
    }

    #[test]
    fn headers_say_how_many_are_left_and_when_all_are_back() {
        let mut response = Response::new(Full::default());
        tell(&mut response, None);
        assert!(response.headers().is_empty());
        tell(&mut response, Some(decision(9, None)));
        let number = |name| response.headers()[&name].to_str().unwrap().to_owned();
        assert_eq!(number(LIMIT), "30");
        assert_eq!(number(REMAINING), "9");
        assert_eq!(number(RESET), "2");
    }
}
