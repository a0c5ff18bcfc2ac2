//! Limits that all nodes share: the same algorithm as a function on the key's shard, with its clock.
//!
//! A shard that does not answer in time is not waited for: this process then counts alone, so a
//! user has at most as many tokens as there are nodes, and after that the shard is left in peace for a
//! while. A key that was refused is refused here until its next token comes.

mod refused;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, cmd};

use super::memory::Memory;
use super::{Decision, Rule, gcra};
use crate::backend::redis::{Error, Scripted, Shards, name as named};
use crate::telemetry::metrics;
use crate::types::{ShardId, Timestamp};
use refused::Refused;

/// The functions; load them with every connection of the shards.
pub const LIBRARY: Scripted = include_str!("limits.lua");

/// Limits on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redis(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Shards,
    /// Who counts while a shard does not.
    alone: Memory,
    refused: Refused,
    patience: Duration,
    start: Instant,
    /// For each shard until when it is not asked, in milliseconds since `start`.
    quiet: Box<[AtomicU64]>,
    spread: RandomState,
}

/// How long a shard that did not answer is not asked again.
const QUIET_FOR: Duration = Duration::from_millis(1_000);

impl Redis {
    /// Limits on these shards; a shard may take `patience` to answer. About `keys_max` keys are
    /// remembered here while a shard does not.
    pub(super) fn new(shards: Shards, patience: Duration, keys_max: usize) -> Self {
        let quiet = shards.all().map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner {
            shards,
            alone: Memory::new(keys_max),
            refused: Refused::new(keys_max / 8),
            patience,
            start: Instant::now(),
            quiet,
            spread: RandomState::new(),
        }))
    }

    /// A refusal that needs no shard.
    pub(super) fn refused(&self, name: &str, rule: Rule, key: &str) -> Option<Decision> {
        self.0.refused.find(name, rule, key, Instant::now())
    }

    pub(super) async fn take(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        let asked = Instant::now();
        if let Some(decision) = self.0.refused.find(name, rule, key, asked) {
            return decision;
        }
        let shard = self.shard_of(name, key);
        match self.ask("vb1_take", (shard, name, key), rule, None).await {
            Some(decision) => {
                let refused = &self.0.refused;
                refused.note((name, rule, key), &decision, asked);
                decision
            }
            None => {
                metrics::LIMITS_ALONE.add(1);
                self.0.alone.take(name, rule, key, now)
            }
        }
    }

    pub(super) async fn look(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        let shard = self.shard_of(name, key);
        match self.ask("vb1_left", (shard, name, key), rule, None).await {
            Some(decision) => decision,
            None => self.0.alone.look(name, rule, key, now),
        }
    }

    /// Takes one token at this time instead of the server's, without anything that is remembered
    /// here; `None` when the shard does not answer. For tests of the algorithm.
    pub async fn take_at(
        &self,
        name: &str,
        rule: Rule,
        key: &str,
        at: Timestamp,
    ) -> Option<Decision> {
        let shard = self.shard_of(name, key);
        self.ask("vb1_take", (shard, name, key), rule, Some(at))
            .await
    }

    pub(super) fn sweep(&self, now: Timestamp) {
        self.0.alone.sweep(now);
        self.0.refused.sweep(Instant::now());
    }

    fn shard_of(&self, name: &str, key: &str) -> ShardId {
        self.0.shards.shard_of(&format!("l:{name}:{key}"))
    }

    async fn ask(
        &self,
        function: &str,
        (shard, name, key): (ShardId, &str, &str),
        rule: Rule,
        at: Option<Timestamp>,
    ) -> Option<Decision> {
        let quiet = self.0.quiet.get(usize::from(shard.0))?;
        if self.elapsed() < quiet.load(Ordering::Relaxed) {
            return None;
        }
        let call = call(function, &key_of(shard, name, key), rule, at);
        let asking = self.0.shards.ask::<(i64, i64)>(shard, &call);
        let error = match tokio::time::timeout(self.0.patience, asking).await {
            Ok(Ok((ahead, over))) => return Some(gcra::said(rule, ahead, over)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        // Spread, so that not everybody asks at once when it is over.
        let pause =
            ms(QUIET_FOR) * 3 / 4 + self.0.spread.hash_one(self.elapsed()) % (ms(QUIET_FOR) / 2);
        quiet.store(self.elapsed() + pause, Ordering::Relaxed);
        match error {
            Some(error) if !error.retry() => said_no(shard, &error),
            _ => tracing::debug!(%shard, "limits: a shard does not answer; this node counts alone"),
        }
        None
    }

    fn elapsed(&self) -> u64 {
        ms(self.0.start.elapsed())
    }
}

fn said_no(shard: ShardId, error: &Error) {
    tracing::error!(%shard, %error, "limits: a shard refused a call; this node counts alone");
}

fn call(function: &str, key: &str, rule: Rule, at: Option<Timestamp>) -> Cmd {
    let mut call = cmd(if function == "vb1_left" {
        "FCALL_RO"
    } else {
        "FCALL"
    });
    call.arg(function).arg(1).arg(key);
    call.arg(rule.count).arg(gcra::interval(rule));
    call.arg(at.map_or_else(String::new, |at| at.as_millis().to_string()));
    call
}

/// `{vbN}:l:NAME:KEY`. A name's own colons are escaped, so that no two limits share a key; what is long,
/// or looks like it, is hashed.
fn key_of(shard: ShardId, name: &str, key: &str) -> String {
    let tag = Shards::tag(shard);
    let name = name.replace('%', "%25").replace(':', "%3A");
    format!("{tag}:l:{name}:{}", named(key))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_limits_share_a_key() {
        let key = |name: &str, of: &str| key_of(ShardId(3), name, of);
        assert_eq!(key("messages", "ann"), "{vb3}:l:messages:ann");
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
        assert_ne!(key("a%3Ab", "c"), key("a:b", "c"));
        let long = "x".repeat(200);
        let hashed = key("a", &long);
        assert_eq!(hashed.len(), "{vb3}:l:a:#".len() + 32);
        let (_, made_up) = hashed.rsplit_once(':').unwrap();
        assert_ne!(key("a", made_up), hashed);
        assert_ne!(key("a", &"x".repeat(201)), hashed);
    }
}
