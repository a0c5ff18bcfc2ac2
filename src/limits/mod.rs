//! How often somebody may do something.
//!
//! One algorithm, the generic cell rate algorithm (GCRA, ITU-T I.371): one number for each key where a
//! sliding window needs a list, exact, no window whose edge lets a second burst through, and the time to
//! wait falls out of it. "30 in a minute" means: 30 at once, then one every two seconds. The rules are the
//! catalogue's limiters and those of `[limits]`.
//!
//! Not here: what is limited (handlers and routes ask), and the bounds of one connection.

mod gcra;
mod memory;
pub mod redis;

use std::net::IpAddr;
use std::time::Duration;

use self::redis::Redis as Shared;
use crate::backend::redis::Shards;
use crate::events::Limiter;
use crate::telemetry::metrics;
use crate::types::{Code, Problem, Rate, Timestamp};

/// So many per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How many.
    pub count: u32,
    /// The time in which they come back.
    pub per: Duration,
}

/// An address as a key. Of IPv6 the network: one client has 2^64 addresses there.
#[must_use]
pub fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// What a limiter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How many are allowed.
    pub limit: u32,
    /// How many are left now.
    pub remaining: u32,
    /// When all are back.
    pub reset: Duration,
    /// How long to wait, when it was refused.
    pub retry_after: Option<Duration>,
}

/// The rules of `[limits]`.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// REST requests of a user, or an address where nobody is logged in.
    pub api: Rule,
    /// REST requests of a service.
    pub services: Rule,
    /// Logins from an address.
    pub login: Rule,
    /// Sign-ups from an address.
    pub signup: Rule,
    /// Requests of a user to an endpoint that nothing else limits.
    pub other: Rule,
    /// Events of a socket; `None` when nothing is limited.
    pub events_per_socket: Option<Rule>,
}

impl From<Rate> for Rule {
    fn from(rate: Rate) -> Self {
        Self {
            count: rate.count(),
            per: rate.per(),
        }
    }
}

impl From<&Limiter> for Rule {
    fn from(limiter: &Limiter) -> Self {
        Self {
            count: limiter.count,
            per: limiter.per,
        }
    }
}

/// One key of its own, without a lock: for what has one owner, like a socket.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    rule: Rule,
    full: gcra::Full,
}

impl Meter {
    /// A full one.
    #[must_use]
    pub const fn new(rule: Rule) -> Self {
        Self {
            rule,
            full: gcra::Full::ALWAYS,
        }
    }

    /// Takes one token.
    pub fn take(&mut self, now: Timestamp) -> Decision {
        let (full, decision) = self.full.take(self.rule, now);
        self.full = full;
        decision
    }
}

impl Decision {
    /// What is said where nothing is limited.
    const fn unlimited(rule: Rule) -> Self {
        Self {
            limit: rule.count,
            remaining: rule.count,
            reset: Duration::ZERO,
            retry_after: None,
        }
    }

    /// Passes, or the refusal for a client: `rate_limited` with a time to wait.
    /// # Errors
    /// When it was refused. `name` is the limiter's.
    pub fn check(&self, name: &str) -> Result<(), Problem> {
        let Some(wait) = self.retry_after else {
            return Ok(());
        };
        metrics::LIMITS_REFUSED.of([name]).add(1);
        let message = format!(
            "too many requests ({name}); try again in {} ms",
            wait.as_millis()
        );
        Err(Problem::new(Code::RateLimited, message).retry_after(wait))
    }
}

/// The limiters of a node, shared by its threads. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Limits {
    /// Nothing is limited.
    Off,
    /// Within this process.
    Memory(memory::Memory),
    /// Shared by all nodes.
    Redis(Shared),
}

impl Limits {
    /// Limits within this process, for about `keys_max` keys at once.
    #[must_use]
    pub fn memory(keys_max: usize) -> Self {
        Self::Memory(memory::Memory::new(keys_max))
    }

    /// Limits that all nodes share, on shards that load [`LIBRARY`](self::redis::LIBRARY). A shard may take `patience`
    /// to answer; while it does not, this process counts alone, for about `keys_max` keys.
    #[must_use]
    pub fn redis(shards: Shards, patience: Duration, keys_max: usize) -> Self {
        Self::Redis(Shared::new(shards, patience, keys_max))
    }

    /// Takes one token of limiter `name` for `key` (a user id or an address), if the backend can
    /// tell at once; `None` means [`take`](Self::take) has to be awaited.
    #[must_use]
    pub fn take_now(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Option<Decision> {
        match self {
            Self::Off => Some(Decision::unlimited(rule)),
            Self::Memory(memory) => Some(memory.take(name, rule, key, now)),
            // Only who has to wait is told at once.
            Self::Redis(redis) => redis.refused(name, rule, key),
        }
    }

    /// Takes one token. When a shared backend does not answer, this process alone counts.
    pub async fn take(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        match self {
            Self::Off => Decision::unlimited(rule),
            Self::Memory(memory) => memory.take(name, rule, key, now),
            Self::Redis(redis) => redis.take(name, rule, key, now).await,
        }
    }

    /// How a key stands, without taking a token; `None` where nothing is limited.
    pub async fn look(
        &self,
        name: &str,
        rule: Rule,
        key: &str,
        now: Timestamp,
    ) -> Option<Decision> {
        match self {
            Self::Off => None,
            Self::Memory(memory) => Some(memory.look(name, rule, key, now)),
            Self::Redis(redis) => Some(redis.look(name, rule, key, now).await),
        }
    }

    /// True when nothing is limited.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// Forgets keys that are full again; run now and then.
    pub fn sweep(&self, now: Timestamp) {
        match self {
            Self::Off => {}
            Self::Memory(memory) => memory.sweep(now),
            Self::Redis(redis) => redis.sweep(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        count: 1,
        per: Duration::from_secs(2),
    };

    #[tokio::test]
    async fn a_refusal_says_how_long_to_wait() {
        let (limits, now) = (Limits::memory(100), Timestamp::from_millis(5_000));
        let first = limits.take("messages", RULE, "ann", now).await;
        assert!(first.check("messages").is_ok());
        let problem = limits
            .take_now("messages", RULE, "ann", Timestamp::from_millis(5_500))
            .unwrap()
            .check("messages")
            .unwrap_err();
        assert_eq!(problem.code, Code::RateLimited);
        assert_eq!(problem.retry_after_ms(), Some(1_500));
    }

    #[test]
    fn a_client_with_a_network_of_its_own_has_one_key() {
        let key = |text: &str| address(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:7::1"), key("2001:db8:0:7:ffff::2"));
        assert_ne!(key("2001:db8:0:7::1"), key("2001:db8:0:8::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn nothing_is_limited_when_limits_are_off() {
        let now = Timestamp::from_millis(0);
        for _ in 0..3 {
            let decision = Limits::Off.take_now("messages", RULE, "ann", now).unwrap();
            assert!(decision.check("messages").is_ok());
        }
    }
}
