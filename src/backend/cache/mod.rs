//! A bounded cache in this process, for what is read often from a store that may be slow or away.
//!
//! - A miss is loaded once, however many ask for it meanwhile (single-flight); when the one who
//!   began it gives up, the others carry it on.
//! - Whoever asks after [`Cache::forget`] has returned gets what was loaded after it: a load that
//!   was under way is left to those who waited for it already and is not kept.
//! - An expired value is kept for a grace. When the store fails or takes too long it is served,
//!   marked stale, and the store is left in peace for a moment.
//! - Answers that say "there is none" are kept for a shorter time.
//! - Where nodes share a second level ([`Shared`]), a load looks there before it asks the store, and what
//!   the store said goes there.
//!
//! Not here: telling other nodes what to forget, and which values there are.

mod kept;
mod level;
pub mod shared;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared as Joined, WeakShared};
use moka::sync::Cache as Kept;
use tokio::time::Instant;

use crate::telemetry::Count;
use crate::telemetry::metrics;
use kept::{Entry, Grace};
use level::Level;

pub use level::Codec;
pub use shared::{Late, Shared};

/// How a cache keeps its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Its name: the metrics' label, and what other nodes call it.
    pub name: &'static str,
    /// How long a value is fresh.
    pub ttl: Duration,
    /// How long an answer that says "there is none" is fresh; at most `ttl`.
    pub negative_ttl: Duration,
    /// How much longer a value is kept for when the store does not answer.
    pub grace: Duration,
    /// Values kept; beyond it the least used go.
    pub entries_max: u64,
    /// How long the store may take while there is an expired value to serve instead.
    pub answer_within: Duration,
}

/// A value, and whether it is older than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached<V> {
    /// The value.
    pub value: V,
    /// True when the store did not answer and an expired value was served.
    pub is_stale: bool,
}

/// A cache of `V`, whose loads fail with `E`. Cheap to clone; clones are the same cache.
pub struct Cache<V, E>(Arc<Inner<V, E>>);

struct Inner<V, E> {
    options: Options,
    is_negative: fn(&V) -> bool,
    kept: Kept<Arc<str>, Entry<V>>,
    /// Between this process and the store.
    level: Option<Level<V>>,
    /// What is being loaded. A load may keep its value only while it is noted here; this is where
    /// keeping and forgetting are one after the other.
    flights: Mutex<Flights<V, E>>,
    hits: Count,
    misses: Count,
    stale: Count,
}

struct Flights<V, E> {
    next: u64,
    under_way: HashMap<Arc<str>, Flight<V, E>>,
}

/// A load, alive as long as somebody waits for it.
struct Flight<V, E> {
    number: u64,
    load: WeakShared<Load<V, E>>,
}

type Load<V, E> = BoxFuture<'static, Result<V, E>>;

/// After a failure old values are served for this long without asking the store again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// This process.
const LEVEL: &str = "l1";

impl<V, E> Clone for Cache<V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V, E> fmt::Debug for Cache<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl<V, E> Cache<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// An empty cache; `is_negative` tells the values that say "there is none".
    #[must_use]
    pub fn new(options: Options, is_negative: fn(&V) -> bool) -> Self {
        Self::with(options, is_negative, None)
    }

    /// The same with a second level, and how values are written there.
    #[must_use]
    pub fn shared(
        options: Options,
        is_negative: fn(&V) -> bool,
        (shared, codec): (Shared, Codec<V>),
    ) -> Self {
        let level = Level::new(shared, options.name, codec);
        Self::with(options, is_negative, Some(level))
    }

    fn with(options: Options, is_negative: fn(&V) -> bool, level: Option<Level<V>>) -> Self {
        let kept = Kept::builder()
            .name(options.name)
            .max_capacity(options.entries_max)
            .expire_after(Grace)
            .build();
        let labels = [options.name, LEVEL];
        Self(Arc::new(Inner {
            options,
            is_negative,
            kept,
            level,
            flights: Mutex::new(Flights {
                next: 0,
                under_way: HashMap::new(),
            }),
            hits: metrics::CACHE_HITS.of(labels),
            misses: metrics::CACHE_MISSES.of(labels),
            stale: metrics::CACHE_STALE.of(labels),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.options.name
    }

    /// The value of a key, loaded if it is not here. Cancel-safe.
    ///
    /// # Errors
    /// What the load failed with, when there is no old value to serve.
    pub async fn get_with<F>(&self, key: &str, load: impl FnOnce() -> F) -> Result<Cached<V>, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.get_for(key, self.0.options.ttl, load).await
    }

    /// The same with a time to live of its own, for a value that is loaded now.
    ///
    /// # Errors
    /// As [`get_with`](Self::get_with).
    pub async fn get_for<F>(
        &self,
        key: &str,
        ttl: Duration,
        load: impl FnOnce() -> F,
    ) -> Result<Cached<V>, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let old = match self.0.look(key) {
            Look::Good(cached) => return Ok(cached),
            Look::Expired(value) => Some(value),
            Look::Nothing => None,
        };
        self.0.misses.add(1);
        let times = Times {
            ttl,
            fresh_for: Duration::ZERO,
        };
        let (number, load) = match self.board(key, times, load) {
            Boarding::Late(cached) => return Ok(cached),
            Boarding::Aboard(number, load) => (number, load),
        };
        let fresh = |value| Cached {
            value,
            is_stale: false,
        };
        let Some(old) = old else {
            return load.await.map(fresh);
        };
        match tokio::time::timeout(self.0.options.answer_within, load.clone()).await {
            Ok(Ok(value)) => return Ok(fresh(value)),
            // What failed was noted by the load itself.
            Ok(Err(_)) => {}
            Err(_) => self.0.spare(key, number),
        }
        drop(load);
        self.0.stale.add(1);
        Ok(Cached {
            value: old,
            is_stale: true,
        })
    }

    /// The value of a key if it is here and may be served without asking.
    #[must_use]
    pub fn now(&self, key: &str) -> Option<V> {
        match self.0.look(key) {
            Look::Good(cached) => Some(cached.value),
            Look::Expired(_) | Look::Nothing => None,
        }
    }

    /// What is kept under a key, good or not. Not counted as a read.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<V> {
        self.0.kept.get(key).map(|entry| entry.value)
    }

    /// Ends a value's time here: whoever asks from now on gets what is loaded after this, and the old
    /// value only while the store does not answer. What a second level has is its codec's to judge.
    pub fn expire(&self, key: &str) {
        let mut flights = self.0.flights();
        let Some(mut entry) = self.0.kept.get(key) else {
            return;
        };
        let now = Instant::now();
        // One that has expired is being loaded, or the store is left in peace for a moment.
        if entry.is_stale || now >= entry.fresh_until {
            return;
        }
        flights.under_way.remove(key);
        entry.fresh_until = now;
        self.0.kept.insert(Arc::from(key), entry);
    }

    /// Forgets a key everywhere but in other processes, which are to be told. Call it after the change
    /// is in the store.
    pub fn change(&self, key: &str) {
        // First there, or it could be read there once more after it was forgotten here.
        if let Some(level) = &self.0.level {
            level.forget(key);
        }
        self.forget(key);
    }

    /// Forgets a key that changed. Call it after the change is in the store.
    pub fn forget(&self, key: &str) {
        if let Some(level) = &self.0.level {
            level.hear(key);
        }
        let mut flights = self.0.flights();
        flights.under_way.remove(key);
        self.0.kept.invalidate(key);
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        if let Some(level) = &self.0.level {
            level.hear_all();
        }
        let mut flights = self.0.flights();
        flights.under_way.clear();
        self.0.kept.invalidate_all();
    }

    /// Reads the value of a key anew unless it stays fresh for that long. Not counted as a read.
    ///
    /// # Errors
    /// What the load failed with; an old value is kept then.
    pub async fn refresh<F>(
        &self,
        key: &str,
        fresh_for: Duration,
        load: impl FnOnce() -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let times = Times {
            ttl: self.0.options.ttl,
            fresh_for,
        };
        match self.board(key, times, load) {
            Boarding::Late(_) => Ok(()),
            Boarding::Aboard(_, load) => load.await.map(drop),
        }
    }

    /// Joins the load of a key, or begins it.
    fn board<F>(&self, key: &str, times: Times, load: impl FnOnce() -> F) -> Boarding<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let mut flights = self.0.flights();
        if let Some(flight) = flights.under_way.get(key)
            && let Some(load) = flight.load.upgrade()
        {
            return Boarding::Aboard(flight.number, load);
        }
        // It may have landed between our look and this lock.
        if let Some(entry) = self.0.kept.get(key)
            && Instant::now() + times.fresh_for < entry.fresh_until
        {
            return Boarding::Late(entry.cached());
        }
        flights.next += 1;
        let (number, key) = (flights.next, Arc::<str>::from(key));
        let landing = Landing {
            cache: self.clone(),
            key: Arc::clone(&key),
            number,
        };
        let load = load();
        let load = async move {
            let (outcome, ttl) = match &landing.cache.0.level {
                Some(level) => landing.through(level, times, load).await,
                None => (load.await, times.ttl),
            };
            landing.land(&outcome, ttl);
            outcome
        };
        let load = load.boxed().shared();
        if let Some(weak) = load.downgrade() {
            flights.under_way.insert(key, Flight { number, load: weak });
        }
        Boarding::Aboard(number, load)
    }
}

#[derive(Debug, Clone, Copy)]
struct Times {
    /// How long a value that is loaded now is fresh.
    ttl: Duration,
    /// A value that is kept is loaded again unless it stays fresh for this long.
    fresh_for: Duration,
}

enum Boarding<V, E> {
    /// There is a value by now.
    Late(Cached<V>),
    Aboard(u64, Joined<Load<V, E>>),
}

enum Look<V> {
    Good(Cached<V>),
    Expired(V),
    Nothing,
}

impl<V, E> Inner<V, E>
where
    V: Clone + Send + Sync + 'static,
{
    fn look(&self, key: &str) -> Look<V> {
        let Some(entry) = self.kept.get(key) else {
            return Look::Nothing;
        };
        let now = Instant::now();
        if now >= entry.kept_until {
            return Look::Nothing;
        }
        if now >= entry.fresh_until {
            return Look::Expired(entry.value);
        }
        let counter = if entry.is_stale {
            &self.stale
        } else {
            &self.hits
        };
        counter.add(1);
        Look::Good(entry.cached())
    }

    /// Keeps serving what has expired for a moment, because the store did not answer in time.
    fn spare(&self, key: &str, number: u64) {
        let flights = self.flights();
        if flights.is_current(key, number) {
            self.extend(key);
        }
    }

    /// Only under the lock of `flights`.
    fn extend(&self, key: &str) {
        if let Some(mut entry) = self.kept.get(key) {
            entry.is_stale = true;
            entry.fresh_until = entry.kept_until.min(Instant::now() + RETRY_AFTER);
            self.kept.insert(Arc::from(key), entry);
        }
    }

    fn keep(&self, key: &Arc<str>, value: V, ttl: Duration) {
        let ttl = if (self.is_negative)(&value) {
            ttl.min(self.options.negative_ttl)
        } else {
            ttl
        };
        let fresh_until = Instant::now() + ttl;
        let entry = Entry {
            value,
            fresh_until,
            kept_until: fresh_until + self.options.grace,
            is_stale: false,
        };
        self.kept.insert(Arc::clone(key), entry);
    }
}

impl<V, E> Inner<V, E> {
    fn flights(&self) -> MutexGuard<'_, Flights<V, E>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V, E> Flights<V, E> {
    fn is_current(&self, key: &str, number: u64) -> bool {
        self.under_way
            .get(key)
            .is_some_and(|flight| flight.number == number)
    }
}

/// Takes a load off the list, with its value if it is over, without when nobody waits any more.
struct Landing<V, E> {
    cache: Cache<V, E>,
    key: Arc<str>,
    number: u64,
}

impl<V, E> Landing<V, E>
where
    V: Clone + Send + Sync + 'static,
{
    /// The value of the second level, or of the store; and how much longer it is fresh.
    async fn through(
        &self,
        level: &Level<V>,
        times: Times,
        load: impl Future<Output = Result<V, E>>,
    ) -> (Result<V, E>, Duration) {
        let age_max = times.ttl.saturating_sub(times.fresh_for);
        let (found, asked) = level.find(&self.key, age_max).await;
        if let Some((value, age)) = found {
            return (Ok(value), times.ttl.saturating_sub(age));
        }
        let outcome = load.await;
        if let (Ok(value), Some(asked)) = (&outcome, asked)
            && !(self.cache.0.is_negative)(value)
        {
            level.keep(&asked, value, times.ttl);
        }
        (outcome, times.ttl)
    }

    fn land(&self, outcome: &Result<V, E>, ttl: Duration) {
        let inner = &self.cache.0;
        let mut flights = inner.flights();
        if !flights.is_current(&self.key, self.number) {
            return;
        }
        flights.under_way.remove(&self.key);
        match outcome {
            Ok(value) => inner.keep(&self.key, value.clone(), ttl),
            Err(_) => inner.extend(&self.key),
        }
    }
}

impl<V, E> Drop for Landing<V, E> {
    fn drop(&mut self) {
        let mut flights = self.cache.0.flights();
        if flights.is_current(&self.key, self.number) {
            flights.under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::{join_all, pending};
    use tokio::sync::oneshot;

    use super::*;

    type Numbers = Cache<Option<u32>, &'static str>;

    fn cache() -> Numbers {
        let options = Options {
            name: "test",
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            grace: Duration::from_secs(600),
            entries_max: 100,
            answer_within: Duration::from_millis(500),
        };
        Cache::new(options, Option::is_none)
    }

    async fn get(
        cache: &Numbers,
        answer: Result<Option<u32>, &'static str>,
    ) -> (Option<u32>, bool) {
        let found = cache.get_with("k", || async move { answer }).await.unwrap();
        (found.value, found.is_stale)
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_loaded_once_until_it_expires() {
        let cache = cache();
        assert_eq!(cache.now("k"), None);
        assert_eq!(get(&cache, Ok(Some(1))).await, (Some(1), false));
        assert_eq!(get(&cache, Ok(Some(2))).await, (Some(1), false));
        assert_eq!(cache.now("k"), Some(Some(1)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(cache.now("k"), None);
        assert_eq!(get(&cache, Ok(Some(3))).await, (Some(3), false));
        cache.forget("k");
        assert_eq!(get(&cache, Ok(None)).await, (None, false));
        assert_eq!(cache.now("k"), Some(None));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(
            get(&cache, Ok(Some(4))).await,
            (Some(4), false),
            "that there is none is soon asked again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_about_to_expire_can_be_read_anew() {
        let cache = cache();
        get(&cache, Ok(Some(1))).await;
        let refresh = |number| {
            cache.refresh("k", Duration::from_secs(20), move || async move {
                Ok(Some(number))
            })
        };
        refresh(2).await.unwrap();
        assert_eq!(cache.now("k"), Some(Some(1)));
        tokio::time::advance(Duration::from_secs(45)).await;
        refresh(3).await.unwrap();
        assert_eq!(cache.now("k"), Some(Some(3)));
        cache.forget_all();
        assert_eq!(cache.now("k"), None);
    }

    #[tokio::test]
    async fn a_hundred_askers_are_one_load() {
        let (cache, loads) = (cache(), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let loads = Arc::clone(&loads);
            cache.get_with("k", move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Some(loads.fetch_add(1, Ordering::Relaxed)))
            })
        };
        for found in join_all((0..100).map(|_| ask())).await {
            assert_eq!(found.unwrap().value, Some(0));
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_load_goes_on_when_the_one_who_began_it_gives_up() {
        let cache = cache();
        let (answer, question) = oneshot::channel();
        let mut first = Box::pin(cache.get_with("k", || async { Ok(question.await.ok()) }));
        assert!((&mut first).now_or_never().is_none());
        let second = cache.get_with("k", || async { Err("not begun") });
        let mut second = Box::pin(second);
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        answer.send(7).unwrap();
        assert_eq!(second.await.unwrap().value, Some(7));
        assert_eq!(cache.now("k"), Some(Some(7)));
    }

    #[tokio::test]
    async fn a_load_that_nobody_waits_for_leaves_nothing_behind() {
        let cache = cache();
        let first = cache.get_with("k", pending::<Result<Option<u32>, _>>);
        assert!(Box::pin(first).now_or_never().is_none());
        assert!(cache.0.flights().under_way.is_empty());
        assert_eq!(get(&cache, Ok(Some(1))).await.0, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_expired_is_loaded_again_and_served_only_when_that_fails() {
        let cache = cache();
        let one = cache.get_with("k", || async { Ok(Some(1)) }).await.unwrap();
        assert_eq!((one.value, cache.peek("k")), (Some(1), Some(Some(1))));
        cache.expire("k");
        let old = cache.get_with("k", || async { Err("away") }).await.unwrap();
        assert_eq!((old.value, old.is_stale), (Some(1), true));
        // The store is left in peace for a moment, whatever else expires.
        cache.expire("k");
        let old = cache.get_with("k", || async { Ok(Some(2)) }).await.unwrap();
        assert_eq!((old.value, old.is_stale), (Some(1), true));
        tokio::time::advance(RETRY_AFTER).await;
        let new = cache.get_with("k", || async { Ok(Some(3)) }).await.unwrap();
        assert_eq!((new.value, new.is_stale), (Some(3), false));
        cache.expire("nothing");
        assert_eq!(cache.peek("nothing"), None);
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept_after_it() {
        let cache = cache();
        let (answer, question) = oneshot::channel();
        let mut early = Box::pin(cache.get_with("k", || async { Ok(question.await.ok()) }));
        assert!((&mut early).now_or_never().is_none());
        // The old value was read; now the store changes and the key is forgotten.
        cache.forget("k");
        assert_eq!(
            get(&cache, Ok(Some(2))).await.0,
            Some(2),
            "not the flight from before"
        );
        answer.send(1).unwrap();
        assert_eq!(
            early.await.unwrap().value,
            Some(1),
            "asked before the change"
        );
        assert_eq!(
            cache.now("k"),
            Some(Some(2)),
            "the late flight has not overwritten it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_value_is_served_as_stale_while_the_store_fails() {
        let cache = cache();
        assert_eq!(get(&cache, Ok(Some(1))).await, (Some(1), false));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(get(&cache, Err("away")).await, (Some(1), true));
        // The store is left in peace for a moment, then asked again.
        assert_eq!(get(&cache, Ok(Some(2))).await, (Some(1), true));
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_eq!(get(&cache, Ok(Some(2))).await, (Some(2), false));
        tokio::time::advance(Duration::from_secs(661)).await;
        let over = cache.get_with("k", || async { Err("away") }).await;
        assert_eq!(over.unwrap_err(), "away", "the grace is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_too_long_is_not_waited_for() {
        let cache = cache();
        get(&cache, Ok(Some(1))).await;
        tokio::time::advance(Duration::from_secs(61)).await;
        let began = Instant::now();
        let slow = cache.get_with("k", pending::<Result<Option<u32>, _>>);
        assert!(slow.await.unwrap().is_stale);
        assert_eq!(began.elapsed(), Duration::from_millis(500));
        // Forgotten is forgotten, whatever the store does.
        cache.forget("k");
        let gone = cache.get_with("k", || async { Err("away") }).await;
        assert_eq!(gone.unwrap_err(), "away");
    }
}
