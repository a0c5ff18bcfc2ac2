//! What a bus over Redis must do when connections, servers and workers fail, and between nodes.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vestibule::backend::redis::{Options, ShardOptions};
use vestibule::cluster::bus::{Bus, Delivery, Stream};
use vestibule::timeline::{Timeline, redis};
use vestibule::types::ShardId;

use crate::bus::{apply, close, expect, next, node, room, typing};
use crate::servers::redis::Redis;

const ONE: ShardId = ShardId(0);

struct Cluster {
    server: Redis,
    shards: Vec<ShardOptions>,
    timeline: Timeline,
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Redis::start(folder.path());
        let shards = vec![ShardOptions {
            name: "shard".to_owned(),
            weight: 1,
            server: Options::new(server.url()),
        }];
        let timeline = redis::Timeline::open(shards.clone(), redis::Options::default()).await;
        Self {
            server,
            shards,
            timeline: Timeline::Redis(timeline.unwrap()),
            _folder: folder,
        }
    }

    async fn node(&self, name: &str) -> Bus {
        node(&self.shards, name).await
    }

    /// Ends the connections on which nodes hear.
    fn cut(&self) {
        let cut = self.server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_ne!(cut.as_deref(), Some("0"));
    }
}

/// What comes next, other than what this test is not about.
async fn next_but(stream: &mut Stream, skipped: &str) -> String {
    loop {
        let delivery = tokio::time::timeout(Duration::from_secs(10), next(stream)).await;
        match delivery.unwrap() {
            delivery if delivery == skipped => {}
            delivery => return delivery,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_told_and_made_again() {
    let cluster = Cluster::start().await;
    let bus = cluster.node("one").await;
    let ((port, mut stream), (_idle, mut idle)) = (bus.attach(8), bus.attach(8));
    port.subscribe(&room("a"));
    port.tick(ONE, 1);
    expect(&mut stream, &["tick 1:0"]).await;
    for n in 0..3 {
        let (before, after) = (2 * n + 1, 2 * n + 2);
        apply(&cluster.timeline, "a", before).await;
        expect(&mut stream, &[&format!("a:{before}")]).await;
        cluster.cut();
        assert_eq!(next_but(&mut stream, "recheck").await, "interrupted 0");
        assert_eq!(next_but(&mut idle, "recheck").await, "interrupted 0");
        // What is subscribed stands again.
        apply(&cluster.timeline, "a", after).await;
        assert_eq!(next_but(&mut stream, "recheck").await, format!("a:{after}"));
        port.tick(ONE, after);
        let tick = format!("tick {after}:{after}");
        assert_eq!(next_but(&mut stream, "recheck").await, tick);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_heard_again_and_questions_are_answered() {
    let mut cluster = Cluster::start().await;
    let bus = cluster.node("one").await;
    let (port, mut stream) = bus.attach(8);
    port.subscribe(&room("a"));
    port.tick(ONE, 1);
    expect(&mut stream, &["tick 1:0"]).await;
    apply(&cluster.timeline, "a", 1).await;
    expect(&mut stream, &["a:1"]).await;
    cluster.server.kill();
    // Asked of a server that is away: answered when it is back.
    port.subscribe(&room("b"));
    port.tick(ONE, 2);
    cluster.server.restart();
    assert_eq!(next_but(&mut stream, "recheck").await, "interrupted 0");
    assert!(
        next_but(&mut stream, "recheck")
            .await
            .starts_with("tick 2:")
    );
    // Another process: its epoch begins at 0 again. The first call only finds out.
    while cluster.timeline.top(&room("b")).await.is_err() {}
    for (offset, name) in [(2, "a"), (3, "b")] {
        apply(&cluster.timeline, name, offset).await;
    }
    assert_eq!(next_but(&mut stream, "recheck").await, "a:1");
    assert_eq!(next_but(&mut stream, "recheck").await, "b:2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_read_is_told_and_holds_nobody_up() {
    let cluster = Cluster::start().await;
    let bus = cluster.node("one").await;
    let ((slow, mut slow_stream), (fast, mut fast_stream)) = (bus.attach(4), bus.attach(256));
    for port in [&slow, &fast] {
        port.subscribe(&room("a"));
    }
    fast.tick(ONE, 1);
    expect(&mut fast_stream, &["tick 1:0"]).await;
    for n in 1..=100 {
        apply(&cluster.timeline, "a", n).await;
    }
    for n in 1..=100 {
        expect(&mut fast_stream, &[&format!("a:{n}")]).await;
    }
    // It has what fitted, then knows. A tick does not promise what was dropped.
    slow.tick(ONE, 2);
    fast.tick(ONE, 3);
    expect(&mut fast_stream, &["tick 3:100"]).await;
    expect(
        &mut slow_stream,
        &["a:1", "a:2", "a:3", "a:4", "interrupted 0", "tick 2:100"],
    )
    .await;
    apply(&cluster.timeline, "a", 101).await;
    expect(&mut slow_stream, &["a:101"]).await;
    // Without a tick it is told as soon as there is room.
    for n in 102..=110 {
        apply(&cluster.timeline, "a", n).await;
    }
    for n in 101..=110 {
        expect(&mut fast_stream, &[&format!("a:{n}")]).await;
    }
    expect(
        &mut slow_stream,
        &["a:102", "a:103", "a:104", "a:105", "interrupted 0"],
    )
    .await;
    assert!(slow_stream.try_recv().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_each_others_events_and_words() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.node("one").await, cluster.node("two").await);
    let ((p1, mut s1), (p2, mut s2)) = (one.attach(64), two.attach(64));
    for (port, stream) in [(&p1, &mut s1), (&p2, &mut s2)] {
        port.subscribe(&room("a"));
        port.tick(ONE, 1);
        expect(stream, &["tick 1:0"]).await;
    }
    assert_eq!(one.publish_ephemeral(typing("a")), 0);
    expect(&mut s1, &["~a"]).await;
    expect(&mut s2, &["~a"]).await;
    apply(&cluster.timeline, "a", 1).await;
    expect(&mut s1, &["a:1"]).await;
    expect(&mut s2, &["a:1"]).await;
    assert_eq!(one.control(close("x")), 0);
    assert_eq!(two.control(close("y")), 0);
    let heard = BTreeSet::from([next(&mut s1).await, next(&mut s1).await]);
    assert_eq!(
        heard,
        BTreeSet::from(["close x", "close y"].map(String::from))
    );
    let heard = BTreeSet::from([next(&mut s2).await, next(&mut s2).await]);
    assert_eq!(
        heard,
        BTreeSet::from(["close x", "close y"].map(String::from))
    );
    // Once each: its own word does not come back.
    for (n, (port, stream)) in [(&p1, &mut s1), (&p2, &mut s2)].into_iter().enumerate() {
        port.tick(ONE, n as u64);
        expect(stream, &[&format!("tick {n}:1")]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_may_be_lost_make_everybody_look_again() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.node("one").await, cluster.node("two").await);
    let ((_p1, mut s1), (_p2, mut s2)) = (one.attach(64), two.attach(64));
    // Who was cut off may have missed some.
    cluster.cut();
    for stream in [&mut s1, &mut s2] {
        assert_eq!(next_but(stream, "interrupted 0").await, "recheck");
    }
    cluster.server.kill();
    for n in 0..10 {
        assert_eq!(one.control(close(&n.to_string())), 0);
        expect(&mut s1, &[&format!("close {n}")]).await;
    }
    cluster.server.restart();
    assert_eq!(next_but(&mut s2, "interrupted 0").await, "recheck");
    assert_eq!(next_but(&mut s1, "interrupted 0").await, "recheck");
    // The way is open again, behind at most one more word to look again.
    let mut heard = String::new();
    for n in 0.. {
        one.control(close(&format!("later {n}")));
        let delivery = tokio::time::timeout(Duration::from_millis(100), next(&mut s2)).await;
        heard = delivery.unwrap_or_default();
        if heard.starts_with("close") || n == 100 {
            break;
        }
    }
    assert!(heard.starts_with("close later"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rooms_come_and_go_under_traffic_without_a_hole() {
    const ROOMS: usize = 1_000;
    const ROUNDS: usize = 3;
    let cluster = Cluster::start().await;
    let bus = cluster.node("one").await;
    let name = |n: usize| format!("room:{n}");
    let timeline = cluster.timeline.clone();
    // Every room gets entries all the time; what of a room is after a tick must be heard.
    let mut traffic = tokio::task::JoinSet::new();
    traffic.spawn(async move {
        for offset in 0.. {
            let room = usize::try_from(offset).unwrap() * 7 % ROOMS;
            apply(&timeline, &format!("room:{room}"), offset).await;
        }
    });
    let hear = |which: usize| {
        let bus = bus.clone();
        let timeline = &cluster.timeline;
        async move {
            let (port, mut stream) = bus.attach(1 << 20);
            for round in 0..ROUNDS {
                let rooms = (which..ROOMS).step_by(2);
                let mut tokens = BTreeMap::new();
                for n in rooms.clone() {
                    let token = (round * ROOMS + n) as u64;
                    port.subscribe(&room(&name(n)));
                    port.tick(ONE, token);
                    tokens.insert(token, room(&name(n)));
                }
                let (mut tops, mut count) = (BTreeMap::new(), 0);
                while !tokens.is_empty() || count < 2_000 {
                    match stream.recv().await.unwrap() {
                        Delivery::Tick { at, token, .. } => {
                            if let Some(room) = tokens.remove(&token) {
                                let after = vestibule::types::Position::default();
                                let range = timeline.range(&room, after, at, 10_000).await;
                                let seq = range.unwrap().top.seq;
                                // What was heard before the tick is in the timeline up to it.
                                let heard = tops.insert(room, seq);
                                assert!(heard.is_none_or(|heard| heard == seq));
                            }
                        }
                        Delivery::Entry(entry) => {
                            let before = tops.insert(entry.room.clone(), entry.position.seq);
                            let is_next =
                                |before: vestibule::types::Seq| before.next() == entry.position.seq;
                            assert!(before.is_none_or(is_next), "{before:?} {entry:?}");
                            count += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                for n in rooms {
                    port.unsubscribe(&room(&name(n)));
                }
                while stream.try_recv().is_some() {}
            }
        }
    };
    tokio::join!(hear(0), hear(1));
    traffic.abort_all();
}
