//! One cache's values on the shards: how they are written, and which may be read.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::shared::{HEARD_FOR, Place, Shared};
use crate::backend::redis::hashed;
use crate::telemetry::{Count, metrics};

/// How the values of a cache are written, and which of them are shared at all.
pub struct Codec<V> {
    /// `None` for a value that is not worth sharing.
    encode: fn(&V) -> Option<Vec<u8>>,
    decode: Decode<V>,
    /// Whether keys must not be seen on the shard.
    is_private: bool,
}

/// A value of that age from its bytes; `None` when it cannot be read, or must not be used any more.
type Decode<V> = Box<dyn Fn(&[u8], Duration) -> Option<V> + Send + Sync>;

impl<V: Serialize + DeserializeOwned> Codec<V> {
    /// As JSON.
    #[must_use]
    pub fn json() -> Self {
        Self::new(
            |value| serde_json::to_vec(value).ok(),
            |bytes, _| serde_json::from_slice(bytes).ok(),
        )
    }
}

impl<V> Codec<V> {
    /// As this says.
    #[must_use]
    pub fn new(
        encode: fn(&V) -> Option<Vec<u8>>,
        decode: impl Fn(&[u8], Duration) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        Self {
            encode,
            decode: Box::new(decode),
            is_private: false,
        }
    }

    /// The same with keys that cannot be read on the shard.
    #[must_use]
    pub fn private(self) -> Self {
        Self {
            is_private: true,
            ..self
        }
    }
}

/// The values of one cache on the shards.
pub(super) struct Level<V> {
    shared: Shared,
    cache: &'static str,
    codec: Codec<V>,
    heard: Mutex<Heard>,
    hits: Count,
    misses: Count,
}

/// Keys of which it was heard a moment ago that they changed. The word that takes them off the shard may
/// still be under way.
#[derive(Default)]
struct Heard {
    keys: HashMap<Arc<str>, Instant>,
    /// None of the cache is read before this.
    all_until: Option<Instant>,
}

/// The second level, in the metrics.
const LEVEL: &str = "l2";
/// Keys that are remembered; more of them are all.
const HEARD_MAX: usize = 16_384;
/// Values of more bytes are not unpacked.
const BYTES_MAX: u64 = 16 << 20;
/// What a value begins with.
const PLAIN: u8 = b'j';
const PACKED: u8 = b'z';

/// A place that was asked, and what allows to keep something there.
pub(super) struct Asked {
    place: Place,
    ticket: String,
}

impl<V> Level<V> {
    pub(super) fn new(shared: Shared, cache: &'static str, codec: Codec<V>) -> Self {
        let labels = [cache, LEVEL];
        Self {
            shared,
            cache,
            codec,
            heard: Mutex::default(),
            hits: metrics::CACHE_HITS.of(labels),
            misses: metrics::CACHE_MISSES.of(labels),
        }
    }

    /// A value that is younger than `age_max`, with its age; and where it can be kept otherwise.
    pub(super) async fn find(
        &self,
        key: &str,
        age_max: Duration,
    ) -> (Option<(V, Duration)>, Option<Asked>) {
        if self.has_heard(key) {
            return (None, None);
        }
        let place = self.place(key);
        let Some(answer) = self.shared.find(&place).await else {
            return (None, None);
        };
        let young = answer.value.filter(|(age, _)| *age < age_max);
        let value = young.and_then(|(age, bytes)| {
            let value = (self.codec.decode)(&unpacked(&bytes)?, age)?;
            Some((value, age))
        });
        let counter = if value.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.add(1);
        let ticket = answer.ticket;
        (value, Some(Asked { place, ticket }))
    }

    /// Keeps what was read from the store after the shard was asked.
    pub(super) fn keep(&self, asked: &Asked, value: &V, ttl: Duration) {
        let Some(bytes) = (self.codec.encode)(value) else {
            return;
        };
        if let Some(bytes) = packed(&bytes, self.shared.options().compress_over) {
            self.shared.keep(&asked.place, &asked.ticket, ttl, &bytes);
        }
    }

    /// This node changed it.
    pub(super) fn forget(&self, key: &str) {
        self.shared.forget(self.place(key), self.cache, key);
    }

    /// Another node says that it changed it, and takes it off the shard.
    pub(super) fn hear(&self, key: &str) {
        let mut heard = self.heard();
        if heard.keys.len() >= HEARD_MAX {
            heard.keys.retain(|_, until| Instant::now() < *until);
        }
        if heard.keys.len() < HEARD_MAX {
            heard
                .keys
                .insert(Arc::from(key), Instant::now() + HEARD_FOR);
        } else {
            heard.keys.clear();
            heard.all_until = Some(Instant::now() + HEARD_FOR);
        }
    }

    /// What others changed may not have been heard.
    pub(super) fn hear_all(&self) {
        let mut heard = self.heard();
        heard.keys.clear();
        heard.all_until = Some(Instant::now() + HEARD_FOR);
    }

    fn has_heard(&self, key: &str) -> bool {
        let heard = self.heard();
        let until = heard.keys.get(key).copied().max(heard.all_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &str) -> Place {
        if self.codec.is_private {
            let shown = hashed(key);
            return self.shared.place(self.cache, key, &shown);
        }
        self.shared.place(self.cache, key, key)
    }
}

fn packed(bytes: &[u8], over: usize) -> Option<Vec<u8>> {
    if bytes.len() <= over {
        let mut plain = Vec::with_capacity(bytes.len() + 1);
        plain.push(PLAIN);
        plain.extend_from_slice(bytes);
        return Some(plain);
    }
    let mut packed = DeflateEncoder::new(vec![PACKED], Compression::fast());
    packed.write_all(bytes).ok()?;
    packed.finish().ok()
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes.split_first()? {
        (&PLAIN, rest) => Some(rest.to_vec()),
        (&PACKED, rest) => {
            let mut plain = Vec::new();
            let mut all = DeflateDecoder::new(rest).take(BYTES_MAX);
            all.read_to_end(&mut plain).ok()?;
            Some(plain)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_over_a_size_are_packed() {
        let text = vec![b'a'; 10_000];
        for (over, first) in [(10_000, PLAIN), (9_999, PACKED)] {
            let written = packed(&text, over).unwrap();
            assert_eq!(
                (written[0], unpacked(&written)),
                (first, Some(text.clone()))
            );
        }
        assert!(packed(&text, 100).unwrap().len() < 100);
        assert_eq!(unpacked(b""), None);
        assert_eq!(unpacked(b"?x"), None);
        assert_eq!(unpacked(b"zx"), None);
    }
}
