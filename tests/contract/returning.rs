//! What Redis has to do when the clients of a lost node come back, measured:
//!
//! ```text
//! cargo test --release --test contract -- --ignored --nocapture what_redis_does_for_each_client
//! ```
//!
//! Everything that a node asks of the shards for a client that comes back, with nothing around it: taking the
//! socket over, hearing its rooms, a tick of each shard, and reading what was missed.

#![expect(
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "it measures one thing from its preparation to its end, and says what it measured"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use vestibule::archive::Archive;
use vestibule::backend::redis::{Options, ShardOptions, Shards};
use vestibule::backend::sql::{self, Database};
use vestibule::cluster::bus::{Bus, Delivery, Port};
use vestibule::cluster::recovery::{self, Joined, Recovery, Saved, Taken};
use vestibule::cluster::redis as bus;
use vestibule::delivery::catchup::{Catchup, Returned};
use vestibule::events::Vocabulary;
use vestibule::timeline::redis::{Options as Kept, Timeline as OnShards};
use vestibule::timeline::{Timeline, Vector};
use vestibule::types::{NodeId, PrivateId, RoomName, SocketId, UserId};

use crate::recovery::apply;
use crate::servers::redis::Redis;

/// Clients of one room.
const MEMBERS: u64 = 100;
/// Rooms in which all clients are.
const ROOMS: u64 = 450;
/// Rooms of each client, beside its own.
const ROOMS_EACH: u64 = 5;
/// Events that each room got meanwhile.
const MISSED: u64 = 4;
/// Clients that come back at the same time.
const AT_ONCE: usize = 500;

/// A node's worker, as far as it asks shards.
struct Worker {
    port: Port,
    ticks: Rc<RefCell<HashMap<u64, oneshot::Sender<()>>>>,
}

impl Worker {
    async fn tick(&self, shard: vestibule::types::ShardId, token: u64) {
        let (passed, tick) = oneshot::channel();
        self.ticks.borrow_mut().insert(token, passed);
        self.port.tick(shard, token);
        tick.await.unwrap();
    }
}

fn room(n: u64) -> RoomName {
    RoomName::parse(&format!("conversation:{n}")).unwrap()
}

/// Seconds of CPU that servers have used.
fn cpu(servers: &[Redis]) -> f64 {
    let used = |server: &Redis| -> f64 {
        let info = server.ask(&["INFO", "cpu"]).unwrap();
        let main = info.lines().filter(|line| line.starts_with("used_cpu_"));
        let main = main.filter(|line| line.contains("main_thread"));
        main.filter_map(|line| line.trim().split_once(':')?.1.parse::<f64>().ok())
            .sum()
    };
    servers.iter().map(used).sum()
}

/// How often servers ran a command.
fn calls(servers: &[Redis], command: &str) -> u64 {
    let head = format!("cmdstat_{command}:calls=");
    let count = |server: &Redis| -> u64 {
        let info = server.ask(&["INFO", "commandstats"]).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(head.as_str()));
        let count = line.and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse().unwrap())
    };
    servers.iter().map(count).sum()
}

async fn measure(clients: u64, rooms: u64) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Redis> = (0..2).map(|_| Redis::start(folder.path())).collect();
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let options: Vec<ShardOptions> = servers.iter().enumerate().map(shard).collect();
    let timeline = OnShards::open(options.clone(), Kept::default())
        .await
        .unwrap();
    let timeline = Timeline::Redis(timeline);
    let libraries = [recovery::redis::LIBRARY];
    let shards = Shards::new(&options, &libraries).unwrap();
    let recovery = Recovery::redis(shards.clone(), Duration::from_secs(120));
    let bus = Bus::redis(bus::Options {
        shards,
        node: NodeId::parse("node").unwrap(),
    });
    let database = Database::open(sql::Options::new(folder.path()))
        .await
        .unwrap();
    let archive = Archive::sql(&database);
    let mut offset = 0;
    for n in 0..rooms {
        offset += 1;
        apply(&timeline, room(n).as_str(), offset, false).await;
    }
    // Where every client stood when its node was lost.
    let mut seen = Vector::default();
    for shard in timeline.shards() {
        seen.advance(shard.0, timeline.shard_top(shard.0)).unwrap();
    }
    let mine = |n: u64| {
        let own = RoomName::parse(&format!("user:u{n}")).unwrap();
        let others = (0..ROOMS_EACH).map(|i| room((n * ROOMS_EACH + i * 7) % rooms));
        let all: Vec<RoomName> = std::iter::once(own).chain(others).collect();
        all
    };
    let id = |n: u64| PrivateId::parse(&format!("private-{n:012}")).unwrap();
    let user = |n: u64| UserId::parse(&format!("u{n}")).unwrap();
    for n in 0..clients {
        let joined = |room: RoomName| {
            let shard = timeline.shard_of(&room);
            let at = seen.at(shard).unwrap_or_default();
            (room, Joined { shard, at })
        };
        let saved = Saved {
            user: user(n),
            socket: SocketId::parse(&format!("socket--{n:012}")).unwrap(),
            rooms: mine(n).into_iter().map(joined).collect(),
        };
        recovery.begin((&id(n), 1), &saved, 0).await.unwrap();
    }
    for _ in 0..MISSED {
        for n in 0..rooms {
            offset += 1;
            apply(&timeline, room(n).as_str(), offset, false).await;
        }
    }
    let catchup = Catchup::new((timeline.clone(), archive), Vocabulary::builtin(), 10_000);
    let (port, mut stream) = bus.attach(65_536);
    let ticks: Rc<RefCell<HashMap<u64, oneshot::Sender<()>>>> = Rc::default();
    let worker = Worker {
        port,
        ticks: Rc::clone(&ticks),
    };
    let tasks = LocalSet::new();
    tasks.spawn_local(async move {
        while let Some(delivery) = stream.recv().await {
            if let Delivery::Tick { token, .. } = delivery
                && let Some(passed) = ticks.borrow_mut().remove(&token)
            {
                passed.send(()).ok();
            }
        }
    });
    let (mut up_to, all) = (Vector::default(), timeline.shards());
    for (shard, _) in &all {
        up_to.advance(*shard, timeline.shard_top(*shard)).unwrap();
    }
    let reads = calls(&servers, "fcall_ro");
    let (before, start) = (cpu(&servers), Instant::now());
    let (worker, catchup, recovery) = (&worker, &catchup, &recovery);
    let (seen, up_to, all) = (&seen, &up_to, &all);
    let missed = tasks
        .run_until(async {
            let came = stream::iter(0..clients).map(|n| async move {
                let taken = recovery.take(&id(n), &user(n), 0).await.unwrap();
                let Taken::Yes { saved, .. } = taken else {
                    panic!("{taken:?}")
                };
                for (room, _) in &saved.rooms {
                    worker.port.subscribe(room);
                }
                for (index, (shard, _)) in all.iter().enumerate() {
                    worker.tick(*shard, n * 64 + index as u64).await;
                }
                let returned = Returned {
                    seen: Some(seen),
                    rooms: &saved.rooms,
                    up_to,
                };
                let missed = catchup.missed(returned).await.unwrap();
                assert_eq!(missed.len() as u64, ROOMS_EACH * MISSED);
                missed.len()
            });
            let counts: Vec<usize> = came.buffer_unordered(AT_ONCE).collect().await;
            counts.into_iter().sum::<usize>()
        })
        .await;
    let micros = (cpu(&servers) - before) * 1e6 / clients as f64;
    let reads = calls(&servers, "fcall_ro") - reads;
    println!(
        "{clients} clients, {ROOMS_EACH} rooms each of {rooms} on two shards: {micros:.0} µs of Redis' CPU \
         per client, {missed} events, {reads} rooms read for {} asked, {:.1} s",
        clients * (ROOMS_EACH + 1),
        start.elapsed().as_secs_f64(),
    );
    database.close().await;
}

#[tokio::test]
#[ignore = "a minute; prints what it measures"]
async fn what_redis_does_for_each_client() {
    println!("the same rooms, however many clients");
    for clients in [1_000, 3_000, 9_000] {
        measure(clients, ROOMS).await;
    }
    println!("as many more rooms as clients, {MEMBERS} in each");
    for clients in [1_000, 3_000, 9_000] {
        measure(clients, clients * ROOMS_EACH / MEMBERS).await;
    }
}
