//! What members are shown while the connections between nodes and shards break and workers stall.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vestibule::backend::redis::{Options, ShardOptions, Shards};
use vestibule::cluster::bus::{Bus, Delivery};
use vestibule::cluster::redis as bus;
use vestibule::delivery::fanout::Fanout;
use vestibule::events::Vocabulary;
use vestibule::lifecycle::Admission;
use vestibule::lifecycle::admission::Bounds;
use vestibule::placement::Plan;
use vestibule::protocol::frame::Part;
use vestibule::rooms::{self, Link, NamespaceId, Outbox};
use vestibule::server::{self, Client, Handshake, Io, Local, Mailboxes, Server, Socket};
use vestibule::timeline::{Apply, Outcome, Source, Timeline, redis};
use vestibule::types::{CloseReason, EventId, NodeId, RoomName, ShardId, Timestamp};

use crate::bus::{node, room};
use crate::servers::redis::Redis;

const ROOMS: u64 = 20;
const ENTRIES: u64 = 2_000;
const CUTS: u64 = 10;

/// The messages a client was shown, as it was shown them.
type Seen = Arc<Mutex<Vec<u64>>>;

/// A transport that notes the messages it is given.
struct Noted {
    outbox: Rc<Outbox>,
    seen: Seen,
    closed: Cell<Option<CloseReason>>,
}

impl Link for Noted {
    fn drain(&self) {
        while let Some(frame) = self.outbox.pop() {
            for part in frame.parts() {
                if let Part::Text(text) = part
                    && let Some((_, rest)) = text.split_once('<')
                {
                    let number = rest.split_once('>').unwrap().0.parse().unwrap();
                    self.seen.lock().unwrap().push(number);
                }
            }
        }
    }
    fn close(&self, reason: CloseReason) {
        self.closed.set(Some(reason));
        self.outbox.close();
    }
    fn is_writable(&self) -> bool {
        true
    }
}

/// A worker on a thread of its own, with one client that is in every room; ends when told.
struct Worker {
    seen: Seen,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Option<CloseReason>>>,
}

impl Worker {
    /// Resolves when the client is in every room. The worker stalls every so often for that long.
    async fn start(bus: &Bus, timeline: &Timeline, stalls: Option<Duration>) -> Self {
        let seen = Seen::default();
        let (end, ended) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (bus, timeline, noted) = (bus.clone(), timeline.clone(), Arc::clone(&seen));
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async {
                let (client, noted) = enter(&bus, &timeline, noted).await;
                ready.send(()).unwrap();
                let stalling = async {
                    while let Some(stall) = stalls {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        stand_still(stall);
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    _ = ended => {}
                    () = stalling => {}
                }
                drop(client);
                noted.closed.get()
            })
        };
        let thread = std::thread::spawn(work);
        is_ready.await.unwrap();
        Self {
            seen,
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What the client was shown, and whether it was closed.
    fn end(mut self) -> (Vec<u64>, Option<CloseReason>) {
        self.end.take().unwrap().send(()).unwrap();
        let closed = self.thread.take().unwrap().join().unwrap();
        (self.seen.lock().unwrap().clone(), closed)
    }
}

async fn enter(bus: &Bus, timeline: &Timeline, seen: Seen) -> (Rc<Client>, Rc<Noted>) {
    let server = Server::new().namespace("/", |_| {});
    let (mailboxes, _) = Mailboxes::new(1, 8);
    let options = server::Options {
        in_flight_max: 8,
        attachments_max: 0,
        attachment_bytes_max: 0,
    };
    let local = Local::install(0, Io::new(mailboxes, server.clone()), server, options);
    let (port, stream) = bus.attach(64);
    let hub = Rc::clone(local.hub());
    let fanout = Fanout::new(
        Rc::clone(&hub),
        port,
        Vocabulary::builtin(),
        timeline.clone(),
    );
    let (running, flushing) = (Rc::clone(&fanout), Rc::clone(&hub));
    tokio::task::spawn_local(async move { running.run(stream).await });
    tokio::task::spawn_local(async move { flushing.run_flusher().await });
    let outbox = Outbox::new(rooms::Limits {
        frames_max: 1_000,
        bytes_max: 1 << 20,
    });
    let noted = Rc::new(Noted {
        outbox: Rc::clone(&outbox),
        seen,
        closed: Cell::default(),
    });
    let link: Rc<dyn Link> = Rc::clone(&noted) as Rc<dyn Link>;
    outbox.connect(Rc::downgrade(&link));
    let request = ("", std::iter::empty());
    let handshake = Handshake::new(
        Ipv4Addr::LOCALHOST.into(),
        false,
        Timestamp::default(),
        request,
    );
    let opening = Admission::new(Bounds::default()).open().unwrap();
    let client = Client::new(&local, outbox, (handshake, opening));
    client.text("0").unwrap();
    let root = NamespaceId(0);
    while hub.members(root).is_empty() {
        tokio::task::yield_now().await;
    }
    let socket = Socket::of(&hub.members(root)[0]).unwrap();
    for n in 0..ROOMS {
        let room = name(n);
        let shard = timeline.shard_of(&room);
        let attached = fanout.attach(&socket, &room, shard).await.unwrap();
        attached.hold.release(Vec::new());
    }
    (client, noted)
}

fn name(n: u64) -> RoomName {
    room(&format!("conversation:{n}"))
}

fn message(timeline: &Timeline, n: u64) -> Apply {
    let room = name(n * 7 % ROOMS);
    let shard = timeline.shard_of(&room);
    let payload = format!(
        r#"{{"id":"e{n}","type":"MESSAGE_SENT","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"<{n}>"}}}}"#
    );
    Apply {
        room,
        epoch: timeline.epoch(shard),
        ring_version: 1,
        source: Source {
            topic: Arc::from("messages"),
            generation: 0,
            partition: 0,
        },
        offset: n,
        prev: None,
        id: EventId::parse(&format!("e{n}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from(payload),
    }
}

/// Gives the message its place; answers on which shard.
async fn send(timeline: &Timeline, n: u64) -> ShardId {
    let shard = timeline.shard_of(&name(n * 7 % ROOMS));
    let outcome = timeline.apply(message(timeline, n)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    shard
}

/// Ends the connections on which nodes hear, once there are any.
async fn cut(server: &Redis) {
    while server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).as_deref() == Some("0") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_worker_shows_everything_once_and_in_order_whatever_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [Redis::start(folder.path()), Redis::start(folder.path())];
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards: Vec<ShardOptions> = servers.iter().enumerate().map(shard).collect();
    let timeline = redis::Timeline::open(shards.clone(), redis::Options::default()).await;
    let timeline = Timeline::Redis(timeline.unwrap());
    let (one, two) = (node(&shards, "one").await, node(&shards, "two").await);
    let (_port, mut probe) = one.attach(1_024);
    let stall = Some(Duration::from_millis(150));
    let workers = [
        Worker::start(&one, &timeline, None).await,
        Worker::start(&one, &timeline, stall).await,
        Worker::start(&two, &timeline, None).await,
    ];
    let mut sent: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
    for n in 0..ENTRIES {
        if n % (ENTRIES / CUTS) == ENTRIES / CUTS / 2 {
            for server in &servers {
                cut(server).await;
            }
        }
        sent.entry(send(&timeline, n).await).or_default().push(n);
    }
    assert_eq!(sent.len(), 2, "both shards have rooms");
    let all = usize::try_from(ENTRIES).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while workers.iter().any(|worker| worker.count() < all) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What would come twice has come by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut interruptions = 0;
    while let Some(delivery) = probe.try_recv() {
        interruptions += u64::from(matches!(delivery, Delivery::Interrupted { .. }));
    }
    assert!(interruptions >= CUTS, "{interruptions}");
    for worker in workers {
        let (seen, closed) = worker.end();
        assert_eq!(closed, None);
        for (shard, sent) in &sent {
            let of_shard = |n: &u64| timeline.shard_of(&name(n * 7 % ROOMS)) == *shard;
            let seen: Vec<u64> = seen.iter().copied().filter(of_shard).collect();
            assert_eq!(seen, *sent, "shard {shard}");
        }
    }
}

/// A node's part of it, all by one ring.
async fn on_ring(shards: &[ShardOptions], name: &str) -> (Shards, Timeline, Bus) {
    let all = Shards::new(shards, &[]).unwrap();
    let options = redis::Options {
        rings: Some(all.rings().clone()),
        ..redis::Options::default()
    };
    let timeline = redis::Timeline::open(shards.to_vec(), options).await;
    let bus = Bus::redis(bus::Options {
        shards: all.clone(),
        node: NodeId::parse(name).unwrap(),
    });
    (all, Timeline::Redis(timeline.unwrap()), bus)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_room_that_moves_are_shown_everything_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [(); 3].map(|()| Redis::start(folder.path()));
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards: Vec<ShardOptions> = servers.iter().enumerate().map(shard).collect();
    let (ring, timeline, one) = on_ring(&shards, "one").await;
    let (other_ring, other_timeline, two) = on_ring(&shards, "two").await;
    let two_shards = [("shard-0".to_owned(), 1), ("shard-1".to_owned(), 1)];
    let first = Plan::first(two_shards.into());
    ring.put_plan(first.clone()).await.unwrap();
    assert!(other_ring.look_for_plan().await.unwrap());
    let workers = [
        Worker::start(&one, &timeline, None).await,
        Worker::start(&one, &timeline, Some(Duration::from_millis(150))).await,
        Worker::start(&two, &other_timeline, None).await,
    ];
    for n in 0..ENTRIES {
        if n == ENTRIES / 4 {
            // The other node hears from the new shard before it knows why.
            ring.put_plan(first.change(ring.configured()).unwrap())
                .await
                .unwrap();
        }
        if n == ENTRIES / 2 {
            assert!(other_ring.look_for_plan().await.unwrap());
        }
        if n % (ENTRIES / CUTS) == ENTRIES / CUTS / 2 {
            for server in &servers {
                cut(server).await;
            }
        }
        send_by_ring(&timeline, n).await;
    }
    let moved = (0..ROOMS).filter(|n| timeline.shard_of(&name(*n)) == ShardId(2));
    assert!(moved.count() > 0, "rooms have moved");
    let all = usize::try_from(ENTRIES).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while workers.iter().any(|worker| worker.count() < all) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What would come twice has come by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for worker in workers {
        let (seen, closed) = worker.end();
        assert_eq!(closed, None);
        for room in 0..ROOMS {
            let in_room = |n: &u64| n * 7 % ROOMS == room;
            let seen: Vec<u64> = seen.iter().copied().filter(in_room).collect();
            let sent: Vec<u64> = (0..ENTRIES).filter(in_room).collect();
            assert_eq!(seen, sent, "room {room}");
        }
    }
}

/// Sends again while the ring changes, as a pump does.
async fn send_by_ring(timeline: &Timeline, n: u64) {
    loop {
        let apply = message(timeline, n);
        match timeline.apply(apply).await {
            Ok(Outcome::Applied { .. }) => return,
            Ok(Outcome::Moved { .. } | Outcome::Stale { .. }) | Err(_) => {}
            Ok(other) => panic!("{n}: {other:?}"),
        }
    }
}

/// Keeps the worker's thread busy with nothing, as a handler that computes for long does.
fn stand_still(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}
