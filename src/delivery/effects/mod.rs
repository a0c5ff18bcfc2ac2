//! What follows from events: other events, records, memberships.
//!
//! A consumer group of its own over the topics whose rows emit or have effects. What it does is done
//! at least once and counts once:
//!
//! - A derived event's id follows from its parent, its type and its recipient; what is in the log
//!   already when the group is joined is not appended again ([`known`]), and timelines drop repeats.
//! - A record keeps the version of the event that wrote it last ([`version`]); an older one changes
//!   nothing.
//! - Memberships are put in and taken out in the log's order.
//!
//! A partition's offset is committed when all that follows from the records before it is durable. A
//! store that does not answer is waited for, for ever; what can never be done is put aside as a dead
//! letter. Events that derive each other in a circle are refused with their catalogue, so chains end.
//!
//! Not here: what cannot be read or has no room (the pump puts it aside), and which events there are.

mod change;
mod follow;
mod known;
mod turn;
mod wait;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use self::known::Known;
use self::turn::Turn;
use super::backoff::Backoff;
use super::topics;
use crate::cluster::bus::Bus;
use crate::cluster::presence::Presence;
use crate::directory::Directory;
use crate::eventlog::{Error, EventLog};
use crate::events::{Catalogue, Vocabulary};
use crate::store;
use crate::types::{NodeId, Timestamp};

pub use wait::{Told, applied};

/// The consumer group of all that do what follows.
pub const GROUP: &str = "effects";

/// What follows is not what members wait for, but some of it is waited for by a request.
const GATHER: Duration = Duration::from_millis(25);

/// What it takes.
#[derive(Clone)]
pub struct Parts {
    /// Where events come from, and where derived ones go.
    pub log: EventLog,
    /// Who is told, and the store behind it.
    pub directory: Directory,
    /// Who is here.
    pub presence: Presence,
    /// How workers hear of ephemeral events and of memberships.
    pub bus: Bus,
    /// What follows from what.
    pub vocabulary: Vocabulary,
    /// Who signs dead letters.
    pub node: NodeId,
}

/// Bounds and times.
#[derive(Debug, Clone)]
pub struct Options {
    /// Records read at once.
    pub batch: usize,
    /// Derived events on their way into the log.
    pub in_flight: usize,
    /// Time between commits. What is not committed is done again after a crash.
    pub commit_every: Duration,
    /// Nothing is derived from older events: nobody wants last week's notifications because a type
    /// emits since today, or because a node was away.
    pub derive_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 64,
            in_flight: 2_048,
            commit_every: Duration::from_millis(300),
            derive_within: Duration::from_secs(86_400),
        }
    }
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Because of the log.
    #[error("the log failed")]
    Log(#[from] Error),
    /// Because of the store.
    #[error("the store failed")]
    Store(#[from] store::Error),
}

/// Does what follows from events.
pub struct Effects {
    parts: Parts,
    options: Options,
}

impl Effects {
    /// Over these parts.
    #[must_use]
    pub const fn new(parts: Parts, options: Options) -> Self {
        Self { parts, options }
    }

    /// Runs until `drain` resolves; then finishes what is begun, commits and returns.
    ///
    /// # Errors
    /// When the log or the store is closed before that, or answers what cannot heal.
    pub async fn run(self, drain: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut drain = pin!(drain);
        let mut is_draining = false;
        while !is_draining {
            let vocabulary = &self.parts.vocabulary;
            let (topics, targets) = (
                sources(&vocabulary.current()),
                targets(&vocabulary.current()),
            );
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            let log = &self.parts.log;
            let consumer = log.consumer_at_leisure(GROUP, &names, GATHER).await?;
            let known = self.known(&targets).await?;
            let mut turn = Turn::new(self.parts.clone(), self.options.clone(), consumer, known);
            let mut end = pin!(async {
                tokio::select! {
                    () = &mut drain => is_draining = true,
                    () = topics::changed(vocabulary, sources, topics.clone()) => {}
                }
            });
            turn.run(end.as_mut()).await?;
        }
        Ok(())
    }

    async fn known(&self, targets: &[Arc<str>]) -> Result<Known, Error> {
        let mut backoff = Backoff::default();
        loop {
            match Known::read(&self.parts.log, targets).await {
                Err(error) if error.retry() => backoff.wait().await,
                outcome => return outcome,
            }
        }
    }
}

/// The version of a record that an event writes: the log's time of the event, then its offset. Of
/// events of one partition the later has the higher one; of events of several partitions that came in
/// one millisecond it is always the same one. Fits until the year 2248.
#[must_use]
pub fn version(at: Timestamp, offset: u64) -> i64 {
    let low = i64::try_from(offset % (1 << VERSION_BITS)).unwrap_or(0);
    (at.as_millis() << VERSION_BITS) | low
}

/// More records than a log takes in a millisecond, by far.
const VERSION_BITS: u32 = 20;

/// The topics of rows that something follows from.
fn sources(catalogue: &Catalogue) -> Vec<Arc<str>> {
    let rows = catalogue.rows().iter();
    let rows = rows.filter(|row| !row.emits.is_empty() || !row.effects.is_empty());
    let topics: BTreeSet<_> = rows.filter_map(|row| row.topic.clone()).collect();
    topics.into_iter().collect()
}

/// The topics that derived events go to.
fn targets(catalogue: &Catalogue) -> Vec<Arc<str>> {
    let emits = catalogue.rows().iter().flat_map(|row| &row.emits);
    let rows = emits.filter_map(|emit| catalogue.by_type(&emit.kind));
    let topics: BTreeSet<_> = rows.filter_map(|row| row.topic.clone()).collect();
    topics.into_iter().collect()
}

#[cfg(test)]
mod tests;
