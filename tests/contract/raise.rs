//! Shards that lose their last writes, under a running pump on a real Kafka: nothing is missing in any room
//! afterwards, and nothing is there twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vestibule::archive::Archive;
use vestibule::backend::redis::{Options as Server, Place, ShardOptions};
use vestibule::cluster::bus::Bus;
use vestibule::delivery::pump::{Options as PumpOptions, Parts, Pump};
use vestibule::delivery::raise::Raiser;
use vestibule::eventlog::{EventLog, TopicSpec, dead_letter_topic};
use vestibule::events::Vocabulary;
use vestibule::timeline::redis::{Options as Kept, Raise, Timeline as Shards};
use vestibule::timeline::{Apply, Entry, Limits, Outcome, Source, Timeline};
use vestibule::types::{
    Epoch, EventId, NodeId, Position, RoomName, Secret, Seq, ShardId, ShardPosition, ShardSeq,
    Timestamp,
};

use crate::brokers;
use crate::servers::redis::{Redis, SENTINEL_NAME, Sentinels};
use crate::sqlite::Folder;

const ROOMS: usize = 5;
/// Everything takes a moment on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A pump and who raises epochs, over one shard.
struct Station {
    log: EventLog,
    shards: Shards,
    sent: usize,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    _archive: Folder,
}

impl Station {
    async fn start(place: Place, replicas: u32) -> Self {
        let log = EventLog::kafka(brokers::options()).await.unwrap();
        let vocabulary = Vocabulary::builtin();
        let mut names = vec!["timeline".to_owned()];
        names.extend(
            vocabulary
                .current()
                .topics()
                .iter()
                .map(|topic| topic.to_string()),
        );
        names.extend(names.clone().iter().map(|name| dead_letter_topic(name)));
        let spec = |name| TopicSpec {
            name,
            partitions: 3,
            retention: Duration::from_secs(86_400),
        };
        let specs: Vec<_> = names.into_iter().map(spec).collect();
        log.ensure_topics(&specs).await.unwrap();
        let folder = Folder::new().await;
        let shard = ShardOptions {
            name: "only".to_owned(),
            weight: 1,
            server: Server::at(place),
        };
        let kept = Kept {
            limits: Limits::default(),
            is_raised: true,
            replicas,
            rings: None,
        };
        let shards = Shards::open(vec![shard], kept).await.unwrap();
        let raiser = Raiser {
            log: log.clone(),
            archive: Archive::sql(&folder.database),
            timeline: shards.clone(),
            lookback: Duration::from_secs(3_600),
            entries_max: 1_000,
        };
        let parts = Parts {
            log: log.clone(),
            timeline: Timeline::Redis(shards.clone()),
            bus: Bus::memory(),
            vocabulary,
            node: NodeId::parse("node-1").unwrap(),
        };
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            drop(stopped.wait_for(|is| *is).await);
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(raiser.run(until(stopped.clone())));
        let pump = Pump::new(parts, PumpOptions::default());
        let end = until(stopped);
        tasks.spawn(async move { pump.run(end).await.unwrap() });
        Self {
            log,
            shards,
            sent: 0,
            stop,
            tasks,
            _archive: folder,
        }
    }

    /// Sends events into all rooms; returns when the log has them.
    async fn send(&mut self, count: usize) {
        let mut appends = Vec::new();
        for n in self.sent..self.sent + count {
            let (room, user) = (n % ROOMS, n % 7);
            let json = format!(
                r#"{{"id":"e{n}","type":"MESSAGE_SENT","userId":"u{user}","conversationId":"{room}","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"{n}"}}}}"#
            );
            let append = self
                .log
                .append("messages", &format!("u{user}"), Bytes::from(json));
            appends.push(append.unwrap());
        }
        for append in appends {
            append.await.unwrap();
        }
        self.sent += count;
    }

    /// What the rooms hold: room -> (seq, id).
    async fn rooms(&self) -> Option<BTreeMap<String, Vec<(u64, String)>>> {
        let timeline = Timeline::Redis(self.shards.clone());
        let everything = ShardPosition {
            epoch: Epoch(1 << 40),
            shard_seq: ShardSeq(0),
        };
        let mut rooms = BTreeMap::new();
        for n in 0..ROOMS {
            let room = RoomName::parse(&format!("conversation:{n}")).unwrap();
            let range = timeline.range(&room, Position::default(), everything, 10_000);
            let range = range.await.ok()?;
            let entries = range
                .entries
                .iter()
                .map(|entry| (entry.seq.0, entry.id.to_string()));
            rooms.insert(room.to_string(), entries.collect());
        }
        Some(rooms)
    }

    /// Waits until everything that was sent is in its room.
    async fn arrived(&self) {
        let all = async {
            loop {
                let rooms = self.rooms().await.unwrap_or_default();
                if rooms.values().map(Vec::len).sum::<usize>() >= self.sent {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(SOON, all).await.is_err() {
            panic!(
                "{} were sent, there are {:#?}",
                self.sent,
                self.rooms().await
            );
        }
    }

    /// Waits until the log knows that all of it is done.
    async fn committed(&self) {
        let done = async {
            loop {
                let lag = self.log.lag();
                let mut pump = lag.iter().filter(|lag| &*lag.group == "pump").peekable();
                if pump.peek().is_some() && pump.all(|lag| lag.records == 0) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(SOON, done).await.is_ok(), "{:?}", self.log.lag());
    }

    /// Every event is in its room once, and the room's places have no hole.
    async fn judge(&self) {
        self.arrived().await;
        self.committed().await;
        for (room, entries) in self.rooms().await.unwrap() {
            let seqs: Vec<u64> = entries.iter().map(|(seq, _)| *seq).collect();
            let expected: Vec<u64> = (1..=entries.len() as u64).collect();
            assert_eq!(seqs, expected, "{room}: {entries:?}");
            let mut ids: Vec<_> = entries.into_iter().map(|(_, id)| id).collect();
            ids.sort();
            let number = room.strip_prefix("conversation:").unwrap();
            let number: usize = number.parse().unwrap();
            let mut sent: Vec<_> = (number..self.sent)
                .step_by(ROOMS)
                .map(|n| format!("e{n}"))
                .collect();
            sent.sort();
            assert_eq!(ids, sent, "{room}");
        }
    }

    fn epoch(&self) -> Epoch {
        Timeline::Redis(self.shards.clone()).epoch(ShardId(0))
    }

    async fn end(mut self) {
        self.stop.send(true).unwrap();
        while let Some(ended) = timeout(SOON, self.tasks.join_next()).await.unwrap() {
            ended.unwrap();
        }
        self.log.close().await;
    }
}

fn at(server: &Redis) -> Place {
    Place::Server(Secret::new(server.url()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_shard_gets_back_what_was_settled_and_what_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Redis::start(folder.path());
    let mut station = Station::start(at(&server), 0).await;
    station.send(60).await;
    station.judge().await;
    let before = station.rooms().await.unwrap();
    server.lose();
    station.judge().await;
    // What was settled came back in its old places.
    assert_eq!(station.rooms().await.unwrap(), before);
    assert!(station.epoch() > Epoch(1), "{:?}", station.epoch());
    // And again while events are on their way.
    for _ in 0..2 {
        station.send(200).await;
        sleep(Duration::from_millis(30)).await;
        server.lose();
        station.send(40).await;
    }
    station.judge().await;
    station.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_emptied_while_its_server_goes_on_gets_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Redis::start(folder.path());
    let mut station = Station::start(at(&server), 0).await;
    station.send(60).await;
    station.judge().await;
    let before = station.rooms().await.unwrap();
    // Nobody's connection breaks, and nobody applies anything: whoever reads notices.
    server.ask(&["FLUSHALL"]).unwrap();
    station.judge().await;
    assert_eq!(station.rooms().await.unwrap(), before);
    for _ in 0..2 {
        station.send(200).await;
        sleep(Duration::from_millis(30)).await;
        server.ask(&["FLUSHALL"]).unwrap();
        station.send(40).await;
    }
    station.judge().await;
    station.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_settled_outlives_a_hole_before_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Redis::start(folder.path());
    let shard = ShardOptions {
        name: "only".to_owned(),
        weight: 1,
        server: Server::at(at(&server)),
    };
    let kept = Kept {
        limits: Limits::default(),
        is_raised: true,
        replicas: 0,
        rings: None,
    };
    let shards = Shards::open(vec![shard], kept).await.unwrap();
    let raise = shards.begin_raise(ShardId(0)).await.unwrap().unwrap();
    let epoch = shards.end_raise(raise).await.unwrap();
    let timeline = Timeline::Redis(shards.clone());
    let room = RoomName::parse("conversation:hole").unwrap();
    let first = record(&room, epoch, 1);
    let Ok(Outcome::Applied { entry, .. }) = timeline.apply(first.clone()).await else {
        panic!("not applied");
    };
    // The server starts anew with what it has; somebody else's third entry comes back, the second is gone.
    server.kill();
    server.restart();
    let mut raise = eventually_begun(&shards).await;
    let third = Entry {
        seq: Seq(3),
        shard_seq: ShardSeq(3),
        offset: 3,
        id: EventId::parse("e3").unwrap(),
        ..Entry::clone(&entry)
    };
    shards.restore_entries(&mut raise, &[third]).await.unwrap();
    let epoch = shards.end_raise(raise).await.unwrap();
    let again = loop {
        let again = Apply {
            epoch,
            ..first.clone()
        };
        // The connection that broke is noticed by its use.
        if let Ok(again) = timeline.apply(again).await {
            break again;
        }
    };
    let Outcome::Duplicate {
        entry: Some(kept),
        settled: false,
    } = again
    else {
        panic!("{again:?}");
    };
    assert_eq!(kept.position(), entry.position());
    // A client that stands before the hole is told that it does not get everything.
    let everything = ShardPosition {
        epoch: Epoch(1 << 40),
        shard_seq: ShardSeq(0),
    };
    let range = timeline
        .range(&room, entry.position(), everything, 10)
        .await;
    let range = range.unwrap();
    assert!(!range.complete, "{range:?}");
    assert_eq!(range.top.seq, Seq(3), "{range:?}");
}

/// An event for the room, as the pump hands it over.
fn record(room: &RoomName, epoch: Epoch, offset: u64) -> Apply {
    Apply {
        room: room.clone(),
        epoch,
        ring_version: 0,
        source: Source {
            topic: "messages".into(),
            generation: 0,
            partition: 0,
        },
        offset,
        prev: None,
        id: EventId::parse(&format!("e{offset}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from_static(b"{}"),
    }
}

async fn eventually_begun(shards: &Shards) -> Raise {
    let begun = async {
        loop {
            if let Ok(Some(raise)) = shards.begin_raise(ShardId(0)).await {
                return raise;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, begun).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_forgot_its_last_writes_gets_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Redis::start(folder.path());
    let mut station = Station::start(at(&server), 0).await;
    station.send(50).await;
    station.judge().await;
    let data = server.ask(&["CONFIG", "GET", "dir"]).unwrap();
    let data = PathBuf::from(data.lines().last().unwrap());
    // The append-only file is written each second.
    sleep(Duration::from_millis(1_500)).await;
    let old = folder.path().join("old");
    copy(&data.join("appendonlydir"), &old);
    station.send(80).await;
    station.judge().await;
    let before = station.rooms().await.unwrap();
    station.send(30).await;
    server.kill();
    std::fs::remove_dir_all(data.join("appendonlydir")).unwrap();
    copy(&old, &data.join("appendonlydir"));
    server.restart();
    station.send(30).await;
    station.judge().await;
    for (room, entries) in station.rooms().await.unwrap() {
        assert_eq!(entries[..before[&room].len()], before[&room], "{room}");
    }
    station.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_promoted_goes_on_where_the_primary_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut sentinels = Sentinels::start(folder.path());
    let urls = sentinels.urls().into_iter().map(Secret::new);
    let place = Place::Sentinel {
        sentinels: urls.collect(),
        name: SENTINEL_NAME.to_owned(),
        primary: Secret::new("redis://{}".to_owned()),
    };
    let mut station = Station::start(place, 1).await;
    station.send(60).await;
    station.judge().await;
    station.send(100).await;
    sentinels.servers[0].kill();
    station.send(40).await;
    // The promoted one has no replica: nothing is committed until it has one again.
    station.arrived().await;
    assert!(station.epoch() > Epoch(1), "{:?}", station.epoch());
    sentinels.servers[0].restart();
    station.judge().await;
    station.end().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
