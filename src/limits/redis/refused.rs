//! Who was refused and need not ask again before the next token comes.
//!
//! No other node can make that time shorter, so a flood that was refused costs no call to a shard.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{Decision, Rule};

/// Keys that have to wait, each by a keyed hash.
#[derive(Debug)]
pub(super) struct Refused {
    shards: Box<[Mutex<HashMap<u64, Waiting>>]>,
    keyed: RandomState,
    shard_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    rule: Rule,
    until: Instant,
    full_at: Instant,
}

const SHARDS: usize = 16;
/// A refusal is believed for so long: a shard that lost its keys, or a changed rule, is noticed then.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

impl Refused {
    /// At most about so many keys.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keyed: RandomState::new(),
            shard_max: keys_max.div_ceil(SHARDS).max(1),
        }
    }

    /// The refusal that still holds, if there is one.
    pub(super) fn find(&self, name: &str, rule: Rule, key: &str, now: Instant) -> Option<Decision> {
        let hash = self.keyed.hash_one((name, key));
        let mut shard = self.shard(hash);
        let waiting = *shard.get(&hash)?;
        if waiting.until <= now || waiting.rule != rule {
            shard.remove(&hash);
            return None;
        }
        drop(shard);
        Some(Decision {
            limit: rule.count,
            remaining: 0,
            reset: waiting.full_at.saturating_duration_since(now),
            retry_after: Some(whole_ms(waiting.until.saturating_duration_since(now))),
        })
    }

    /// Remembers a refusal. `asked` is a time before the shard decided.
    pub(super) fn note(
        &self,
        (name, rule, key): (&str, Rule, &str),
        decision: &Decision,
        asked: Instant,
    ) {
        let Some(wait) = decision.retry_after else {
            return;
        };
        // A longer wait would be told too short near the end of the belief: it is asked again instead.
        if wait > BELIEVED_FOR {
            return;
        }
        let (until, full_at) = (asked.checked_add(wait), asked.checked_add(decision.reset));
        let (Some(until), Some(full_at)) = (until, full_at) else {
            return;
        };
        let hash = self.keyed.hash_one((name, key));
        let mut shard = self.shard(hash);
        if shard.len() >= self.shard_max {
            shard.retain(|_, waiting| waiting.until > asked);
        }
        if shard.len() < self.shard_max {
            let waiting = Waiting {
                rule,
                until,
                full_at,
            };
            shard.insert(hash, waiting);
        }
    }

    /// Forgets those who may come again.
    pub(super) fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|_, waiting| waiting.until > now);
            if shard.capacity() > 4 * shard.len().max(64) {
                let length = shard.len();
                shard.shrink_to(2 * length);
            }
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        lock(&self.shards[usize::try_from(hash >> 40).unwrap_or(0) % SHARDS])
    }
}

/// Rounded up: who waits that long passes.
fn whole_ms(wait: Duration) -> Duration {
    let ms = wait.as_micros().div_ceil(1_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX).max(1))
}

fn lock(shard: &Mutex<HashMap<u64, Waiting>>) -> MutexGuard<'_, HashMap<u64, Waiting>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        count: 2,
        per: Duration::from_secs(1),
    };

    fn refusal(wait: u64) -> Decision {
        Decision {
            limit: 2,
            remaining: 0,
            reset: Duration::from_secs(1),
            retry_after: Some(Duration::from_millis(wait)),
        }
    }

    #[test]
    fn a_refusal_holds_until_the_next_token_comes() {
        let (refused, start) = (Refused::new(100), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        refused.note(("a", RULE, "ann"), &refusal(500), start);
        let known = refused.find("a", RULE, "ann", after(200)).unwrap();
        assert_eq!(known.retry_after, Some(Duration::from_millis(300)));
        assert_eq!(
            (known.reset, known.remaining),
            (Duration::from_millis(800), 0)
        );
        assert!(refused.find("b", RULE, "ann", after(200)).is_none());
        assert!(refused.find("a", RULE, "bob", after(200)).is_none());
        assert!(refused.find("a", RULE, "ann", after(500)).is_none());
        let other = Rule { count: 3, ..RULE };
        refused.note(("a", RULE, "ann"), &refusal(500), start);
        assert!(
            refused.find("a", other, "ann", after(1)).is_none(),
            "its rule is another"
        );
    }

    #[test]
    fn a_crowd_is_bounded_and_forgotten() {
        let (refused, start) = (Refused::new(160), Instant::now());
        for n in 0..10_000 {
            refused.note(("a", RULE, &n.to_string()), &refusal(500), start);
        }
        let len = || -> usize { refused.shards.iter().map(|shard| lock(shard).len()).sum() };
        assert!(len() <= 160, "{}", len());
        refused.sweep(start + Duration::from_millis(500));
        assert_eq!(len(), 0);
    }
}
