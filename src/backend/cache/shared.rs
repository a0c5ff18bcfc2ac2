//! Caches that nodes share, on Redis shards.
//!
//! What one node read from the store the others need not read again. It is never more than a hint: a
//! shard that does not answer in time is passed over, and left in peace for a moment.
//!
//! [`Shared::forget`] never waits. Until the shard has taken the word this node does not read the key
//! there, and the word is sent again for as long as it takes. Others, who may have read it there
//! meanwhile, are to be told again then ([`Shared::run`]). Words that are too many become one: forget
//! everything on that shard.
//!
//! Not here: values' types ([`level`](super::level)).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::{Notify, mpsc};
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::redis::{Error, Scripted, Shards, name};
use crate::telemetry::metrics;
use crate::types::ShardId;

/// The functions; load them with every connection of the shards.
pub const LIBRARY: Scripted = include_str!("cache.lua");

/// Caches on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Shards,
    options: Options,
    start: Instant,
    lanes: Vec<Lane>,
}

/// How shards are used as caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long a shard may take to answer before the store is asked.
    pub answer_within: Duration,
    /// Values of more bytes are compressed.
    pub compress_over: usize,
}

/// What goes to one shard.
#[derive(Debug)]
struct Lane {
    shard: ShardId,
    values: mpsc::Sender<Cmd>,
    /// Taken by the one who runs.
    taken: Mutex<Option<mpsc::Receiver<Cmd>>>,
    words: Mutex<Words>,
    is_said: Notify,
    /// Until when it is not asked, in milliseconds since the start.
    quiet: AtomicU64,
}

/// What is to be forgotten and may still be there.
#[derive(Debug, Default)]
struct Words {
    /// By the key on the shard.
    keys: HashMap<String, Word>,
    /// More than can be remembered: everything, since then.
    all: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Word {
    cache: &'static str,
    key: Arc<str>,
    since: Instant,
}

/// A word that reached its shard so late that others may have read the old value there since they were
/// told to forget it. They are to be told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Late {
    /// One key of a cache.
    Key(&'static str, Arc<str>),
    /// Everything.
    All,
}

/// Where a value is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    shard: ShardId,
    /// On the shard.
    key: String,
}

/// What a shard said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Without it nothing is kept.
    pub(super) ticket: String,
    /// How long ago it was read from the store, and the bytes.
    pub(super) value: Option<(Duration, Vec<u8>)>,
}

/// Who heard that a key was forgotten does not read it on the shard for so long.
pub(super) const HEARD_FOR: Duration = Duration::from_secs(5);
/// A word that reached the shard after this is told to everybody again.
const LATE_AFTER: Duration = Duration::from_millis(1_500);
/// Keys of one shard that wait to be forgotten.
const WORDS_MAX: usize = 16_384;
/// Values of one shard that wait to be kept.
const VALUES_MAX: usize = 1_024;
/// Calls in one message.
const BATCH: usize = 256;
/// How long a shard may take to forget before it is asked again.
const FORGETS_WITHIN: Duration = Duration::from_secs(1);
/// How long words wait for a shard that is away.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a shard that did not answer is not asked for values.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// Larger values are not shared: they would hold others up.
const BYTES_MAX: usize = 1 << 20;
/// Keys that share a counter: one that is forgotten makes tickets of the others worthless too.
const BUCKETS: u64 = 4_096;

impl Shared {
    /// Caches on these shards, which load [`LIBRARY`].
    #[must_use]
    pub fn new(shards: Shards, options: Options) -> Self {
        let lane = |shard| {
            let (values, taken) = mpsc::channel(VALUES_MAX);
            Lane {
                shard,
                values,
                taken: Mutex::new(Some(taken)),
                words: Mutex::default(),
                is_said: Notify::new(),
                quiet: AtomicU64::new(0),
            }
        };
        let lanes = shards.all().map(lane).collect();
        Self(Arc::new(Inner {
            shards,
            options,
            start: Instant::now(),
            lanes,
        }))
    }

    /// Takes what is to be kept and forgotten to the shards, for ever; to be called once. `again` is told
    /// of what others have to hear a second time.
    pub async fn run(self, again: impl Fn(Late)) {
        let lanes = self.0.lanes.iter().map(async |lane| {
            let taken = lock(&lane.taken).take();
            let values = async {
                if let Some(taken) = taken {
                    self.keep_all(lane, taken).await;
                }
            };
            tokio::join!(values, self.forget_all(lane, &again));
        });
        join_all(lanes).await;
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Where a key of a cache is; the second is how it is called there.
    pub(super) fn place(&self, cache: &str, key: &str, shown: &str) -> Place {
        let shard = self.0.shards.shard_of(&format!("x:{cache}:{key}"));
        // A key of two parts has a line break between them.
        let shown = shown
            .replace('%', "%25")
            .replace('/', "%2F")
            .replace('\n', "/");
        let key = format!("{}:x:{cache}:{}", Shards::tag(shard), name(&shown));
        Place { shard, key }
    }

    /// Asks for a value; `None` when its shard is not to be asked, or does not answer.
    pub(super) async fn find(&self, place: &Place) -> Option<Answer> {
        let lane = self.lane(place)?;
        if self.elapsed() < lane.quiet.load(Ordering::Relaxed) || lane.waits(&place.key) {
            return None;
        }
        let mut call = cmd("FCALL_RO");
        call.arg("vb1_cached").arg(2);
        call.arg(counters(place.shard)).arg(&place.key);
        call.arg(bucket(&place.key));
        let asked = self.0.shards.ask::<Vec<Value>>(place.shard, &call);
        match tokio::time::timeout(self.0.options.answer_within, asked).await {
            Ok(Ok(answer)) => return read(answer),
            Ok(Err(error)) if !error.retry() => {
                tracing::error!(shard = %place.shard, %error, "caches: a shard refused a call");
            }
            _ => tracing::debug!(shard = %place.shard, "caches: a shard does not answer"),
        }
        metrics::CACHE_SHARD_SILENT.add(1);
        let until = self.elapsed() + ms(QUIET_FOR);
        lane.quiet.store(until, Ordering::Relaxed);
        None
    }

    /// Has a value kept that was read after the ticket was given; dropped when there are too many.
    pub(super) fn keep(&self, place: &Place, ticket: &str, ttl: Duration, value: &[u8]) {
        if value.len() > BYTES_MAX {
            return;
        }
        let mut call = cmd("FCALL");
        call.arg("vb1_cache_keep").arg(2);
        call.arg(counters(place.shard)).arg(&place.key);
        call.arg(bucket(&place.key)).arg(ticket);
        call.arg(ms(ttl)).arg(value);
        if let Some(lane) = self.lane(place) {
            // The next one who reads it from the store tries again.
            drop(lane.values.try_send(call));
        }
    }

    /// Has a value forgotten. From now on nobody here gets it from its shard.
    pub(super) fn forget(&self, place: Place, cache: &'static str, key: &str) {
        let Some(lane) = self.lane(&place) else {
            return;
        };
        let since = Instant::now();
        let mut words = lock(&lane.words);
        if words.all.is_none() {
            let key = Arc::from(key);
            words.keys.insert(place.key, Word { cache, key, since });
            if words.keys.len() > WORDS_MAX {
                words.keys.clear();
                words.all = Some(since);
            }
        } else {
            // What is being forgotten now may have been read before this change.
            words.all = Some(since);
        }
        drop(words);
        lane.is_said.notify_one();
    }

    fn lane(&self, place: &Place) -> Option<&Lane> {
        self.0.lanes.get(usize::from(place.shard.0))
    }

    async fn keep_all(&self, lane: &Lane, mut taken: mpsc::Receiver<Cmd>) {
        let mut batch = Vec::with_capacity(BATCH);
        while taken.recv_many(&mut batch, BATCH).await > 0 {
            let calls = pipeline(batch.drain(..));
            let answers = self.0.shards.ask_all(lane.shard, &calls).await;
            for error in answers.into_iter().flatten().filter_map(Result::err) {
                tracing::debug!(shard = %lane.shard, %error, "caches: a value was not kept");
            }
        }
    }

    async fn forget_all(&self, lane: &Lane, again: &impl Fn(Late)) {
        loop {
            lane.is_said.notified().await;
            while let Some(said) = lane.next() {
                let sent = self.say(lane.shard, &said);
                if matches!(tokio::time::timeout(FORGETS_WITHIN, sent).await, Ok(true)) {
                    lane.done(said, again);
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// True when the shard has forgotten all of it.
    async fn say(&self, shard: ShardId, said: &Said) -> bool {
        let calls = match said {
            Said::All(_) => {
                let mut call = cmd("FCALL");
                call.arg("vb1_cache_forget_all").arg(1).arg(counters(shard));
                vec![call]
            }
            Said::Keys(keys) => keys.iter().map(|(key, _)| forget(shard, key)).collect(),
        };
        let calls = pipeline(calls.into_iter());
        let answers = self.0.shards.ask_all(shard, &calls).await;
        let outcome: Result<Vec<Value>, Error> = answers.and_then(|all| all.into_iter().collect());
        if let Err(error) = &outcome {
            tracing::warn!(%shard, %error, "caches: a shard was not told to forget; trying again");
        }
        outcome.is_ok()
    }

    fn elapsed(&self) -> u64 {
        ms(self.0.start.elapsed())
    }
}

/// What is being said to a shard.
#[derive(Debug)]
enum Said {
    All(Instant),
    Keys(Vec<(String, Word)>),
}

impl Lane {
    /// Whether a key is to be forgotten and may still be there.
    fn waits(&self, key: &str) -> bool {
        let words = lock(&self.words);
        words.all.is_some() || words.keys.contains_key(key)
    }

    /// What is to be said next. It stays on the list until it was taken.
    fn next(&self) -> Option<Said> {
        let words = lock(&self.words);
        if let Some(since) = words.all {
            return Some(Said::All(since));
        }
        let keys = words.keys.iter().take(BATCH);
        let keys: Vec<_> = keys
            .map(|(key, word)| (key.clone(), word.clone()))
            .collect();
        (!keys.is_empty()).then_some(Said::Keys(keys))
    }

    /// The shard has forgotten it. What was said again meanwhile stays on the list.
    fn done(&self, said: Said, again: &impl Fn(Late)) {
        let mut late = Vec::new();
        let mut words = lock(&self.words);
        match said {
            Said::All(since) => {
                if words.all == Some(since) {
                    words.all = None;
                }
                late.push(Late::All);
            }
            Said::Keys(keys) => {
                for (
                    key,
                    Word {
                        cache,
                        key: name,
                        since,
                    },
                ) in keys
                {
                    if words.keys.get(&key).is_some_and(|word| word.since == since) {
                        words.keys.remove(&key);
                    }
                    if since.elapsed() > LATE_AFTER {
                        late.push(Late::Key(cache, name));
                    }
                }
            }
        }
        drop(words);
        late.into_iter().for_each(again);
    }
}

fn forget(shard: ShardId, key: &str) -> Cmd {
    let mut call = cmd("FCALL");
    call.arg("vb1_cache_forget").arg(2);
    call.arg(counters(shard)).arg(key).arg(bucket(key));
    call
}

fn read(answer: Vec<Value>) -> Option<Answer> {
    let mut answer = answer.into_iter();
    let ticket = redis::from_redis_value(answer.next()?).ok()?;
    let value = match (answer.next(), answer.next()) {
        (Some(Value::Int(age)), Some(Value::BulkString(bytes))) => {
            let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
            Some((age, bytes))
        }
        _ => None,
    };
    Some(Answer { ticket, value })
}

fn pipeline(calls: impl Iterator<Item = Cmd>) -> Pipeline {
    let mut all = Pipeline::new();
    for call in calls {
        all.add_command(call);
    }
    all
}

/// `{vbN}:xg`.
fn counters(shard: ShardId) -> String {
    format!("{}:xg", Shards::tag(shard))
}

/// The same on every node.
fn bucket(key: &str) -> u64 {
    xxh3_64(key.as_bytes()) % BUCKETS
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
