//! Whether what the node depends on works: the log, the rooms' shards, the archive.
//!
//! Whoever looks after a dependency says each time how it went. One failure is nothing yet: a dependency
//! is down when it has failed for [`DOWN_AFTER`], and up again when it has worked for [`UP_AFTER`], so that
//! clients are not told of every hiccup. All of them are shared by the nodes of a cluster; a trouble is
//! shown, and the node stays ready ([`Scope::Shared`]).
//!
//! Not here: how it is found out, and how clients are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::readiness::{Readiness, Scope};
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// What clients are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Nothing can be stored: what is sent is refused with a time to wait.
    Log,
    /// Some rooms, or all, get nothing new and cannot be joined.
    Rooms,
    /// What is older than rooms keep, and accounts, cannot be read or changed.
    Archive,
}

impl What {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Rooms => "rooms",
            Self::Archive => "archive",
        }
    }
}

/// Something that does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What.
    pub what: What,
    /// Since when, as this node saw it.
    pub since: Timestamp,
}

/// For how long something fails until it is down.
pub const DOWN_AFTER: Duration = Duration::from_millis(1_500);
/// For how long something works until it is up again.
pub const UP_AFTER: Duration = Duration::from_secs(1);

/// Knows what works. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    readiness: Readiness,
    /// By kind, and by the name of a part of it.
    known: Mutex<BTreeMap<(What, String), Standing>>,
    changes: watch::Sender<()>,
}

/// One dependency's side of it.
pub struct Watched {
    health: Health,
    key: (What, String),
}

impl Health {
    /// Nothing is depended on yet.
    #[must_use]
    pub fn new(readiness: Readiness) -> Self {
        Self(Arc::new(Inner {
            readiness,
            known: Mutex::default(),
            changes: watch::channel(()).0,
        }))
    }

    /// Something that the node depends on from now on; `part` tells several of a kind apart.
    #[must_use]
    pub fn depend(&self, what: What, part: &str) -> Watched {
        let key = (what, part.to_owned());
        metrics::DEPENDENCY_UP.of([&label(&key)]).set(1.0);
        metrics::DEPENDENCY_DEGRADED.of([&label(&key)]).add(0);
        self.lock().insert(key.clone(), Standing::default());
        let health = self.clone();
        Watched { health, key }
    }

    /// What does not work now, each kind once, since its first part failed.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut since: BTreeMap<What, Timestamp> = BTreeMap::new();
        for ((what, _), standing) in self.lock().iter() {
            if let Some(down) = &standing.down {
                let first = since.entry(*what).or_insert(down.since);
                *first = (*first).min(down.since);
            }
        }
        let all = since.into_iter();
        all.map(|(what, since)| Trouble { what, since }).collect()
    }

    /// Whether this part does not work now. What nobody looks after works.
    #[must_use]
    pub fn is_down(&self, what: What, part: &str) -> bool {
        let known = self.lock();
        let standing = known.get(&(what, part.to_owned()));
        standing.is_some_and(|standing| standing.down.is_some())
    }

    /// Told whenever [`troubles`](Self::troubles) may answer something else.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Shows a kind's troubles where the operator looks.
    fn show(&self, what: What) {
        let known = self.lock();
        let parts = known.iter().filter(|((kind, _), _)| *kind == what);
        let texts = parts.filter_map(|((_, part), standing)| {
            let down = standing.down.as_ref()?;
            let name = if part.is_empty() { what.name() } else { part };
            Some(format!("{name} since {}: {}", down.since, down.text))
        });
        let text = texts.collect::<Vec<_>>().join("; ");
        let readiness = &self.0.readiness;
        if text.is_empty() {
            readiness.recover(what.name());
        } else {
            readiness.degrade(Scope::Shared, what.name(), text);
        }
        drop(known);
        self.0.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(What, String), Standing>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// It worked just now.
    pub fn worked(&self) {
        self.note(|standing| standing.worked(Instant::now()));
    }

    /// It did not work, when it was asked at `began` (by both clocks).
    pub fn failed(&self, (began, at): (Instant, Timestamp), text: &str) {
        self.note(|standing| standing.failed(Instant::now(), (began, at), text));
    }

    /// Whether nothing is wrong with it, not even for a moment.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        let known = self.health.lock();
        let standing = known.get(&self.key);
        standing.is_some_and(|standing| standing.failing.is_none() && standing.down.is_none())
    }

    fn note(&self, act: impl FnOnce(&mut Standing) -> bool) {
        let label = label(&self.key);
        let mut known = self.health.lock();
        let Some(standing) = known.get_mut(&self.key) else {
            return;
        };
        let has_changed = act(standing);
        let seconds = standing.count(Instant::now());
        let down = standing.down.clone();
        drop(known);
        metrics::DEPENDENCY_DEGRADED.of([&label]).add(seconds);
        if !has_changed {
            return;
        }
        metrics::DEPENDENCY_UP
            .of([&label])
            .set(if down.is_some() { 0.0 } else { 1.0 });
        match down {
            Some(Down { since, text, .. }) => {
                tracing::warn!(dependency = %label, %since, %text, "does not work; clients are told");
            }
            None => tracing::info!(dependency = %label, "works again"),
        }
        self.health.show(self.key.0);
    }
}

fn label((what, part): &(What, String)) -> String {
    match part.as_str() {
        "" => what.name().to_owned(),
        part => format!("{}/{part}", what.name()),
    }
}

/// One dependency.
#[derive(Debug, Default)]
struct Standing {
    failing: Option<(Instant, Timestamp)>,
    working: Option<Instant>,
    down: Option<Down>,
}

#[derive(Debug, Clone)]
struct Down {
    since: Timestamp,
    text: String,
    /// Up to when its time was counted.
    counted: Instant,
}

impl Standing {
    /// True when it is up again.
    fn worked(&mut self, now: Instant) -> bool {
        self.failing = None;
        let working = *self.working.get_or_insert(now);
        self.down.is_some() && now.duration_since(working) >= UP_AFTER && {
            self.down = None;
            true
        }
    }

    /// True when it is down from now on.
    fn failed(&mut self, now: Instant, began: (Instant, Timestamp), text: &str) -> bool {
        self.working = None;
        let (first, since) = *self.failing.get_or_insert(began);
        if self.down.is_some() || now.duration_since(first) < DOWN_AFTER {
            return false;
        }
        self.down = Some(Down {
            since,
            text: text.to_owned(),
            counted: first,
        });
        true
    }

    /// Whole seconds that it has been down and that were not counted yet.
    fn count(&mut self, now: Instant) -> u64 {
        let Some(down) = &mut self.down else {
            return 0;
        };
        let seconds = now.duration_since(down.counted).as_secs();
        down.counted += Duration::from_secs(seconds);
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::super::drain;
    use super::*;

    fn health() -> (drain::Conductor, Readiness, Health) {
        let (conductor, drain) = drain::new(drain::Deadlines::default());
        let readiness = Readiness::new(drain);
        let health = Health::new(readiness.clone());
        (conductor, readiness, health)
    }

    fn began(ms: i64) -> (Instant, Timestamp) {
        (Instant::now(), Timestamp::from_millis(ms))
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_while_is_down_and_what_works_for_a_while_is_up() {
        let (_conductor, readiness, health) = health();
        let log = health.depend(What::Log, "");
        let mut changes = health.changes();
        log.failed(began(7), "no answer");
        assert_eq!(health.troubles(), []);
        pass(DOWN_AFTER).await;
        log.failed(began(9), "no answer");
        let trouble = Trouble {
            what: What::Log,
            since: Timestamp::from_millis(7),
        };
        assert_eq!(health.troubles(), [trouble]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let status = readiness.status();
        assert_eq!((status.code(), status.reasons[0].name), (200, "log"));
        assert!(status.reasons[0].text.contains("no answer"), "{status:?}");
        log.worked();
        pass(UP_AFTER / 2).await;
        log.failed(began(11), "again");
        pass(UP_AFTER).await;
        log.worked();
        assert_eq!(health.troubles(), [trouble], "it has not held");
        assert!(!changes.has_changed().unwrap());
        pass(UP_AFTER).await;
        log.worked();
        assert_eq!(health.troubles(), []);
        assert!(changes.has_changed().unwrap());
        assert_eq!(readiness.status().reasons, []);
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_between_successes_is_nothing() {
        let (_conductor, _, health) = health();
        let log = health.depend(What::Log, "");
        for _ in 0..10 {
            log.failed(began(1), "a hiccup");
            pass(DOWN_AFTER / 2).await;
            log.worked();
            pass(DOWN_AFTER / 2).await;
        }
        assert_eq!(health.troubles(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn shards_are_one_trouble_until_the_last_is_back() {
        let (_conductor, readiness, health) = health();
        let shards = ["a", "b"].map(|name| health.depend(What::Rooms, name));
        shards[1].failed(began(5), "away");
        shards[0].failed(began(8), "away");
        pass(DOWN_AFTER).await;
        for shard in &shards {
            shard.failed(began(9), "away");
        }
        let since = |ms| {
            [Trouble {
                what: What::Rooms,
                since: Timestamp::from_millis(ms),
            }]
        };
        assert_eq!(health.troubles(), since(5));
        assert!(readiness.status().reasons[0].text.contains("; b since"));
        shards[1].worked();
        pass(UP_AFTER).await;
        shards[1].worked();
        assert_eq!(health.troubles(), since(8));
        let is_down = |part| health.is_down(What::Rooms, part);
        assert_eq!(
            [is_down("a"), is_down("b"), is_down("c")],
            [true, false, false]
        );
        shards[0].worked();
        pass(UP_AFTER).await;
        shards[0].worked();
        assert_eq!(health.troubles(), []);
    }

    #[test]
    fn seconds_are_counted_once() {
        let now = Instant::now();
        let mut standing = Standing::default();
        standing.failed(now, (now, Timestamp::from_millis(0)), "away");
        assert_eq!(standing.count(now + DOWN_AFTER), 0, "not down yet");
        assert!(standing.failed(now + DOWN_AFTER, (now, Timestamp::from_millis(0)), "away"));
        assert_eq!(standing.count(now + Duration::from_millis(2_500)), 2);
        assert_eq!(standing.count(now + Duration::from_millis(2_900)), 0);
        assert_eq!(standing.count(now + Duration::from_millis(3_000)), 1);
    }
}
