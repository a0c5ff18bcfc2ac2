//! Limits within this process.
//!
//! A key is remembered by a keyed hash of 64 bits: names of any length cost the same, and nobody can
//! choose one that falls together with another's. Shards with a lock each; the lock is held for one
//! look-up. The number of keys is bounded: a shard that is full first forgets those that are full
//! again, then any one.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gcra::Full;
use super::{Decision, Rule};
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// One number for each key, in shards with a lock each.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Box<[Mutex<Shard>]>,
    keyed: RandomState,
    shard_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<u64, Full, BuildHasherDefault<AsIs>>,
    /// When it was last looked through because it was full.
    looked_through: Option<Timestamp>,
}

/// The key is a hash already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A power of two, far above the number of threads.
const SHARDS: usize = 64;
/// Between two looks through a full shard: each costs as much as it has keys.
const LOOK_EVERY_MS: i64 = 1_000;

impl Memory {
    /// At most about so many keys.
    pub(super) fn new(keys_max: usize) -> Self {
        Self(Arc::new(Inner {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keyed: RandomState::new(),
            shard_max: keys_max.div_ceil(SHARDS).max(1),
        }))
    }

    pub(super) fn take(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        let hash = self.0.keyed.hash_one((name, key));
        let mut shard = self.shard(hash);
        let known = shard.keys.get(&hash).copied();
        if known.is_none() {
            shard.make_room(self.0.shard_max, now);
        }
        let (full, decision) = known.unwrap_or(Full::ALWAYS).take(rule, now);
        shard.keys.insert(hash, full);
        decision
    }

    pub(super) fn look(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        let hash = self.0.keyed.hash_one((name, key));
        let known = self.shard(hash).keys.get(&hash).copied();
        known.unwrap_or(Full::ALWAYS).look(rule, now)
    }

    pub(super) fn sweep(&self, now: Timestamp) {
        for shard in &self.0.shards {
            lock(shard).forget_full(now);
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map uses the low bits and the top seven.
        let index = usize::try_from(hash >> 40).unwrap_or(0) % SHARDS;
        lock(&self.0.shards[index])
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0
            .shards
            .iter()
            .map(|shard| lock(shard).keys.len())
            .sum()
    }
}

impl Shard {
    fn forget_full(&mut self, now: Timestamp) {
        self.keys.retain(|_, full| !full.is_by(now));
        if self.keys.capacity() > 4 * self.keys.len().max(64) {
            self.keys.shrink_to(2 * self.keys.len());
        }
    }

    fn make_room(&mut self, max: usize, now: Timestamp) {
        if self.keys.len() < max {
            return;
        }
        let last = self.looked_through.map_or(i64::MIN, Timestamp::as_millis);
        if now.as_millis().saturating_sub(last) >= LOOK_EVERY_MS {
            self.looked_through = Some(now);
            self.forget_full(now);
        }
        if self.keys.len() >= max {
            // Whoever it is has its tokens back: a crowd of made-up keys must not shut others out.
            if let Some(any) = self.keys.keys().next().copied() {
                self.keys.remove(&any);
                metrics::LIMITS_FORGOTTEN.add(1);
            }
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Rule = Rule {
        count: 2,
        per: Duration::from_secs(1),
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    #[test]
    fn keys_and_names_have_tokens_of_their_own() {
        let memory = Memory::new(1_000);
        let passes = |name, key| memory.take(name, RULE, key, at(0)).retry_after.is_none();
        assert!(passes("a", "ann") && passes("a", "ann") && !passes("a", "ann"));
        assert!(passes("b", "ann") && passes("a", "bob"));
        // A name and a key are two things, not one text.
        assert!(passes("aa", "nn"));
    }

    #[test]
    fn what_is_full_again_is_forgotten() {
        let memory = Memory::new(1_000);
        memory.take("a", RULE, "ann", at(0));
        memory.take("a", RULE, "bob", at(400));
        memory.sweep(at(500));
        assert_eq!(memory.len(), 1);
        memory.sweep(at(900));
        assert_eq!(memory.len(), 0);
    }

    #[test]
    fn a_crowd_of_keys_is_bounded() {
        let memory = Memory::new(640);
        for n in 0..10_000 {
            let decision = memory.take("a", RULE, &n.to_string(), at(0));
            assert_eq!(decision.remaining, 1);
        }
        assert!(memory.len() <= 640, "{}", memory.len());
    }
}
