//! What is kept of sockets: given back to their user, taken over by whoever is last, forgotten in time.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;
use vestibule::backend::redis::{Options, Place, ShardOptions};
use vestibule::cluster::recovery::{Joined, Owner, Recovery, Saved, Taken, Written};
use vestibule::timeline::Timeline;
use vestibule::types::{PrivateId, ShardId, SocketId};

use super::{WINDOW, joined, node, room, servers, user};
use crate::servers::redis::{Redis, RedisCluster};

/// Runs the suite on a backend; a new one needs only a line like this.
macro_rules! suite {
    ($backend:ident: $new:expr; $($test:ident)*) => {
        mod $backend {
            $(#[tokio::test]
            async fn $test() {
                let (_servers, recovery) = $new;
                super::$test(&recovery).await;
            })*
        }
    };
}

suite! {
    memory: ((), super::Recovery::memory(super::WINDOW, 100));
    what_was_written_is_given_back
    only_its_user_gets_it
    who_takes_it_over_has_the_last_word
    what_ended_is_forgotten_when_its_time_is_over
    who_left_on_purpose_leaves_nothing
}

suite! {
    redis: super::on_redis().await;
    what_was_written_is_given_back
    only_its_user_gets_it
    who_takes_it_over_has_the_last_word
    what_ended_is_forgotten_when_its_time_is_over
    who_left_on_purpose_leaves_nothing
}

suite! {
    redis_cluster: super::on_cluster().await;
    what_was_written_is_given_back
    who_takes_it_over_has_the_last_word
    who_left_on_purpose_leaves_nothing
}

async fn on_redis() -> ((TempDir, Vec<Redis>, Timeline), Recovery) {
    let (folder, servers, shards) = servers(2);
    let (timeline, recovery) = node(&shards).await;
    ((folder, servers, timeline), recovery)
}

async fn on_cluster() -> ((TempDir, RedisCluster, Timeline), Recovery) {
    let folder = tempfile::tempdir().unwrap();
    let cluster = RedisCluster::start(folder.path());
    let hosts = cluster.urls().join(",").replace("redis://", "");
    let url = format!("redis+cluster://{hosts}");
    let bucket = |n: u32| {
        let tag = format!("vb{n}");
        ShardOptions {
            server: Options::at(Place::parse(&url, &tag).unwrap()),
            name: tag,
            weight: 1,
        }
    };
    let shards: Vec<ShardOptions> = (0..4).map(bucket).collect();
    let (timeline, recovery) = node(&shards).await;
    ((folder, cluster, timeline), recovery)
}

fn id(n: u32) -> PrivateId {
    PrivateId::parse(&format!("private-{n:012}")).unwrap()
}

fn saved(rooms: &[(&str, Joined)]) -> Saved {
    Saved {
        user: user("ann"),
        socket: SocketId::parse(&"s".repeat(20)).unwrap(),
        rooms: rooms.iter().map(|(name, at)| (room(name), *at)).collect(),
    }
}

async fn begun(recovery: &Recovery, n: u32) {
    let saved = saved(&[
        ("user:ann", joined(0, 3)),
        ("conversation:a b", joined(1, 9)),
    ]);
    let written = recovery.begin((&id(n), 1), &saved, 4).await;
    assert_eq!(written, Ok(Written::Kept));
}

/// What is there now, taken over.
async fn taken(recovery: &Recovery, n: u32) -> (u64, Saved, Owner) {
    match recovery.take(&id(n), &user("ann"), 5).await.unwrap() {
        Taken::Yes {
            generation,
            mut saved,
            before,
        } => {
            saved.rooms.sort_by(|a, b| a.0.cmp(&b.0));
            (generation, saved, before)
        }
        other => panic!("{other:?}"),
    }
}

async fn what_was_written_is_given_back(recovery: &Recovery) {
    for n in 0..8 {
        begun(recovery, n).await;
        let key = (&id(n), 1);
        let later = room("conversation:c");
        let change = recovery.change(key, &later, Some(joined(1, 12))).await;
        assert_eq!(change, Ok(Written::Kept));
        let left = recovery.change(key, &room("user:ann"), None).await;
        assert_eq!(left, Ok(Written::Kept));
        let (generation, kept, before) = taken(recovery, n).await;
        assert_eq!((generation, before), (2, Owner::Here(4)));
        let rooms = [
            ("conversation:a b", joined(1, 9)),
            ("conversation:c", joined(1, 12)),
        ];
        assert_eq!(kept, saved(&rooms));
    }
}

async fn only_its_user_gets_it(recovery: &Recovery) {
    begun(recovery, 1).await;
    let other = recovery.take(&id(1), &user("bob"), 5).await;
    assert_eq!(other, Ok(Taken::Unknown));
    let none = recovery.take(&id(2), &user("ann"), 5).await;
    assert_eq!(none, Ok(Taken::Unknown));
    // That was no take-over.
    assert_eq!(taken(recovery, 1).await.0, 2);
}

async fn who_takes_it_over_has_the_last_word(recovery: &Recovery) {
    begun(recovery, 1).await;
    let (generation, before, _) = taken(recovery, 1).await;
    let (late, place) = (room("conversation:late"), Some(joined(0, 1)));
    let change = recovery.change((&id(1), 1), &late, place).await;
    assert_eq!(change, Ok(Written::TakenOver));
    let begin = recovery.begin((&id(1), 1), &saved(&[]), 4).await;
    assert_eq!(begin, Ok(Written::TakenOver));
    recovery.end((&id(1), 1), true).await.unwrap();
    let touched = recovery
        .touch(&[(id(1), 1), (id(1), generation), (id(9), 1)])
        .await;
    let expected = [Written::TakenOver, Written::Kept, Written::Gone];
    assert_eq!(touched, expected.map(Ok));
    let (next, after, owner) = taken(recovery, 1).await;
    assert_eq!((next, owner), (generation + 1, Owner::Here(5)));
    assert_eq!(after, before);
}

async fn what_ended_is_forgotten_when_its_time_is_over(recovery: &Recovery) {
    begun(recovery, 1).await;
    begun(recovery, 2).await;
    recovery.end((&id(1), 1), false).await.unwrap();
    assert_eq!(taken(recovery, 1).await.2, Owner::Nobody);
    recovery.end((&id(1), 2), false).await.unwrap();
    for _ in 0..12 {
        sleep(WINDOW / 4).await;
        let touched = recovery.touch(&[(id(2), 1)]).await;
        assert_eq!(touched, [Ok(Written::Kept)], "it lives");
    }
    let gone = recovery.take(&id(1), &user("ann"), 5).await;
    assert_eq!(gone, Ok(Taken::Unknown));
}

async fn who_left_on_purpose_leaves_nothing(recovery: &Recovery) {
    begun(recovery, 1).await;
    recovery.end((&id(1), 1), true).await.unwrap();
    let gone = recovery.take(&id(1), &user("ann"), 5).await;
    assert_eq!(gone, Ok(Taken::Unknown));
    let change = recovery
        .change((&id(1), 1), &room("r"), Some(joined(0, 1)))
        .await;
    assert_eq!(change, Ok(Written::Gone));
}

#[tokio::test]
async fn memory_holds_so_many_and_no_more() {
    let recovery = Recovery::memory(WINDOW, 2);
    begun(&recovery, 1).await;
    begun(&recovery, 2).await;
    let third = recovery.begin((&id(3), 1), &saved(&[]), 0).await;
    assert_eq!(third, Ok(Written::Full));
    recovery.end((&id(1), 1), true).await.unwrap();
    begun(&recovery, 3).await;
}

#[tokio::test]
async fn what_another_process_owned_is_taken_over_too() {
    let (_folder, _servers, shards) = servers(1);
    let ((_one, first), (_two, second)) = (node(&shards).await, node(&shards).await);
    begun(&first, 1).await;
    let (generation, _, owner) = taken(&second, 1).await;
    assert_eq!((generation, owner), (2, Owner::Elsewhere));
    let late = first.change((&id(1), 1), &room("r"), None).await;
    assert_eq!(late, Ok(Written::TakenOver));
}

/// A shard that was restarted may have lost the last writes: nothing of before counts until its owner has
/// written it again.
#[tokio::test]
async fn what_an_epoch_that_has_ended_left_is_not_trusted() {
    let (_folder, mut servers, shards) = servers(1);
    let (timeline, recovery) = node(&shards).await;
    begun(&recovery, 1).await;
    begun(&recovery, 2).await;
    servers[0].restart();
    let epoch = timeline.epoch(ShardId(0));
    // Whoever asks before the epoch is raised waits, and is answered by what is known then.
    let (taken_early, ()) = tokio::join!(
        async {
            loop {
                if let Ok(taken) = recovery.take(&id(1), &user("ann"), 5).await {
                    return taken;
                }
                sleep(Duration::from_millis(50)).await;
            }
        },
        async {
            while timeline.probe(ShardId(0)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    );
    assert!(timeline.epoch(ShardId(0)) > epoch, "it was raised");
    assert!(
        matches!(taken_early, Taken::Untrusted | Taken::Unknown),
        "{taken_early:?}"
    );
    // The owner hears that it has to write it anew.
    assert_eq!(recovery.touch(&[(id(2), 1)]).await, [Ok(Written::Gone)]);
    begun(&recovery, 2).await;
    assert_eq!(taken(&recovery, 2).await.0, 2);
}
