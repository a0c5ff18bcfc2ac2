//! Rooms that move to a shard that is added: nothing of them is lost, doubled or out of order, whoever applies
//! and reads meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use vestibule::backend::redis::{Options as Server, ShardOptions, Shards};
use vestibule::cluster::membership::Membership;
use vestibule::delivery::moving::Mover;
use vestibule::placement::Plan;
use vestibule::timeline::redis::{Options, Timeline as OnShards};
use vestibule::timeline::{Apply, Entry, Outcome, Settlement, Source, Timeline};
use vestibule::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

use crate::membership::member;
use crate::servers::redis::Redis;

const ROOMS: u64 = 60;
const NEW: ShardId = ShardId(2);

/// Two shards on the ring, and a third that is known.
struct Scene {
    _folder: tempfile::TempDir,
    servers: Vec<Redis>,
    specs: Vec<ShardOptions>,
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers: Vec<Redis> = (0..3).map(|_| Redis::start(folder.path())).collect();
        let spec = |(n, server): (usize, &Redis)| ShardOptions {
            name: format!("shard-{n}"),
            weight: 1,
            server: Server::new(server.url()),
        };
        let specs = servers.iter().enumerate().map(spec).collect();
        Self {
            _folder: folder,
            servers,
            specs,
        }
    }

    /// What a node has of it. The first begins with two shards, the others find that.
    async fn node(&self) -> Node {
        let shards = Shards::new(&self.specs, &[]).unwrap();
        let two = [("shard-0".to_owned(), 1), ("shard-1".to_owned(), 1)];
        // Somebody else's is as good.
        drop(shards.put_plan(Plan::first(two.into())).await);
        assert!(shards.look_for_plan().await.unwrap());
        let options = Options {
            rings: Some(shards.rings().clone()),
            ..Options::default()
        };
        let timeline = OnShards::open(self.specs.clone(), options).await.unwrap();
        Node { shards, timeline }
    }
}

#[derive(Clone)]
struct Node {
    shards: Shards,
    timeline: OnShards,
}

impl Node {
    fn port(&self) -> Timeline {
        Timeline::Redis(self.timeline.clone())
    }

    /// Brings all rooms to their places, as the node with the duty does.
    async fn settle(&self) {
        let mover = Mover {
            shards: self.shards.clone(),
            timeline: self.timeline.clone(),
            membership: Membership::alone(member("one", "1")),
        };
        let settled = async {
            while self.shards.rings().view().plan.before.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(30), mover.run(settled));
        done.await.unwrap();
    }

    /// Puts the third shard on the ring.
    async fn change(&self) {
        let plan = self.shards.rings().view().plan.clone();
        let plan = plan.change(self.shards.configured()).unwrap();
        self.shards.put_plan(plan).await.unwrap();
    }

    fn record(&self, room: &RoomName, (partition, offset): (u32, u64)) -> Apply {
        let port = self.port();
        Apply {
            room: room.clone(),
            epoch: port.epoch(port.shard_of(room)),
            ring_version: 0,
            source: Source {
                topic: Arc::from("messages"),
                generation: 0,
                partition,
            },
            offset,
            prev: None,
            id: EventId::parse(&format!("{partition}-{offset}-{room}").replace(':', "-")).unwrap(),
            at: Timestamp::from_millis(1_000),
            payload: Bytes::from_static(b"{}"),
        }
    }

    /// Applies as a pump does: what is moved, stale or away is tried again.
    async fn apply(&self, room: &RoomName, place: (u32, u64)) -> Outcome {
        loop {
            match self.port().apply(self.record(room, place)).await {
                Ok(Outcome::Moved { .. } | Outcome::Stale { .. }) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(outcome) => return outcome,
            }
        }
    }

    async fn applied(&self, room: &RoomName, place: (u32, u64)) -> Arc<Entry> {
        match self.apply(room, place).await {
            Outcome::Applied { entry, .. } => entry,
            other => panic!("{room} {place:?}: {other:?}"),
        }
    }

    async fn entries(&self, room: &RoomName) -> Vec<Arc<Entry>> {
        let all = ShardPosition {
            epoch: Epoch(1 << 40),
            shard_seq: ShardSeq(0),
        };
        let port = self.port();
        let range = port.range(room, Position::default(), all, 10_000);
        range.await.unwrap().entries
    }
}

fn rooms() -> impl Iterator<Item = RoomName> {
    (0..ROOMS).map(|n| RoomName::parse(&format!("conversation:{n}")).unwrap())
}

#[tokio::test]
async fn a_room_keeps_its_places_ids_and_what_is_not_settled() {
    let scene = Scene::start();
    let (one, late) = (scene.node().await, scene.node().await);
    let mut third = BTreeMap::new();
    for room in rooms() {
        for offset in 1..=3 {
            let entry = one.applied(&room, (0, offset)).await;
            if offset < 3 {
                assert_eq!(one.port().settle(&entry).await.unwrap(), Settlement::Done);
            } else {
                third.insert(room.clone(), entry);
            }
        }
    }
    let before = one.shards.rings().view();
    one.change().await;
    let moved: Vec<RoomName> = rooms()
        .filter(|room| one.port().shard_of(room) != before.room(room.as_str()))
        .collect();
    assert!(moved.len() > 5, "{}", moved.len());
    assert!(moved.iter().all(|room| one.port().shard_of(room) == NEW));
    // Who has not heard of it is told, and changes nothing at the old place.
    let outcome = late.port().apply(late.record(&moved[0], (1, 1))).await;
    assert!(matches!(outcome, Ok(Outcome::Moved { .. })), "{outcome:?}");
    assert!(late.shards.look_for_plan().await.unwrap());
    for room in rooms() {
        let again = late.apply(&room, (0, 3)).await;
        let Outcome::Duplicate {
            entry: Some(entry),
            settled: false,
        } = again
        else {
            panic!("{room}: {again:?}");
        };
        assert_eq!(entry, third[&room]);
        // It is settled where it is now, though it was written elsewhere.
        assert_eq!(
            one.port().settle(&third[&room]).await.unwrap(),
            Settlement::Done
        );
        let again = late.apply(&room, (0, 3)).await;
        assert!(
            matches!(again, Outcome::Duplicate { settled: true, .. }),
            "{again:?}"
        );
        let mut retry = late.record(&room, (0, 4));
        retry.id = third[&room].id.clone();
        let retried = late.port().apply(retry).await.unwrap();
        let Outcome::DuplicateId { original } = retried else {
            panic!("{room}: {retried:?}");
        };
        assert_eq!(original, third[&room].position());
        let next = one.applied(&room, (0, 5)).await;
        assert_eq!((next.seq, next.shard), (Seq(4), one.port().shard_of(&room)));
        let entries = late.entries(&room).await;
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 4], "{room}");
        let was = before.room(room.as_str());
        assert!(entries[..3].iter().all(|entry| entry.shard == was));
        assert_eq!(entries[2], third[&room]);
    }
}

#[tokio::test]
async fn what_a_shard_lost_before_its_rooms_left_is_not_settled_where_they_are() {
    let scene = Scene::start();
    let one = scene.node().await;
    let mut written = BTreeMap::new();
    for room in rooms() {
        written.insert(room.clone(), one.applied(&room, (0, 1)).await);
    }
    // Both shards of this epoch lose everything; the new one is in an epoch of the same number.
    for server in &scene.servers[..2] {
        server.ask(&["FLUSHALL"]).unwrap();
    }
    one.change().await;
    let moved: Vec<_> = written
        .iter()
        .filter(|(room, _)| one.port().shard_of(room) == NEW)
        .collect();
    assert!(moved.len() > 5, "{}", moved.len());
    for (room, lost) in moved {
        let settled = async {
            loop {
                match one.port().settle(lost).await {
                    // The shard that lost it begins an epoch.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Ok(settled) => return settled,
                }
            }
        };
        assert_eq!(settled.await, Settlement::Lost, "{room}");
        let again = one.applied(room, (0, 1)).await;
        let settled = one.port().settle(&again).await.unwrap();
        assert_eq!(settled, Settlement::Done, "{room}");
    }
}

#[tokio::test]
async fn rooms_that_nobody_asks_for_go_and_come_back() {
    let scene = Scene::start();
    let one = scene.node().await;
    for room in rooms() {
        one.applied(&room, (0, 1)).await;
    }
    let on = |n: usize| {
        let keys = scene.servers[n].ask(&["KEYS", &format!("{{vb{n}}}:t:*")]);
        keys.unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .count()
    };
    let all = usize::try_from(ROOMS).unwrap();
    assert_eq!((on(0) + on(1), on(2)), (all, 0));
    one.change().await;
    one.settle().await;
    let moved = on(2);
    assert!(moved > 5, "{moved}");
    // What they left goes by itself.
    let room = rooms()
        .find(|room| one.port().shard_of(room) == NEW)
        .unwrap();
    let left =
        (0..2).filter_map(|n| scene.servers[n].ask(&["PTTL", &format!("{{vb{n}}}:m:{room}")]));
    let left: Vec<i64> = left.map(|ms| ms.trim().parse().unwrap()).collect();
    assert!(left.iter().any(|ms| *ms > 0), "{left:?}");
    let entries = one.entries(&room).await;
    assert_eq!(entries.len(), 1);
    one.applied(&room, (0, 2)).await;
    // The shard is taken off the ring again: everything goes on where it was before all that.
    let mut without = one.shards.configured();
    without.remove("shard-2");
    let plan = one.shards.rings().view().plan.change(without).unwrap();
    one.shards.put_plan(plan).await.unwrap();
    one.settle().await;
    for room in rooms() {
        let next = one.applied(&room, (0, 3)).await;
        assert_ne!(next.shard, NEW);
        let entries = one.entries(&room).await;
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{room}");
        assert!(seqs.len() >= 2);
    }
}

#[tokio::test]
async fn places_rise_though_the_new_shard_is_in_an_earlier_epoch() {
    let mut scene = Scene::start();
    // Each start of a server begins an epoch.
    for _ in 0..3 {
        scene.servers[0].restart();
        scene.servers[1].restart();
        drop(scene.node().await);
    }
    let one = scene.node().await;
    let mut last = BTreeMap::new();
    for room in rooms() {
        last.insert(room.clone(), one.applied(&room, (0, 1)).await.position());
    }
    assert!(one.port().epoch(NEW) < one.port().epoch(ShardId(0)));
    one.change().await;
    for room in rooms() {
        let next = one.applied(&room, (0, 2)).await.position();
        assert!(next > last[&room], "{room}: {next} after {}", last[&room]);
        assert_eq!(next.seq, Seq(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_move_under_the_hands_of_two_nodes() {
    const EACH: u64 = 60;
    let scene = Scene::start();
    let nodes = [scene.node().await, scene.node().await];
    let mut appliers = JoinSet::new();
    for (node, partition) in nodes.iter().zip(0..) {
        for room in rooms() {
            let node = node.clone();
            appliers.spawn(async move {
                for offset in 1..=EACH {
                    // Another owner has the same records, and is where it is.
                    let outcome = node.apply(&room, (partition, offset)).await;
                    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
                    drop(node.apply(&room, (partition, offset.max(2) - 1)).await);
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    nodes[0].change().await;
    // The other one hears of it later, but before its call is given up.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(nodes[1].shards.look_for_plan().await.unwrap());
    while let Some(ended) = appliers.join_next().await {
        ended.unwrap();
    }
    for room in rooms() {
        let entries = nodes[1].entries(&room).await;
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(seqs, (1..=2 * EACH).collect::<Vec<_>>(), "{room}");
        assert!(entries.is_sorted_by_key(|entry| entry.position()));
        for partition in 0..2 {
            let of = entries.iter().filter(|e| e.source.partition == partition);
            let offsets: Vec<u64> = of.map(|entry| entry.offset).collect();
            assert_eq!(offsets, (1..=EACH).collect::<Vec<_>>(), "{room}");
        }
    }
}
