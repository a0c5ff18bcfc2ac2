//! Whether events arrive, and after how long, also when nobody sends any.
//!
//! Each node sends an event of its own to a room on every shard now and then: through the log, the pump, the
//! shard and the bus, as everybody's. All nodes use the same room of a shard, so that none is left behind when a
//! node goes, and each counts its own. What came, and what the bus did not bring though it has its place, is told
//! apart from what is lost: the log had acknowledged it, and a later one has a place while it has none.
//!
//! Not here: the way from a worker to its clients. Such events are not archived.

mod probes;

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::probes::{Heard, Probe, Probes, Verdict};
use super::publish::{Fact, Publisher};
use crate::cluster::bus::{Bus, Delivery, Port, Publication};
use crate::events::Vocabulary;
use crate::telemetry::{metrics, trace};
use crate::timeline::Timeline;
use crate::types::{Epoch, EventId, Position, RoomName, ShardId, ShardPosition, ShardSeq, UserId};

/// The type of such events in the catalogue.
pub const KIND: &str = "CANARY";

/// What may wait to be heard: little comes.
const CAPACITY: usize = 256;
/// Users are tried until each shard has one whose room is there.
const TRIES: u32 = 10_000;
/// Entries of a room that are looked at for one that was not heard.
const LOOK_AT: usize = 1_000;
const ALL: ShardPosition = ShardPosition {
    epoch: Epoch(u64::MAX),
    shard_seq: ShardSeq(u64::MAX),
};

/// What it needs.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The way in.
    pub publisher: Publisher,
    /// Has the type.
    pub vocabulary: Vocabulary,
    /// Knows the shards.
    pub timeline: Timeline,
    /// The way out.
    pub bus: Bus,
    /// Between two events to one shard.
    pub every: Duration,
}

/// The canary of one node.
struct Canary {
    parts: Parts,
    port: Port,
    rooms: Vec<Room>,
    ring_version: Option<u64>,
    probes: Probes,
    count: u64,
}

struct Room {
    shard: ShardId,
    user: UserId,
    name: RoomName,
    /// The last place that was heard of.
    top: Position,
}

type Answers = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = (EventId, bool)> + Send>>>;

impl Parts {
    /// Runs until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (port, mut stream) = self.bus.attach(CAPACITY);
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut canary = Canary {
            parts: self,
            port,
            rooms: Vec::new(),
            ring_version: None,
            probes: Probes::default(),
            count: 0,
        };
        let mut answers = Answers::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = tick.tick() => {
                    if canary.is_settled() {
                        canary.look().await;
                        canary.send(&answers);
                    }
                }
                Some((id, is_acked)) = answers.next() => canary.answered(&id, is_acked),
                delivery = stream.recv() => match delivery {
                    Some(Delivery::Entry(entry)) => canary.hear(&entry),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }
}

impl Canary {
    /// Whether the rooms are those of the ring in force, and were heard for a while.
    fn is_settled(&mut self) -> bool {
        if self.parts.vocabulary.current().by_type(KIND).is_none() {
            // The operator's catalogue is another one.
            return false;
        }
        let version = self.parts.timeline.ring_version();
        if self.ring_version == Some(version) {
            return true;
        }
        self.ring_version = Some(version);
        self.probes.forget();
        for room in self.rooms.drain(..) {
            self.port.unsubscribe_on(room.shard, &room.name);
        }
        let shards: Vec<ShardId> = match self.parts.timeline.shards() {
            // All rooms are in this process.
            none if none.is_empty() => vec![ShardId(0)],
            some => some.into_iter().map(|(shard, _)| shard).collect(),
        };
        self.rooms = shards
            .into_iter()
            .filter_map(|shard| self.room(shard))
            .collect();
        for room in &self.rooms {
            self.port.subscribe_on(room.shard, &room.name);
            for outcome in OUTCOMES {
                self.count(room.shard, outcome, 0);
            }
        }
        false
    }

    /// The room on a shard: a user's of whom nobody else has heard.
    fn room(&self, shard: ShardId) -> Option<Room> {
        (0..TRIES).find_map(|n| {
            let user = UserId::parse(&format!("vestibule.canary.{n}")).ok()?;
            let name = RoomName::parse(&format!("user:{user}")).ok()?;
            let top = Position::default();
            (self.parts.timeline.shard_of(&name) == shard).then_some(Room {
                shard,
                user,
                name,
                top,
            })
        })
    }

    fn send(&mut self, answers: &Answers) {
        for room in &self.rooms {
            if !self.probes.has_room(room.shard) {
                continue;
            }
            let fact = Fact {
                kind: KIND,
                user: room.user.clone(),
                conversation: None,
                data: nothing(),
                id: None,
                at: SystemTime::now().into(),
            };
            let sent = Instant::now();
            match self
                .parts
                .publisher
                .publish_type(&self.parts.vocabulary, fact)
            {
                Ok((id, publishing)) => {
                    self.count += 1;
                    self.probes.sent(Probe {
                        id: id.clone(),
                        number: self.count,
                        shard: room.shard,
                        sent,
                        after: room.top,
                        is_acked: false,
                    });
                    answers.push(Box::pin(async move { (id, publishing.await.is_ok()) }));
                }
                Err(problem) => {
                    tracing::debug!(%problem, "a canary was not let in");
                    self.count(room.shard, REFUSED, 1);
                }
            }
        }
    }

    fn answered(&mut self, id: &EventId, is_acked: bool) {
        if let Some(shard) = self.probes.answered(id, is_acked)
            && !is_acked
        {
            self.count(shard, REFUSED, 1);
        }
    }

    fn hear(&mut self, entry: &Publication) {
        let Some(room) = self.rooms.iter_mut().find(|room| room.name == entry.room) else {
            return;
        };
        room.top = room.top.max(entry.position);
        let shard = room.shard;
        match self.probes.heard(&entry.id, entry.position, Instant::now()) {
            Heard::First(shard, took) => {
                self.count(shard, DELIVERED, 1);
                metrics::CANARY_DELIVERY
                    .of([&self.name(shard)])
                    .record(took);
            }
            Heard::Again => {
                tracing::warn!(shard = self.name(shard), id = %entry.id, trace_id = trace::id(&entry.id), "a canary was heard twice");
                self.count(shard, DOUBLED, 1);
            }
            Heard::Other => {}
        }
    }

    /// Looks for what was not heard: each room is read once.
    async fn look(&mut self) {
        let late = self.probes.late(Instant::now());
        let rooms: Vec<(ShardId, RoomName)> = self
            .rooms
            .iter()
            .map(|room| (room.shard, room.name.clone()))
            .collect();
        for (shard, name) in rooms {
            let late = || late.iter().filter(|probe| probe.shard == shard);
            let Some(after) = late().map(|probe| probe.after).min() else {
                continue;
            };
            let range = self.parts.timeline.range(&name, after, ALL, LOOK_AT);
            let range = match range.await {
                Ok(range) => range,
                Err(error) => {
                    tracing::debug!(%error, "a canary's room cannot be read");
                    continue;
                }
            };
            let ids: Vec<&EventId> = range.entries.iter().map(|entry| &entry.id).collect();
            // Judged by what is open before any of them is closed.
            let verdicts: Vec<(&Probe, Verdict)> = late()
                .map(|probe| (probe, self.probes.judge(probe, &ids)))
                .collect();
            for (probe, verdict) in verdicts {
                // The others are looked for from their own places, next time.
                if !range.complete && probe.after > after {
                    continue;
                }
                self.conclude(probe, verdict, range.complete);
            }
        }
    }

    fn conclude(&mut self, probe: &Probe, verdict: Verdict, is_complete: bool) {
        let shard = self.name(probe.shard);
        let id = &probe.id;
        match verdict {
            // What is not kept any more says nothing.
            _ if !is_complete => {}
            Verdict::Wait => return,
            Verdict::Unheard => {
                tracing::info!(shard, %id, trace_id = trace::id(id), "a canary has its place, and the bus did not bring it");
                self.count(probe.shard, UNHEARD, 1);
            }
            Verdict::Lost => {
                tracing::error!(shard, %id, trace_id = trace::id(id), "an acknowledged canary has no place in its room: it is lost");
                self.count(probe.shard, LOST, 1);
            }
        }
        self.probes.close(id);
    }

    fn name(&self, shard: ShardId) -> String {
        let name = self.parts.timeline.shard_name(shard);
        name.map_or_else(|| shard.to_string(), str::to_owned)
    }

    fn count(&self, shard: ShardId, outcome: &str, count: u64) {
        metrics::CANARY_PROBES
            .of([&self.name(shard), outcome])
            .add(count);
    }
}

/// They say nothing.
fn nothing() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an object")
}

const DELIVERED: &str = "delivered";
const UNHEARD: &str = "unheard";
const LOST: &str = "lost";
const DOUBLED: &str = "doubled";
const REFUSED: &str = "refused";
const OUTCOMES: [&str; 5] = [DELIVERED, UNHEARD, LOST, DOUBLED, REFUSED];
