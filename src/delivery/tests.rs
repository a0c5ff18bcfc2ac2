//! The whole path with its process dying at any moment.
//!
//! A *life* is what one process holds in memory: pump, archiver, timeline, bus. A crash drops all of
//! it and keeps the log and the archive; the next life restores and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;
use tokio::task::yield_now;

use super::TIMELINE_TOPIC;
use super::archive::{Archiver, Options as ArchiverOptions};
use super::pump::{Options, Parts, Pump};
use super::restore::Restore;
use crate::archive::{Archive, Page};
use crate::backend::sql::{Database, Options as FileOptions};
use crate::cluster::bus::{Bus, Delivery, Port, Stream};
use crate::eventlog::{DeadLetter, EventLog, Options as LogOptions, dead_letter_topic};
use crate::events::Vocabulary;
use crate::timeline::{Entry, Limits, Memory, Timeline};
use crate::types::{NodeId, Position, RoomName, ShardId, ShardPosition};

const LOOKBACK: Duration = Duration::from_secs(3_600);
const USERS: usize = 4;
const ROOMS: usize = 3;

/// Where an event stands, in full.
type Place = (RoomName, Position, ShardPosition);

/// An event that was sent: its key and its bytes.
type Sent = (String, Bytes);

fn event(user: usize, room: usize, id: usize) -> Sent {
    let json = format!(
        r#"{{"id":"e{id}","type":"MESSAGE_SENT","userId":"user-{user}","conversationId":"{room}","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"{id}"}}}}"#
    );
    (format!("user-{user}"), Bytes::from(json))
}

fn node() -> NodeId {
    NodeId::parse("node-1").unwrap()
}

fn room(n: usize) -> RoomName {
    RoomName::parse(&format!("conversation:{n}")).unwrap()
}

/// Polls a future once.
async fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// One life.
struct Life {
    pump: Running,
    archiver: Running,
    timeline: Timeline,
    stream: Stream,
    _port: Port,
}

impl Life {
    /// Restores and starts; its bus holds `capacity` entries, so that the pump stops when nobody
    /// receives.
    async fn begin(log: &EventLog, archive: &Archive, options: Options, capacity: usize) -> Self {
        let timeline = Timeline::Memory(Memory::new(Limits::default()));
        let bus = Bus::memory();
        let restore = Restore {
            log: log.clone(),
            archive: archive.clone(),
            timeline: timeline.clone(),
            bus: bus.clone(),
        };
        restore.run(LOOKBACK).await.unwrap();
        let (port, stream) = bus.attach(capacity);
        (0..ROOMS).for_each(|n| port.subscribe(&room(n)));
        let parts = Parts {
            log: log.clone(),
            timeline: timeline.clone(),
            bus,
            vocabulary: Vocabulary::builtin(),
            node: node(),
        };
        let every = ArchiverOptions {
            linger: Duration::ZERO,
            commit_every: Duration::from_millis(1),
            ..ArchiverOptions::default()
        };
        let archiver = Archiver::new(log.clone(), archive.clone(), node(), every);
        Self {
            pump: Box::pin(async move {
                Pump::new(parts, options).run(pending()).await.unwrap();
            }),
            archiver: Box::pin(async move { archiver.run(pending()).await.unwrap() }),
            timeline,
            stream,
            _port: port,
        }
    }

    async fn step(&mut self) {
        assert!(poll(&mut self.pump).await.is_pending());
        assert!(poll(&mut self.archiver).await.is_pending());
        yield_now().await;
    }

    fn receive(&mut self, count: usize, shown: &mut BTreeMap<String, Place>) {
        for _ in 0..count {
            let Some(Delivery::Entry(entry)) = self.stream.try_recv() else {
                return;
            };
            let place = (entry.room.clone(), entry.position, entry.at);
            let before = shown.insert(entry.id.to_string(), place.clone());
            assert!(
                before.is_none_or(|before| before == place),
                "{} has moved",
                entry.id
            );
        }
    }

    /// Runs until the log is done with.
    async fn finish(&mut self, log: &EventLog, shown: &mut BTreeMap<String, Place>) {
        let deadline = Instant::now() + Duration::from_secs(60);
        // The groups exist once both have been polled.
        self.step().await;
        while log.lag().iter().any(|lag| lag.records > 0) {
            assert!(Instant::now() < deadline, "still behind: {:?}", log.lag());
            self.step().await;
            self.receive(usize::MAX, shown);
        }
    }
}

fn quick(in_flight: usize, poll: usize) -> Options {
    let commit_every = Duration::from_millis(1);
    Options {
        in_flight,
        poll,
        commit_every,
        places: 2,
        ..Options::default()
    }
}

/// Every entry of topic `timeline`, by event; an event that is there twice must be there in one place.
async fn places(log: &EventLog) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for record in read(log, TIMELINE_TOPIC).await {
        let entry = Entry::from_json(&record).unwrap();
        let place = (entry.room.clone(), entry.position(), entry.shard_position());
        let before = places.insert(entry.id.to_string(), place.clone());
        assert!(
            before.is_none_or(|before| before == place),
            "{} is in two places",
            entry.id
        );
    }
    places
}

async fn read(log: &EventLog, topic: &str) -> Vec<Bytes> {
    let mut replay = log
        .replay(topic, &[], Duration::from_secs(86_400))
        .await
        .unwrap();
    let mut values = Vec::new();
    loop {
        let records = replay.next(1_000).await.unwrap();
        if records.is_empty() {
            return values;
        }
        values.extend(records.into_iter().map(|record| record.value));
    }
}

async fn archived(archive: &Archive) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    for n in 0..ROOMS {
        let rows = archive
            .page(&room(n), Page::Before(None), usize::MAX)
            .await
            .unwrap();
        let mut last = Position::default();
        for row in rows {
            assert_eq!(
                row.position.seq,
                last.seq.next(),
                "no hole and nothing twice"
            );
            last = row.position;
            let before = found.insert(row.id.to_string(), (row.room, row.position, row.shard));
            assert!(before.is_none());
        }
    }
    found
}

/// Per room, each sender's events stand in the order in which they were sent.
fn check_sender_order(sent: &[Sent], places: &BTreeMap<String, Place>) {
    let mut last: BTreeMap<(String, RoomName), Position> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, value) in sent {
        let Ok(envelope) = crate::events::Envelope::parse(value) else {
            continue;
        };
        if !seen.insert(envelope.id.clone()) {
            continue;
        }
        let (room, position, _) = &places[envelope.id.as_str()];
        let before = last.insert((key.clone(), room.clone()), *position);
        assert!(
            before.is_none_or(|before| before < *position),
            "{key} in {room}"
        );
    }
}

#[derive(Debug, Clone)]
enum Op {
    Send { user: usize, room: usize },
    Resend { back: usize },
    Garbage { user: usize },
    Step { receive: usize },
    Crash { in_flight: usize, poll: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..USERS, 0..ROOMS).prop_map(|(user, room)| Op::Send { user, room }),
        1 => (0..10usize).prop_map(|back| Op::Resend { back }),
        1 => (0..USERS).prop_map(|user| Op::Garbage { user }),
        8 => (0..4usize).prop_map(|receive| Op::Step { receive }),
        1 => (1..8usize, 1..4usize).prop_map(|(in_flight, poll)| Op::Crash { in_flight, poll }),
    ];
    prop::collection::vec(op, 1..120)
}

async fn archive_in(folder: &TempDir) -> (Database, Archive) {
    let database = Database::open(FileOptions::new(folder.path()))
        .await
        .unwrap();
    let archive = Archive::sql(&database);
    (database, archive)
}

async fn append(log: &EventLog, (key, value): Sent) {
    log.append("messages", &key, value).unwrap().await.unwrap();
}

/// Lives and crashes as the operations say; gives what was sent and where it came to stand.
async fn live(
    ops: Vec<Op>,
    log: &EventLog,
    archive: &Archive,
) -> (Vec<Sent>, BTreeMap<String, Place>) {
    let mut sent: Vec<Sent> = Vec::new();
    let mut shown = BTreeMap::new();
    let mut life = Life::begin(log, archive, quick(4, 2), 1).await;
    for op in ops {
        let send = match op {
            Op::Send { user, room } => event(user, room, sent.len()),
            Op::Resend { back } if sent.is_empty() => event(0, 0, back + 1_000),
            Op::Resend { back } => sent[sent.len() - 1 - back % sent.len()].clone(),
            Op::Garbage { user } => (format!("user-{user}"), Bytes::from_static(b"garbage")),
            Op::Step { receive } => {
                life.step().await;
                life.receive(receive, &mut shown);
                continue;
            }
            Op::Crash { in_flight, poll } => {
                drop(life);
                life = Life::begin(log, archive, quick(in_flight, poll), 1).await;
                continue;
            }
        };
        sent.push(send.clone());
        append(log, send).await;
    }
    life.finish(log, &mut shown).await;
    (sent, shown)
}

async fn crashes_change_nothing(ops: Vec<Op>) {
    let log = EventLog::memory(LogOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let (database, archive) = archive_in(&folder).await;
    let (sent, shown) = live(ops, &log, &archive).await;

    let calm_log = EventLog::memory(LogOptions::default());
    let calm_folder = tempfile::tempdir().unwrap();
    let (calm_database, calm_archive) = archive_in(&calm_folder).await;
    for sent in sent.iter().cloned() {
        append(&calm_log, sent).await;
    }
    let options = quick(1_000, 100);
    let mut calm = Life::begin(&calm_log, &calm_archive, options, 1_000).await;
    calm.finish(&calm_log, &mut BTreeMap::new()).await;

    let places = places(&log).await;
    assert_eq!(
        places,
        self::places(&calm_log).await,
        "the places of an uninterrupted run"
    );
    assert_eq!(places, archived(&archive).await);
    assert!(shown.iter().all(|(id, place)| places[id] == *place));
    check_sender_order(&sent, &places);
    let dead: BTreeSet<_> = read(&log, &dead_letter_topic("messages"))
        .await
        .iter()
        .map(|value| serde_json::from_slice::<DeadLetter>(value).unwrap())
        .map(|letter| (letter.partition, letter.offset))
        .collect();
    let garbage = sent
        .iter()
        .filter(|(_, value)| &value[..] == b"garbage")
        .count();
    assert_eq!(dead.len(), garbage, "all of it is put aside");
    drop(calm);
    database.close().await;
    calm_database.close().await;
}

#[test]
fn crashes_at_any_moment_change_no_place_and_lose_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: 40,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&ops(), |ops| {
            runtime.block_on(crashes_change_nothing(ops));
            Ok(())
        })
        .unwrap();
}

/// The file as a kill leaves it: the write-ahead log only grows here, so that a copy at any moment
/// is what was written until then.
fn copy_as_killed(from: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in ["vestibule.db", "vestibule.db-wal"] {
        std::fs::copy(from.path().join(file), to.path().join(file)).unwrap();
    }
    to
}

/// What a killed node's users know: what was acknowledged and what was shown.
#[derive(Default)]
struct Witness {
    count: usize,
    acknowledged: Vec<Sent>,
    shown: BTreeMap<String, Place>,
}

impl Witness {
    /// Sends eight events while pump and archiver are at work. Gives up after some steps if `steps`
    /// says so, with the appends under way.
    async fn send(&mut self, life: &mut Life, log: &EventLog, steps: Option<usize>) {
        let batch: Vec<_> = (self.count..self.count + 8)
            .map(|n| event(n % USERS, n % 7 % ROOMS, n))
            .collect();
        self.count += batch.len();
        let append = |(key, value): &Sent| log.append("messages", key, value.clone()).unwrap();
        let mut appends = Box::pin(join_all(batch.iter().map(append)));
        let mut step = 0;
        while steps.is_none_or(|steps| step < steps) {
            if let Poll::Ready(outcomes) = poll(&mut appends).await {
                assert!(outcomes.iter().all(Result::is_ok));
                self.acknowledged.extend(batch);
                return;
            }
            life.step().await;
            life.receive(3, &mut self.shown);
            step += 1;
        }
    }
}

#[tokio::test]
async fn a_killed_node_goes_on_from_its_file_with_the_same_places() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut witness = Witness::default();
    for n in 1..=6 {
        let database = Database::open(FileOptions::new(folder.path()))
            .await
            .unwrap();
        let log = EventLog::sql(&database, LogOptions::default())
            .await
            .unwrap();
        let archive = Archive::sql(&database);
        let mut life = Life::begin(&log, &archive, quick(16, 4), 4).await;
        while witness.count < 64 * n {
            witness.send(&mut life, &log, None).await;
        }
        // Some kills come while appends are under way.
        witness
            .send(&mut life, &log, (n % 2 == 0).then_some(n))
            .await;
        let killed = copy_as_killed(&folder);
        drop(life);
        database.close().await;
        folder = killed;
    }
    let database = Database::open(FileOptions::new(folder.path()))
        .await
        .unwrap();
    let log = EventLog::sql(&database, LogOptions::default())
        .await
        .unwrap();
    let archive = Archive::sql(&database);
    let mut last = Life::begin(&log, &archive, quick(100, 10), 1_000).await;
    last.finish(&log, &mut witness.shown).await;
    let places = places(&log).await;
    assert_eq!(places, archived(&archive).await);
    let stays = |(id, place)| places.get(id) == Some(place);
    assert!(
        witness.shown.iter().all(stays),
        "what was shown stays where it was"
    );
    check_sender_order(&witness.acknowledged, &places);
    assert_eq!(
        last.timeline.shard_top(ShardId(0)),
        places.values().map(|(_, _, shard)| *shard).max().unwrap()
    );
    drop(last);
    database.close().await;
}
