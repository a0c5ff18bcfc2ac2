//! From the log into the rooms.
//!
//! Records are read in the log's order and handed to one queue per shard; each queue applies one at
//! a time (see [`apply`](super::apply)), so that a shard that does not answer holds up only its own
//! records, until the bound on records in flight is reached. A partition's offset is committed when
//! every record before it is *settled*: its entry is durable in topic `timeline`, or it is durable as
//! a dead letter, or there was nothing to do. A commit carries how far each shard was settled.
//!
//! When an answer says that earlier records are missing, the partition is read again from there; what
//! was applied answers "duplicate" and is not applied twice.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::meter;
use super::topics;
use super::turn::Turn;
use crate::cluster::bus::Bus;
use crate::cluster::membership::Membership;
use crate::eventlog::{Error, EventLog};
use crate::events::{Catalogue, Vocabulary};
use crate::timeline::Timeline;
use crate::types::{NodeId, ShardPosition};

/// The consumer group of all pumps.
pub const GROUP: &str = "pump";

/// What the pump works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where events come from, and where settled entries go.
    pub log: EventLog,
    /// Where they get their places.
    pub timeline: Timeline,
    /// How they reach the members.
    pub bus: Bus,
    /// Which room each goes to.
    pub vocabulary: Vocabulary,
    /// Who signs dead letters.
    pub node: NodeId,
}

/// Bounds and times of the pump.
#[derive(Debug, Clone)]
pub struct Options {
    /// Records read and not yet settled, over all partitions.
    pub in_flight: usize,
    /// Bytes of them.
    pub in_flight_bytes: usize,
    /// Records read at once.
    pub poll: usize,
    /// Time between commits. What is not committed is read again after a crash.
    pub commit_every: Duration,
    /// Records applied to a shard in one round trip.
    pub batch: usize,
    /// Places of which the last record is remembered.
    pub places: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight: 8_192,
            in_flight_bytes: 64 << 20,
            poll: 256,
            batch: 64,
            commit_every: Duration::from_millis(300),
            // About 100 bytes each.
            places: 100_000,
        }
    }
}

/// What a commit of the pump carries: up to where each shard was settled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// By shard.
    pub shards: BTreeMap<u16, ShardPosition>,
}

impl Settled {
    /// What the last commit of the pump says; nothing if there is none.
    #[must_use]
    pub fn of(log: &EventLog) -> Self {
        let metadata = log.metadata(GROUP).unwrap_or_default();
        serde_json::from_str(&metadata).unwrap_or_default()
    }
}

/// Moves events from the log into their rooms.
#[derive(Debug)]
pub struct Pump {
    parts: Parts,
    options: Options,
    membership: Option<Membership>,
}

impl Pump {
    /// A pump over these parts.
    #[must_use]
    pub const fn new(parts: Parts, options: Options) -> Self {
        Self {
            parts,
            options,
            membership: None,
        }
    }

    /// The same, that tells the other nodes which partitions it reads.
    #[must_use]
    pub fn telling(self, membership: Membership) -> Self {
        Self {
            membership: Some(membership),
            ..self
        }
    }

    /// Runs until `drain` resolves; then finishes what is being applied, commits and returns.
    ///
    /// # Errors
    /// When the log is closed before that, or answers what cannot heal.
    pub async fn run(self, drain: impl Future<Output = ()>) -> Result<(), Error> {
        let mut drain = pin!(drain);
        let mut is_draining = false;
        while !is_draining {
            let vocabulary = &self.parts.vocabulary;
            let topics = vocabulary.current().topics();
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            meter::may_bury(&names);
            let consumer = self.parts.log.consumer(GROUP, &names).await?;
            let mut turn = Turn::new(self.parts.clone(), self.options.clone(), consumer);
            let mut claims = Claims::new(self.membership.clone());
            // A turn over other topics begins where this one ends: nothing is missed or repeated.
            let mut end = pin!(async {
                tokio::select! {
                    () = &mut drain => is_draining = true,
                    () = topics::changed(vocabulary, Catalogue::topics, topics.clone()) => {}
                }
            });
            while !turn.is_over() {
                let event = turn.next(end.as_mut()).await;
                claims.note(&event);
                turn.on(event).await?;
            }
            turn.end().await?;
        }
        Ok(())
    }
}
