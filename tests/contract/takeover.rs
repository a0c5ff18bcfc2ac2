//! A node dies that pumps, on a real Kafka and a real Redis, and its group takes long to notice: who has the
//! duty pumps in its place, and whatever the two of them and the next owner do at once, each event is in its
//! room once.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vestibule::backend::redis::{Options as Server, ShardOptions, Shards};
use vestibule::cluster::bus::Bus;
use vestibule::cluster::membership::{self, Load, Membership};
use vestibule::delivery::pump::{GROUP, Options as PumpOptions, Parts, Pump};
use vestibule::delivery::takeover::{Options, Takeover, stand_in};
use vestibule::eventlog::{EventLog, dead_letter_topic, kafka};
use vestibule::events::{Catalogue, Vocabulary};
use vestibule::timeline::redis::{Options as Kept, Timeline as Timelines};
use vestibule::timeline::{Apply, Entry, Outcome, Source, Timeline};
use vestibule::types::{Epoch, EventId, NodeId, Position, RoomName, ShardPosition, ShardSeq};

use crate::brokers;
use crate::membership::{TIMES, member, until};
use crate::servers::redis::Redis;

/// How long Kafka lets a member be silent: longer than everything else here takes.
const SESSION: Duration = Duration::from_secs(25);
/// Everything takes a moment on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 12;
const USERS: usize = 60;
const ROOMS: usize = 7;
/// Tells the process of an owner where everything is.
const CHILD_PLACE: &str = "VESTIBULE_TEST_CHILD_PLACE";

/// One topic, so that every node has a share of it.
const CATALOGUE: &str = r#"
[[event]]
type = "SAID"
topic = "messages"
room = "conversation:{conversationId}"
server = "said"
[event.schema]
required = []
"#;

/// The servers of a test.
struct Place {
    brokers: String,
    prefix: String,
    redis: String,
}

impl Place {
    fn new(redis: &Redis) -> Self {
        Self {
            brokers: brokers::shared().bootstrap(),
            prefix: brokers::options().prefix,
            redis: redis.url(),
        }
    }

    fn shard(&self) -> Vec<ShardOptions> {
        vec![ShardOptions {
            name: "only".to_owned(),
            weight: 1,
            server: Server::new(self.redis.clone()),
        }]
    }

    async fn parts(&self, id: &str) -> Parts {
        let options = kafka::Options {
            prefix: self.prefix.clone(),
            session_timeout: SESSION,
            ..brokers::at(&self.brokers)
        };
        let timeline = Timelines::open(self.shard(), Kept::default()).await;
        Parts {
            log: brokers::log(&options).await,
            timeline: Timeline::Redis(timeline.unwrap()),
            bus: Bus::memory(),
            vocabulary: Vocabulary::new(Catalogue::parse(CATALOGUE).unwrap()),
            node: NodeId::parse(id).unwrap(),
        }
    }
}

/// A node that pumps, and stands in for others.
struct Node {
    parts: Parts,
    membership: Membership,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Node {
    async fn start(place: &Place, id: &str) -> Self {
        let parts = place.parts(id).await;
        let shards = Shards::new(&place.shard(), &[membership::LIBRARY]).unwrap();
        let membership = Membership::join(shards, member(id, "1"), TIMES, Load::default).await;
        let membership = membership.unwrap();
        let (stop, stopped) = watch::channel(false);
        let until = || {
            let mut stopped = stopped.clone();
            async move { drop(stopped.wait_for(|is| *is).await) }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(membership.clone().run(until()));
        let takeover = Takeover::new(parts.clone(), membership.clone(), Options::new(SESSION));
        tasks.spawn(takeover.run(until()));
        let pump = Pump::new(parts.clone(), PumpOptions::default()).telling(membership.clone());
        let end = until();
        tasks.spawn(async move { pump.run(end).await.unwrap() });
        Self {
            parts,
            membership,
            stop,
            tasks,
        }
    }

    /// Which partitions each node that lives says to pump.
    fn claims(&self) -> BTreeMap<String, BTreeSet<u32>> {
        let view = self.membership.view();
        let claims = view.live.iter().map(|live| {
            let partitions = live.member.pumps.iter().map(|(_, partition)| partition);
            (live.member.id.to_string(), partitions.collect())
        });
        claims.collect()
    }

    async fn end(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = timeout(SOON, self.tasks.join_next()).await.unwrap() {
            ended.unwrap();
        }
        self.parts.log.close().await;
    }
}

/// Runs until it is killed; does nothing unless started by a test below.
#[tokio::test]
#[ignore = "the process that the tests below kill"]
async fn child() {
    let Some(place) = std::env::var_os(CHILD_PLACE) else {
        return;
    };
    let place = place.into_string().unwrap();
    let [brokers, prefix, redis] = place.split('|').collect::<Vec<_>>()[..] else {
        panic!("{place}")
    };
    let place = Place {
        brokers: brokers.to_owned(),
        prefix: prefix.to_owned(),
        redis: redis.to_owned(),
    };
    let mut node = Node::start(&place, "a").await;
    println!("pumping");
    node.tasks.join_next().await;
}

/// Node `a`, in a process of its own. Killed with the value.
struct Owner(Child);

impl Owner {
    fn start(place: &Place) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "takeover::child", "--ignored", "--nocapture"])
            .env(
                CHILD_PLACE,
                [&*place.brokers, &place.prefix, &place.redis].join("|"),
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("pumping")), "it has ended");
        // Its output is read on, so that it can write.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What was sent, and where it has to come.
#[derive(Default)]
struct Sent {
    count: usize,
    /// What comes next in each partition.
    ends: BTreeMap<u32, u64>,
}

impl Sent {
    /// An event of each user, in the log when this returns.
    async fn round(&mut self, log: &EventLog) {
        for user in 0..USERS {
            let (n, room) = (self.count, user % ROOMS);
            let json = format!(
                r#"{{"id":"e{n}","type":"SAID","userId":"user-{user}","conversationId":"{room}","timestamp":"2026-01-31T12:00:00.000Z","data":{{}}}}"#
            );
            let key = format!("user-{user}");
            let at = log
                .append("messages", &key, Bytes::from(json))
                .unwrap()
                .await
                .unwrap();
            self.ends.insert(at.partition, at.offset + 1);
            self.count += 1;
        }
    }

    /// Everything is in its room, once, and rooms have no hole. `None` while something is missing.
    async fn rooms(&self, timeline: &Timeline) -> Option<Vec<Vec<Arc<Entry>>>> {
        let mut rooms = Vec::new();
        for n in 0..ROOMS {
            let everything = ShardPosition {
                epoch: Epoch(1 << 40),
                shard_seq: ShardSeq(0),
            };
            let range = timeline
                .range(&room(n), Position::default(), everything, 10_000)
                .await;
            let range = range.unwrap();
            let seqs = range.entries.iter().map(|entry| entry.seq.0);
            assert!(
                seqs.eq(1..=range.entries.len() as u64),
                "a hole in room {n}"
            );
            rooms.push(range.entries);
        }
        let ids: BTreeSet<_> = rooms
            .iter()
            .flatten()
            .map(|entry| entry.id.clone())
            .collect();
        let count: usize = rooms.iter().map(Vec::len).sum();
        assert_eq!(ids.len(), count, "an event is there twice");
        for entries in &rooms {
            let mut last: BTreeMap<Source, u64> = BTreeMap::new();
            for entry in entries {
                let before = last.insert(entry.source.clone(), entry.offset);
                assert!(before < Some(entry.offset), "out of order: {entry:?}");
            }
        }
        (count == self.count).then_some(rooms)
    }

    async fn all_come(&self, timeline: &Timeline, within: Duration) {
        let end = Instant::now() + within;
        while self.rooms(timeline).await.is_none() {
            assert!(Instant::now() < end, "not all events come");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The group has done all of it.
    async fn all_committed(&self, log: &EventLog) {
        let end = Instant::now() + SOON;
        while committed(log, 0..PARTITIONS).await != self.ends {
            assert!(Instant::now() < end, "not all is committed");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn room(n: usize) -> RoomName {
    RoomName::parse(&format!("conversation:{n}")).unwrap()
}

fn spots(partitions: impl IntoIterator<Item = u32>) -> BTreeSet<(Arc<str>, u32)> {
    let topic: Arc<str> = Arc::from("messages");
    partitions
        .into_iter()
        .map(|n| (Arc::clone(&topic), n))
        .collect()
}

/// Where the group has still to begin; partitions without any commit are left out.
async fn committed(log: &EventLog, of: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u64> {
    let asked = spots(of).into_iter().collect();
    let found = log.committed(GROUP, asked).await.unwrap().into_iter();
    found
        .filter(|(_, _, next)| *next > 0)
        .map(|(_, partition, next)| (partition, next))
        .collect()
}

/// A process that pumps as node `a`, and two survivors here; each has some of the partitions.
async fn three(place: &Place) -> (Owner, Node, Node) {
    let owner = Owner::start(place);
    let (b, c) = (Node::start(place, "b").await, Node::start(place, "c").await);
    let are_shared = || {
        let claims = b.claims();
        let all: Vec<u32> = claims.values().flatten().copied().collect();
        claims.len() == 3 && claims.values().all(|one| one.len() == 4) && all.len() == 12
    };
    until("each has its share", SOON, are_shared).await;
    // So that nobody has to wait until everybody had the time to renew.
    sleep(TIMES.ttl * 3 / 2).await;
    (owner, b, c)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_owners_events_come_before_the_group_has_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(folder.path());
    let place = Place::new(&redis);
    let (owner, b, c) = three(&place).await;
    let theirs = b.claims().remove("a").unwrap();
    let (mut sent, log, timeline) = (Sent::default(), &b.parts.log, &b.parts.timeline);
    sent.round(log).await;
    sent.all_come(timeline, SOON).await;
    sent.all_committed(log).await;
    // It dies with events on their way: some applied and not settled, some settled and not committed.
    for _ in 0..5 {
        sent.round(log).await;
    }
    owner.signal("KILL");
    let killed = Instant::now();
    sent.round(log).await;
    let before = committed(log, theirs.clone()).await;
    sent.all_come(timeline, SESSION).await;
    let took = killed.elapsed();
    // Nobody of the group has begun with its partitions, or it would have committed: the stand-ins did that.
    sleep(2 * PumpOptions::default().commit_every).await;
    assert!(!b.claims().contains_key("a"));
    let is_left = |node: &Node| {
        node.claims()
            .values()
            .all(|claims| claims.is_disjoint(&theirs))
    };
    assert!(is_left(&b) && is_left(&c));
    assert_eq!(committed(log, theirs.clone()).await, before);
    assert_ne!(
        before,
        sent.ends
            .clone()
            .into_iter()
            .filter(|(p, _)| theirs.contains(p))
            .collect()
    );
    println!("all of it came {took:?} after the kill; Kafka waits for {SESSION:?}");
    // What comes from now on does not wait at all.
    for _ in 0..3 {
        sent.round(log).await;
        sent.all_come(timeline, Duration::from_secs(5)).await;
    }
    let all = sent.rooms(timeline).await.unwrap();
    // And then the group's owners find it done, and commit it.
    sent.all_committed(log).await;
    sent.round(log).await;
    sent.all_committed(log).await;
    let later = sent.rooms(timeline).await.unwrap();
    for (before, after) in all.iter().zip(later) {
        assert!(after.starts_with(before), "what was shown has changed");
    }
    b.end().await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_only_slept_finds_its_events_done() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(folder.path());
    let place = Place::new(&redis);
    let (owner, b, c) = three(&place).await;
    let theirs = b.claims().remove("a").unwrap();
    let (mut sent, log, timeline) = (Sent::default(), &b.parts.log, &b.parts.timeline);
    for _ in 0..3 {
        for _ in 0..3 {
            sent.round(log).await;
        }
        owner.signal("STOP");
        sent.round(log).await;
        // The stand-ins pump, and go on pumping while it wakes up with old records in its hands.
        sent.all_come(timeline, SESSION).await;
        sent.round(log).await;
        owner.signal("CONT");
        sent.round(log).await;
        sent.all_come(timeline, SOON).await;
        // It never left the group, and nobody took anything from it.
        sent.all_committed(log).await;
        until("it is back", SOON, || b.claims().get("a") == Some(&theirs)).await;
    }
    b.end().await;
    c.end().await;
}

/// What an owner leaves that dies: an event that is in its place and not settled, and a record that is none.
async fn leave_behind(parts: &Parts, sent: &mut Sent) -> Apply {
    let (log, timeline) = (&parts.log, &parts.timeline);
    let mut reader = log.consumer("reader", &["messages"]).await.unwrap();
    let first = loop {
        let polled = timeout(SOON, reader.poll(1)).await.unwrap().unwrap();
        if let Some(record) = polled.into_records().pop() {
            break record;
        }
    };
    let envelope: serde_json::Value = serde_json::from_slice(&first.value).unwrap();
    let member = |name: &str| envelope[name].as_str().unwrap().to_owned();
    let room = format!("conversation:{}", member("conversationId"));
    let mut apply = Apply {
        room: RoomName::parse(&room).unwrap(),
        epoch: Epoch(1),
        ring_version: 0,
        source: Source {
            topic: Arc::clone(&first.topic),
            generation: log.generation("messages"),
            partition: first.partition,
        },
        offset: first.offset,
        prev: None,
        id: EventId::parse(&member("id")).unwrap(),
        at: first.at,
        payload: first.value,
    };
    if let Outcome::Stale { epoch } = timeline.apply(apply.clone()).await.unwrap() {
        apply.epoch = epoch;
        timeline.apply(apply.clone()).await.unwrap();
    }
    assert!(!is_settled(timeline, &apply).await);
    let none = log.append("messages", "user-0", Bytes::from_static(b"{"));
    let at = none.unwrap().await.unwrap();
    sent.ends.insert(at.partition, at.offset + 1);
    apply
}

/// Whether an event that is in its place counts as durable.
async fn is_settled(timeline: &Timeline, apply: &Apply) -> bool {
    match timeline.apply(apply.clone()).await.unwrap() {
        Outcome::Duplicate { settled, .. } => settled,
        other => panic!("it has no place: {other:?}"),
    }
}

/// The place of each event in topic `timeline`, which is one, however often it was produced.
async fn produced(log: &EventLog) -> BTreeMap<EventId, Position> {
    let mut produced = BTreeMap::new();
    let lookback = Duration::from_secs(3_600);
    let mut replay = log.replay("timeline", &[], lookback).await.unwrap();
    loop {
        let records = replay.next(1_000).await.unwrap();
        if records.is_empty() {
            return produced;
        }
        for record in records {
            let entry = Entry::from_json(&record.value).unwrap();
            let place = entry.position();
            let known = produced.insert(entry.id.clone(), place);
            let is_same = known.is_none_or(|known| known == place);
            assert!(is_same, "{entry:?} and {known:?}");
        }
    }
}

/// Two stand-ins and the owner, over the same partitions: as after a wrong table, or two rings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stand_ins_and_the_owner_do_no_harm_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(folder.path());
    let place = Place::new(&redis);
    let (one, other) = (place.parts("one").await, place.parts("other").await);
    let (log, timeline) = (&one.log, &one.timeline);
    let mut sent = Sent::default();
    sent.round(log).await;
    let left = leave_behind(&one, &mut sent).await;

    let (end, ended) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for parts in [&one, &other] {
        let mut ended = ended.clone();
        let end = async move { drop(ended.wait_for(|is| *is).await) };
        let all = spots(0..PARTITIONS);
        let standing = stand_in(parts.clone(), PumpOptions::default(), all, end);
        tasks.spawn(async move { standing.await.unwrap() });
    }
    sent.all_come(timeline, SOON).await;
    let by = Instant::now() + SOON;
    while !is_settled(timeline, &left).await {
        assert!(Instant::now() < by, "what the owner left is not settled");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(committed(log, 0..PARTITIONS).await, BTreeMap::new());
    assert_eq!(dead_letters(log).await, 0, "that is the owner's");

    // Now the owner comes, and all three pump what comes.
    let pump = Pump::new(place.parts("owner").await, PumpOptions::default());
    let mut owner = JoinSet::new();
    owner.spawn(async move { pump.run(pending()).await.unwrap() });
    for _ in 0..10 {
        sent.round(log).await;
    }
    sent.all_come(timeline, SOON).await;
    sent.all_committed(log).await;
    assert_eq!(dead_letters(log).await, 1);
    end.send_replace(true);
    while let Some(ended) = timeout(SOON, tasks.join_next()).await.unwrap() {
        ended.unwrap();
    }
    owner.abort_all();
    let rooms = sent.rooms(timeline).await.unwrap();
    let entries = rooms.iter().flatten();
    let placed = entries.map(|entry| (entry.id.clone(), entry.position()));
    assert_eq!(placed.collect::<BTreeMap<_, _>>(), produced(log).await);
}

async fn dead_letters(log: &EventLog) -> usize {
    let topic = dead_letter_topic("messages");
    let mut replay = log
        .replay(&topic, &[], Duration::from_secs(3_600))
        .await
        .unwrap();
    replay.next(100).await.unwrap().len()
}
