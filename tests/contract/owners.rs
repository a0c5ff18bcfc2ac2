//! Two owners pump the same partitions at once, calls get lost before or after they take effect,
//! owners begin again at what was committed and rewind at gaps. Whatever the order of it all, what is
//! applied of a (room, partition) is a prefix of the log, nothing is applied twice, and a room has
//! no hole.
//!
//! Generic over the port: every backend has to pass it.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use vestibule::timeline::{Apply, Entry, Outcome, Source, Timeline};
use vestibule::types::{EventId, Position, RoomName, Seq, Timestamp};

const PARTITIONS: usize = 2;
const OWNERS: usize = 2;

proptest! {
    #[test]
    fn what_is_applied_is_always_a_prefix(
        log in proptest::collection::vec(written(), 1..60),
        steps in proptest::collection::vec(step(), 0..250),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(crate::timeline::memory(), &log, &steps))?;
    }
}

/// One record of the log. Few ids, so that many are a client's retry; offsets have holes.
#[derive(Debug, Clone)]
struct Written {
    partition: usize,
    room: usize,
    id: u8,
    skipped_offsets: u64,
}

#[derive(Debug, Clone)]
struct Step {
    owner: usize,
    partition: usize,
    action: Action,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Send the next record.
    Send(Fate),
    /// Give up waiting for answers: begin again at the first record without one.
    Rewind,
    /// Crash and begin again at what was committed.
    Restart,
    /// Commit what has answers.
    Commit,
    /// Everything applied so far is settled, and may be trimmed.
    Settle,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    AnswerLost,
    NeverArrived,
}

fn written() -> impl Strategy<Value = Written> {
    (0..PARTITIONS, 0..3_usize, 0..8_u8, 0..3_u64).prop_map(
        |(partition, room, id, skipped_offsets)| Written {
            partition,
            room,
            id,
            skipped_offsets,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![
        12 => Just(Action::Send(Fate::Answered)),
        4 => Just(Action::Send(Fate::AnswerLost)),
        4 => Just(Action::Send(Fate::NeverArrived)),
        2 => Just(Action::Rewind),
        1 => Just(Action::Restart),
        2 => Just(Action::Commit),
        1 => Just(Action::Settle),
    ];
    (0..OWNERS, 0..PARTITIONS, action).prop_map(|(owner, partition, action)| Step {
        owner,
        partition,
        action,
    })
}

async fn run(timeline: Timeline, log: &[Written], steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(timeline, log);
    for step in steps {
        world.step(step).await?;
    }
    for owner in 0..OWNERS {
        for partition in 0..PARTITIONS {
            world.finish(owner, partition).await?;
        }
    }
    world.check_rooms().await
}

struct Record {
    offset: u64,
    room: RoomName,
    id: EventId,
}

/// An owner's view of one partition; it knows only the answers that reached it.
#[derive(Default, Clone)]
struct Reader {
    next: usize,
    /// What it sent last to each room in this session.
    prev: HashMap<RoomName, u64>,
    answered: Vec<usize>,
    start: usize,
}

impl Reader {
    /// The first record without an answer: all before it are applied.
    fn first_open(&self) -> usize {
        (self.start..)
            .find(|index| !self.answered.contains(index))
            .unwrap_or(self.start)
    }

    fn begin(&mut self, at: usize) {
        *self = Self {
            next: at,
            start: at,
            ..Self::default()
        };
    }
}

/// The log, the owners, and what an observer who misses nothing has seen.
struct World {
    timeline: Timeline,
    log: Vec<Vec<Record>>,
    owners: Vec<Vec<Reader>>,
    committed: Vec<usize>,
    /// Per (room, partition): offsets that advanced it, applied or as a client's retry.
    advanced: HashMap<(RoomName, usize), Vec<u64>>,
    /// Per room: its entries.
    entries: HashMap<RoomName, Vec<Arc<Entry>>>,
}

impl World {
    fn new(timeline: Timeline, written: &[Written]) -> Self {
        let mut log: Vec<Vec<Record>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        for record in written {
            let partition = &mut log[record.partition];
            let after = partition.last().map_or(0, |last| last.offset + 1);
            partition.push(Record {
                offset: after + record.skipped_offsets,
                room: RoomName::parse(&format!("room:{}", record.room)).unwrap(),
                id: EventId::parse(&format!("e{}", record.id)).unwrap(),
            });
        }
        Self {
            timeline,
            log,
            owners: vec![vec![Reader::default(); PARTITIONS]; OWNERS],
            committed: vec![0; PARTITIONS],
            advanced: HashMap::new(),
            entries: HashMap::new(),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let committed = self.committed[step.partition];
        let reader = &mut self.owners[step.owner][step.partition];
        match step.action {
            Action::Send(fate) => return self.send(step.owner, step.partition, fate).await,
            Action::Rewind => reader.begin(reader.first_open()),
            Action::Restart => reader.begin(committed),
            // An owner that was believed dead may take a commit back; that must not matter.
            Action::Commit => self.committed[step.partition] = reader.first_open(),
            Action::Settle => {
                for entry in self.entries.values().flatten() {
                    self.timeline.settle(entry).await.unwrap();
                }
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        owner: usize,
        partition: usize,
        fate: Fate,
    ) -> Result<(), TestCaseError> {
        let reader = &mut self.owners[owner][partition];
        let index = reader.next;
        let Some(record) = self.log[partition].get(index) else {
            return Ok(());
        };
        let apply = Apply {
            room: record.room.clone(),
            epoch: self.timeline.epoch(self.timeline.shard_of(&record.room)),
            ring_version: 1,
            source: source(partition),
            offset: record.offset,
            prev: reader.prev.insert(record.room.clone(), record.offset),
            id: record.id.clone(),
            at: Timestamp::from_millis(0),
            payload: Bytes::from_static(b"{}"),
        };
        reader.next += 1;
        if matches!(fate, Fate::NeverArrived) {
            return Ok(());
        }
        let outcome = self.timeline.apply(apply).await.unwrap();
        self.observe(partition, index, &outcome)?;
        if matches!(fate, Fate::AnswerLost) {
            return Ok(());
        }
        let reader = &mut self.owners[owner][partition];
        match outcome {
            Outcome::Gap { last } => {
                let room = &self.log[partition][index].room;
                let after = |record: &Record| {
                    record.room == *room && last.is_none_or(|last| record.offset > last)
                };
                let missing = self.log[partition].iter().position(after).unwrap_or(index);
                reader.begin(reader.first_open().min(missing));
            }
            _ => reader.answered.push(index),
        }
        Ok(())
    }

    /// Holds an outcome against what was applied before it.
    fn observe(
        &mut self,
        partition: usize,
        index: usize,
        outcome: &Outcome,
    ) -> Result<(), TestCaseError> {
        let record = &self.log[partition][index];
        let room = &record.room;
        let advanced = self.advanced.entry((room.clone(), partition)).or_default();
        let entries = self.entries.entry(room.clone()).or_default();
        let in_room = self.log[partition]
            .iter()
            .filter(|other| other.room == *room);
        let next = in_room.map(|other| other.offset).nth(advanced.len());
        let is_known = entries.iter().any(|entry| entry.id == record.id);
        match outcome {
            Outcome::Applied { entry, .. } => {
                prop_assert_eq!(Some(record.offset), next, "not a prefix");
                prop_assert!(!is_known, "{:?} was applied before", record.id);
                prop_assert_eq!(entry.seq.0, entries.len() as u64 + 1, "a hole in the room");
                advanced.push(record.offset);
                entries.push(entry.clone());
            }
            Outcome::DuplicateId { .. } => {
                prop_assert_eq!(Some(record.offset), next, "not a prefix");
                prop_assert!(is_known, "{:?} was not applied before", record.id);
                advanced.push(record.offset);
            }
            Outcome::Duplicate { entry, .. } => {
                prop_assert!(advanced.contains(&record.offset), "not applied before");
                if let Some(entry) = entry {
                    prop_assert_eq!(entry.offset, record.offset);
                    prop_assert!(entries.contains(entry));
                }
            }
            Outcome::Gap { last } => prop_assert_eq!(*last, advanced.last().copied()),
            other => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }

    /// Lets an owner send everything it still has to, with all answers arriving.
    async fn finish(&mut self, owner: usize, partition: usize) -> Result<(), TestCaseError> {
        let reader = &mut self.owners[owner][partition];
        reader.begin(reader.first_open());
        // Each gap takes it back at most once, so twice the log is enough.
        for _ in 0..2 * self.log[partition].len() {
            self.send(owner, partition, Fate::Answered).await?;
        }
        prop_assert_eq!(
            self.owners[owner][partition].next,
            self.log[partition].len()
        );
        Ok(())
    }

    /// Everything of the log is in its room, in its sender's order, and is read back like that.
    async fn check_rooms(&self) -> Result<(), TestCaseError> {
        for ((room, partition), advanced) in &self.advanced {
            let log = self.log[*partition]
                .iter()
                .filter(|record| record.room == *room);
            prop_assert!(log.map(|record| record.offset).eq(advanced.iter().copied()));
        }
        for (room, entries) in &self.entries {
            let up_to = self.timeline.shard_top(self.timeline.shard_of(room));
            let range = self
                .timeline
                .range(room, Position::default(), up_to, 1_000)
                .await
                .unwrap();
            prop_assert!(range.complete && !range.more);
            prop_assert_eq!(&range.entries, entries);
            prop_assert_eq!(range.top.seq, Seq(entries.len() as u64));
            for partition in 0..PARTITIONS {
                let of = entries
                    .iter()
                    .filter(|entry| entry.source == source(partition));
                prop_assert!(of.map(|entry| entry.offset).is_sorted());
            }
        }
        Ok(())
    }
}

fn source(partition: usize) -> Source {
    let partition = u32::try_from(partition).unwrap();
    Source {
        topic: Arc::from("messages"),
        generation: 0,
        partition,
    }
}

/// The same on Redis: fewer cases, each in rooms of its own on one shard.
#[test]
fn what_is_applied_on_redis_is_always_a_prefix() {
    use proptest::test_runner::{Config, TestRunner};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ((_folder, servers), timeline) = runtime.block_on(crate::timeline::on_redis(1));
    let mut runner = TestRunner::new(Config::with_cases(64));
    let log = proptest::collection::vec(written(), 1..60);
    let steps = proptest::collection::vec(step(), 0..250);
    runner
        .run(&(log, steps), |(log, steps)| {
            let forget =
                "for _, k in ipairs(redis.call('KEYS', '*:room:*')) do redis.call('DEL', k) end";
            assert!(servers[0].ask(&["EVAL", forget, "0"]).is_some());
            runtime.block_on(run(timeline.clone(), &log, &steps))
        })
        .unwrap();
}
