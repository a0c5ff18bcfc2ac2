//! What every bus must do, whatever carries it.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use serde_json::value::RawValue;
use vestibule::backend::redis::{Options, Place, ShardOptions, Shards};
use vestibule::cluster::bus::{Bus, Delivery, Ephemeral, Publication, Stream};
use vestibule::cluster::control::Control;
use vestibule::timeline::{Apply, Outcome, Source, Timeline, redis as on_redis};
use vestibule::types::{
    Epoch, EventId, NodeId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

use crate::servers::redis::{Redis, RedisCluster};

/// Runs the suite on a backend; a new one needs only a line like this.
macro_rules! suite {
    ($backend:ident: $new:expr; $($test:ident)*) => {
        mod $backend {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($new).await;
            })*
        }
    };
}

suite! {
    memory: super::Rig::memory();
    a_worker_hears_the_rooms_it_subscribed_to_in_order
    a_subscription_ends_with_its_last_unsubscribe
    a_tick_comes_after_what_was_published_and_says_how_far_that_is
    a_subscription_and_a_tick_leave_no_hole_and_no_overlap
    ephemeral_events_reach_who_hears_their_room
    closing_ends_the_streams_after_what_came_before
    control_words_reach_every_worker
}

suite! {
    redis: super::Rig::redis().await;
    a_worker_hears_the_rooms_it_subscribed_to_in_order
    a_subscription_ends_with_its_last_unsubscribe
    a_tick_comes_after_what_was_published_and_says_how_far_that_is
    a_subscription_and_a_tick_leave_no_hole_and_no_overlap
    ephemeral_events_reach_who_hears_their_room
    closing_ends_the_streams_after_what_came_before
    control_words_reach_every_worker
}

suite! {
    redis_cluster: super::Rig::redis_cluster().await;
    a_worker_hears_the_rooms_it_subscribed_to_in_order
    a_subscription_ends_with_its_last_unsubscribe
    a_tick_comes_after_what_was_published_and_says_how_far_that_is
    a_subscription_and_a_tick_leave_no_hole_and_no_overlap
    ephemeral_events_reach_who_hears_their_room
    control_words_reach_every_worker
}

// What only holds where nobody else publishes: the publisher can be held back, and a call is done when
// every worker has its delivery.
suite! {
    in_one_process: vestibule::cluster::bus::Bus::memory();
    a_shard_begins_where_its_timeline_is
    a_full_worker_holds_the_publisher_back_and_nobody_loses_anything
    a_publication_that_was_given_up_reached_nobody
    a_worker_that_leaves_frees_the_publisher
    an_unsubscribed_room_frees_the_publisher
    one_shard_that_waits_does_not_hold_another_back
    ephemeral_events_are_dropped_when_a_worker_is_busy
    closing_ends_the_streams_after_what_is_in_them
    control_words_reach_every_worker_in_their_place
    a_worker_that_cannot_take_more_words_is_told_to_look_again
}

const ONE: ShardId = ShardId(0);
const TWO: ShardId = ShardId(2);

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn at(shard_seq: u64) -> ShardPosition {
    ShardPosition {
        epoch: Epoch(1),
        shard_seq: ShardSeq(shard_seq),
    }
}

fn entry(name: &str, shard: ShardId, shard_seq: u64) -> Publication {
    Publication {
        room: room(name),
        shard,
        at: at(shard_seq),
        position: Position {
            epoch: Epoch(1),
            seq: Seq(shard_seq),
        },
        id: EventId::parse(&format!("e{shard_seq}")).unwrap(),
        payload: Bytes::from_static(b"{}"),
    }
}

pub(crate) fn typing(name: &str) -> Arc<Ephemeral> {
    Arc::new(Ephemeral {
        room: room(name),
        event: Arc::from("typing:start"),
        data: RawValue::from_string("{}".to_owned()).unwrap(),
        except: None,
    })
}

/// A bus, and who publishes on it in the order of one shard.
pub(crate) struct Rig {
    pub(crate) bus: Bus,
    timeline: Option<Timeline>,
    next: Arc<AtomicU64>,
    _servers: Option<Arc<dyn Send + Sync + std::any::Any>>,
}

impl Rig {
    fn memory() -> Self {
        Self {
            bus: Bus::memory(),
            timeline: None,
            next: Arc::default(),
            _servers: None,
        }
    }

    async fn redis() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Redis::start(folder.path());
        let place = Place::parse(&server.url(), "vb0").unwrap();
        Self::at(place, Arc::new((server, folder))).await
    }

    async fn redis_cluster() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = RedisCluster::start(folder.path());
        let hosts = cluster.urls().join(",").replace("redis://", "");
        let place = Place::parse(&format!("redis+cluster://{hosts}"), "vb0").unwrap();
        Self::at(place, Arc::new((cluster, folder))).await
    }

    async fn at(place: Place, servers: Arc<dyn Send + Sync + std::any::Any>) -> Self {
        let shards = [ShardOptions {
            name: "shard".to_owned(),
            weight: 1,
            server: Options::at(place),
        }];
        let timeline =
            on_redis::Timeline::open(shards.to_vec(), on_redis::Options::default()).await;
        Self {
            bus: node(&shards, "one").await,
            timeline: Some(Timeline::Redis(timeline.unwrap())),
            next: Arc::default(),
            _servers: Some(servers),
        }
    }

    /// A second handle that does not keep the servers.
    fn publisher(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            timeline: self.timeline.clone(),
            next: Arc::clone(&self.next),
            _servers: None,
        }
    }

    /// Publishes the shard's next entry.
    async fn publish(&self, name: &str) {
        let n = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        match &self.timeline {
            None => self.bus.publish(entry(name, ONE, n)).await,
            Some(timeline) => apply(timeline, name, n).await,
        }
    }
}

/// The bus of a node on these shards, once it hears all of them.
pub(crate) async fn node(shards: &[ShardOptions], name: &str) -> Bus {
    let shards = Shards::new(shards, &[]).unwrap();
    let bus = Bus::redis(vestibule::cluster::redis::Options {
        shards: shards.clone(),
        node: NodeId::parse(name).unwrap(),
    });
    let (port, mut stream) = bus.attach(8);
    for shard in shards.all() {
        port.tick(shard, 0);
        while !next(&mut stream).await.starts_with("tick") {}
    }
    bus
}

/// Has the timeline give the record with this offset its place.
pub(crate) async fn apply(timeline: &Timeline, name: &str, offset: u64) {
    let room = room(name);
    let apply = Apply {
        epoch: timeline.epoch(timeline.shard_of(&room)),
        ring_version: 1,
        source: Source {
            topic: Arc::from("messages"),
            generation: 0,
            partition: 0,
        },
        offset,
        prev: None,
        id: EventId::parse(&format!("e{offset}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from_static(b"{}"),
        room,
    };
    let outcome = timeline.apply(apply).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

/// A delivery in short: `room:shard_seq`, `~room`, or `tick token:shard_seq`.
pub(crate) async fn next(stream: &mut Stream) -> String {
    match stream.recv().await {
        Some(Delivery::Entry(entry)) => format!("{}:{}", entry.room, entry.at.shard_seq),
        Some(Delivery::Ephemeral(event)) => format!("~{}", event.room),
        Some(Delivery::Tick { at, token, .. }) => format!("tick {token}:{}", at.shard_seq),
        Some(Delivery::Interrupted { shard }) => format!("interrupted {shard}"),
        Some(Delivery::Control(control)) => match &*control {
            Control::CloseToken(token) => format!("close {token}"),
            Control::Recheck => "recheck".to_owned(),
            other => format!("{other:?}"),
        },
        None => "end".to_owned(),
    }
}

pub(crate) async fn expect(stream: &mut Stream, expected: &[&str]) {
    for delivery in expected {
        assert_eq!(next(stream).await, *delivery);
    }
}

/// Whether a future is done after one look at it.
fn is_done<F: Future>(future: Pin<&mut F>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

async fn a_worker_hears_the_rooms_it_subscribed_to_in_order(rig: Rig) {
    let ((p1, mut s1), (p2, mut s2)) = (rig.bus.attach(8), rig.bus.attach(8));
    p1.subscribe(&room("a"));
    p2.subscribe(&room("a"));
    p2.subscribe(&room("b"));
    p2.tick(ONE, 6);
    expect(&mut s2, &["tick 6:0"]).await;
    for name in ["a", "b", "c", "a"] {
        rig.publish(name).await;
    }
    p1.tick(ONE, 7);
    p2.tick(ONE, 8);
    expect(&mut s1, &["a:1", "a:4", "tick 7:4"]).await;
    expect(&mut s2, &["a:1", "b:2", "a:4", "tick 8:4"]).await;
    assert!(s1.try_recv().is_none() && s2.try_recv().is_none());
}

async fn a_subscription_ends_with_its_last_unsubscribe(rig: Rig) {
    let (port, mut stream) = rig.bus.attach(8);
    port.unsubscribe(&room("a"));
    port.subscribe(&room("a"));
    port.subscribe(&room("a"));
    port.unsubscribe(&room("a"));
    port.tick(ONE, 1);
    expect(&mut stream, &["tick 1:0"]).await;
    rig.publish("a").await;
    expect(&mut stream, &["a:1"]).await;
    port.unsubscribe(&room("a"));
    rig.publish("a").await;
    port.tick(ONE, 2);
    expect(&mut stream, &["tick 2:2"]).await;
    port.subscribe(&room("a"));
    port.tick(ONE, 3);
    expect(&mut stream, &["tick 3:2"]).await;
    rig.publish("a").await;
    expect(&mut stream, &["a:3"]).await;
}

async fn a_tick_comes_after_what_was_published_and_says_how_far_that_is(rig: Rig) {
    let (port, mut stream) = rig.bus.attach(8);
    port.subscribe(&room("a"));
    port.tick(ONE, 1);
    expect(&mut stream, &["tick 1:0"]).await;
    rig.publish("a").await;
    rig.publish("elsewhere").await;
    port.tick(ONE, 2);
    port.tick(ONE, 3);
    expect(&mut stream, &["a:1", "tick 2:2", "tick 3:2"]).await;
    rig.publish("a").await;
    expect(&mut stream, &["a:3"]).await;
}

async fn a_shard_begins_where_its_timeline_is(bus: Bus) {
    bus.begin(ONE, at(40));
    let (port, mut stream) = bus.attach(8);
    port.tick(ONE, 1);
    bus.publish(entry("a", ONE, 41)).await;
    bus.begin(ONE, at(3));
    port.tick(ONE, 2);
    expect(&mut stream, &["tick 1:40", "tick 2:41"]).await;
}

/// What makes a join exact: up to the tick from the timeline, after it from the stream.
async fn a_subscription_and_a_tick_leave_no_hole_and_no_overlap(rig: Rig) {
    const LAST: u64 = 3_000;
    let (bus, publisher) = (rig.bus.clone(), rig.publisher());
    // Few enough to hold a publisher back that can be held back.
    let capacity = if rig.timeline.is_none() { 4 } else { 3_000 };
    // A thread of its own, so that the two really run at once.
    let publisher = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 1..=LAST {
                publisher.publish("a").await;
            }
        });
    });
    let hear = |mut after: u64| {
        let bus = bus.clone();
        async move {
            let (port, mut stream) = bus.attach(capacity);
            while after > 0 {
                after -= 1;
                tokio::task::yield_now().await;
            }
            port.subscribe(&room("a"));
            port.tick(ONE, 0);
            let mut reached = None;
            while reached != Some(LAST) {
                match stream.recv().await {
                    Some(Delivery::Tick { at, .. }) => {
                        assert!(reached.is_none_or(|reached| reached == at.shard_seq.0));
                        reached = Some(at.shard_seq.0);
                    }
                    Some(Delivery::Entry(entry)) => {
                        let n = entry.at.shard_seq.0;
                        assert!(
                            reached.is_none_or(|before| before + 1 == n),
                            "{reached:?} {n}"
                        );
                        reached = Some(n);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    tokio::join!(hear(0), hear(3), hear(20), hear(90));
    publisher.join().unwrap();
}

async fn a_full_worker_holds_the_publisher_back_and_nobody_loses_anything(bus: Bus) {
    let ((slow, mut slow_stream), (fast, mut fast_stream)) = (bus.attach(2), bus.attach(8));
    slow.subscribe(&room("a"));
    fast.subscribe(&room("a"));
    fast.subscribe(&room("b"));
    bus.publish(entry("a", ONE, 1)).await;
    bus.publish(entry("a", ONE, 2)).await;
    let mut third = pin!(bus.publish(entry("a", ONE, 3)));
    assert!(!is_done(third.as_mut()));
    // Of the same shard and for the fast worker alone: it must not overtake.
    let mut fourth = pin!(bus.publish(entry("b", ONE, 4)));
    assert!(!is_done(fourth.as_mut()));
    // A tick is not held back, and does not count what waits.
    slow.tick(ONE, 9);
    expect(&mut slow_stream, &["a:1", "a:2", "tick 9:2"]).await;
    tokio::join!(third, fourth);
    expect(&mut slow_stream, &["a:3"]).await;
    expect(&mut fast_stream, &["a:1", "a:2", "a:3", "b:4"]).await;
}

async fn a_publication_that_was_given_up_reached_nobody(bus: Bus) {
    let ((slow, mut slow_stream), (fast, mut fast_stream)) = (bus.attach(1), bus.attach(8));
    slow.subscribe(&room("a"));
    fast.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    assert!(!is_done(pin!(bus.publish(entry("a", ONE, 2)))));
    expect(&mut slow_stream, &["a:1"]).await;
    bus.publish(entry("a", ONE, 2)).await;
    expect(&mut slow_stream, &["a:2"]).await;
    expect(&mut fast_stream, &["a:1", "a:2"]).await;
    assert!(fast_stream.try_recv().is_none());
}

async fn a_worker_that_leaves_frees_the_publisher(bus: Bus) {
    let ((slow, slow_stream), (fast, mut fast_stream)) = (bus.attach(1), bus.attach(8));
    slow.subscribe(&room("a"));
    fast.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    let mut second = pin!(bus.publish(entry("a", ONE, 2)));
    assert!(!is_done(second.as_mut()));
    drop(slow_stream);
    second.await;
    slow.subscribe(&room("a"));
    slow.tick(ONE, 1);
    bus.publish(entry("a", ONE, 3)).await;
    expect(&mut fast_stream, &["a:1", "a:2", "a:3"]).await;
}

async fn an_unsubscribed_room_frees_the_publisher(bus: Bus) {
    let (port, mut stream) = bus.attach(1);
    port.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    let mut second = pin!(bus.publish(entry("a", ONE, 2)));
    assert!(!is_done(second.as_mut()));
    port.unsubscribe(&room("a"));
    second.await;
    expect(&mut stream, &["a:1"]).await;
    assert!(stream.try_recv().is_none());
}

async fn one_shard_that_waits_does_not_hold_another_back(bus: Bus) {
    let ((slow, _slow_stream), (fast, mut fast_stream)) = (bus.attach(1), bus.attach(8));
    slow.subscribe(&room("a"));
    fast.subscribe(&room("b"));
    bus.publish(entry("a", ONE, 1)).await;
    let mut waiting = pin!(bus.publish(entry("a", ONE, 2)));
    assert!(!is_done(waiting.as_mut()));
    bus.publish(entry("b", TWO, 1)).await;
    expect(&mut fast_stream, &["b:1"]).await;
}

async fn ephemeral_events_are_dropped_when_a_worker_is_busy(bus: Bus) {
    let ((busy, mut busy_stream), (idle, mut idle_stream)) = (bus.attach(2), bus.attach(8));
    busy.subscribe(&room("a"));
    idle.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    bus.publish(entry("a", ONE, 2)).await;
    assert_eq!(bus.publish_ephemeral(typing("a")), 1);
    expect(&mut busy_stream, &["a:1", "a:2"]).await;
    assert_eq!(bus.publish_ephemeral(typing("a")), 0);
    expect(&mut busy_stream, &["~a"]).await;
    expect(&mut idle_stream, &["a:1", "a:2", "~a", "~a"]).await;
}

async fn closing_ends_the_streams_after_what_is_in_them(bus: Bus) {
    let (port, mut stream) = bus.attach(1);
    port.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    let mut second = pin!(bus.publish(entry("a", ONE, 2)));
    assert!(!is_done(second.as_mut()));
    bus.close();
    second.await;
    port.tick(ONE, 1);
    expect(&mut stream, &["a:1", "end", "end"]).await;
    let (late, mut late_stream) = bus.attach(1);
    late.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 3)).await;
    expect(&mut late_stream, &["end"]).await;
}

async fn ephemeral_events_reach_who_hears_their_room(rig: Rig) {
    let ((p1, mut s1), (p2, mut s2)) = (rig.bus.attach(8), rig.bus.attach(8));
    for (port, name) in [(&p1, "a"), (&p2, "a"), (&p2, "b")] {
        port.subscribe(&room(name));
    }
    p2.tick(ONE, 1);
    expect(&mut s2, &["tick 1:0"]).await;
    for name in ["b", "c", "a"] {
        assert_eq!(rig.bus.publish_ephemeral(typing(name)), 0);
    }
    expect(&mut s2, &["~b", "~a"]).await;
    expect(&mut s1, &["~a"]).await;
}

async fn closing_ends_the_streams_after_what_came_before(rig: Rig) {
    let (port, mut stream) = rig.bus.attach(4);
    port.subscribe(&room("a"));
    port.tick(ONE, 1);
    expect(&mut stream, &["tick 1:0"]).await;
    rig.publish("a").await;
    port.tick(ONE, 2);
    expect(&mut stream, &["a:1", "tick 2:1"]).await;
    rig.bus.close();
    port.tick(ONE, 3);
    expect(&mut stream, &["end", "end"]).await;
    let (late, mut late_stream) = rig.bus.attach(1);
    late.subscribe(&room("a"));
    rig.publish("a").await;
    expect(&mut late_stream, &["end"]).await;
}

async fn control_words_reach_every_worker(rig: Rig) {
    let ((_p1, mut s1), (_p2, mut s2)) = (rig.bus.attach(1), rig.bus.attach(1));
    assert_eq!(rig.bus.control(close("x")), 0);
    expect(&mut s1, &["close x"]).await;
    expect(&mut s2, &["close x"]).await;
}

pub(crate) fn close(token: &str) -> Control {
    Control::CloseToken(Arc::from(token))
}

async fn control_words_reach_every_worker_in_their_place(bus: Bus) {
    let ((p1, mut s1), (_p2, mut s2)) = (bus.attach(1), bus.attach(1));
    p1.subscribe(&room("a"));
    bus.publish(entry("a", ONE, 1)).await;
    // Neither subscriptions nor entries that fill a worker keep a word from it.
    assert_eq!(bus.control(close("x")), 0);
    expect(&mut s1, &["a:1", "close x"]).await;
    expect(&mut s2, &["close x"]).await;
    bus.publish(entry("a", ONE, 2)).await;
    expect(&mut s1, &["a:2"]).await;
}

async fn a_worker_that_cannot_take_more_words_is_told_to_look_again(bus: Bus) {
    let ((_slow, mut slow_stream), (_fast, mut fast_stream)) = (bus.attach(2), bus.attach(8));
    for (word, behind) in [("1", 0), ("2", 0), ("3", 1), ("4", 1)] {
        assert_eq!(bus.control(close(word)), behind);
    }
    expect(&mut slow_stream, &["close 1", "close 2"]).await;
    // Still behind: what it cannot order against the loss would be of no use to it.
    assert_eq!(bus.control(close("5")), 1);
    expect(&mut slow_stream, &["recheck"]).await;
    assert_eq!(bus.control(close("6")), 0);
    expect(&mut slow_stream, &["close 6"]).await;
    for word in ["1", "2", "3", "4", "5", "6"] {
        expect(&mut fast_stream, &[&format!("close {word}")]).await;
    }
    drop(slow_stream);
    assert_eq!(
        bus.control(close("7")),
        0,
        "a worker that is gone misses nothing"
    );
}
