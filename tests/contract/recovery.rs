//! What is kept of sockets for clients that come back, on every backend; and reading back what they missed.

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::sleep;
use vestibule::archive::{Archive, Row};
use vestibule::backend::redis::{Options, Place, ShardOptions, Shards};
use vestibule::backend::sql::{self, Database};
use vestibule::cluster::recovery::{self, Joined, Owner, Recovery, Saved, Taken, Written};
use vestibule::delivery::catchup::{Catchup, Returned};
use vestibule::events::Vocabulary;
use vestibule::telemetry::labels::Resumed;
use vestibule::timeline::redis::{Options as Kept, Timeline as OnShards};
use vestibule::timeline::{
    Apply, Ask, End, Entry, Limits, Memory, Outcome, Settle, Since, Source, Timeline, Vector,
};
use vestibule::types::{
    Epoch, EventId, PrivateId, RoomName, ShardId, ShardPosition, ShardSeq, SocketId, Timestamp,
    UserId,
};

use crate::servers::redis::{Redis, RedisCluster};

const WINDOW: Duration = Duration::from_secs(1);

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

/// Enters the shards, as every node does, so that they have an epoch.
async fn node(shards: &[ShardOptions]) -> (Timeline, Recovery) {
    let timeline = OnShards::open(shards.to_vec(), Kept::default()).await;
    let libraries = [recovery::redis::LIBRARY];
    let recovery = Recovery::redis(Shards::new(shards, &libraries).unwrap(), WINDOW);
    (Timeline::Redis(timeline.unwrap()), recovery)
}

fn servers(count: usize) -> (TempDir, Vec<Redis>, Vec<ShardOptions>) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Redis> = (0..count).map(|_| Redis::start(folder.path())).collect();
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards = servers.iter().enumerate().map(shard).collect();
    (folder, servers, shards)
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

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

const fn at(epoch: u64, shard_seq: u64) -> ShardPosition {
    ShardPosition {
        epoch: Epoch(epoch),
        shard_seq: ShardSeq(shard_seq),
    }
}

const fn joined(shard: u16, shard_seq: u64) -> Joined {
    Joined {
        shard: ShardId(shard),
        at: at(1, shard_seq),
    }
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

/// An event of a room, settled or not.
pub(crate) async fn apply(timeline: &Timeline, name: &str, offset: u64, is_settled: bool) -> Entry {
    let room = room(name);
    let shard = timeline.shard_of(&room);
    let payload = format!(
        r#"{{"id":"e{offset}","type":"MESSAGE_SENT","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"{offset}"}}}}"#
    );
    let apply = Apply {
        epoch: timeline.epoch(shard),
        ring_version: 1,
        source: Source {
            topic: "messages".into(),
            generation: 0,
            partition: 0,
        },
        offset,
        prev: None,
        id: EventId::parse(&format!("e{offset}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from(payload),
        room,
    };
    let Outcome::Applied { entry, .. } = timeline.apply(apply).await.unwrap() else {
        panic!("it takes its place")
    };
    if is_settled {
        let settle = Settle {
            seen_in: entry.epoch,
            entry: entry.clone(),
            record: None,
        };
        for settled in timeline.settle_all(shard, &[settle]).await {
            settled.unwrap();
        }
    }
    (*entry).clone()
}

fn small() -> Limits {
    Limits {
        entries_max: 20,
        keep_min: 20,
        ..Limits::default()
    }
}

async fn since(timeline: &Timeline, name: &str, mark: ShardPosition, limit: usize) -> Since {
    let ask = Ask {
        room: room(name),
        mark,
        before: None,
        limit,
    };
    let shard = timeline.shard_of(&ask.room);
    let mut answers = timeline.since_all(shard, &[ask]).await;
    answers.pop().unwrap().unwrap()
}

/// The same answers from both, whatever is asked.
#[tokio::test]
async fn a_room_is_read_back_alike_in_memory_and_on_a_shard() {
    let (_folder, servers, shards) = servers(1);
    let options = Kept {
        limits: small(),
        ..Kept::default()
    };
    let redis = Timeline::Redis(OnShards::open(shards, options).await.unwrap());
    let memory = Timeline::Memory(Memory::new(small()));
    let mut places = vec![(at(1, 0), at(redis.epoch(ShardId(0)).0, 0))];
    for n in 0..60 {
        let name = ["conversation:a", "conversation:b"][usize::from(n % 3 == 0)];
        let one = apply(&memory, name, n, true).await;
        let other = apply(&redis, name, n, true).await;
        assert_eq!((one.seq, one.shard_seq), (other.seq, other.shard_seq));
        places.push((one.shard_position(), other.shard_position()));
    }
    let position = |end: End| match end {
        End::Gone(Some(at)) => format!("gone {}", at.shard_seq),
        other => format!("{other:?}"),
    };
    for (one, other) in &places {
        for limit in [1, 9, 300] {
            for name in ["conversation:a", "conversation:b", "conversation:none"] {
                let left = since(&memory, name, *one, limit).await;
                let right = since(&redis, name, *other, limit).await;
                let seqs = |since: &Since| -> Vec<u64> {
                    since.entries.iter().map(|entry| entry.seq.0).collect()
                };
                let case = format!("{name} after {} up to {limit}", one.shard_seq);
                assert_eq!(seqs(&left), seqs(&right), "{case}");
                assert_eq!(position(left.end), position(right.end), "{case}");
            }
        }
    }
    // A quiet room's stream expires; its top is known all the same.
    let top = places[60].1;
    let key = "{vb0}:t:conversation:a";
    assert_eq!(servers[0].ask(&["DEL", key]).as_deref(), Some("1"));
    let after = since(&redis, "conversation:a", top, 9).await;
    assert_eq!((after.entries.len(), after.end), (0, End::Mark));
    let before = since(&redis, "conversation:a", places[3].1, 9).await;
    assert!(matches!(before.end, End::Gone(Some(_))), "{before:?}");
}

/// What a client missed that has seen so much of the room, by its contents.
async fn missed(
    timeline: &Timeline,
    archive: &Archive,
    seen: Option<ShardPosition>,
) -> Result<Vec<String>, Resumed> {
    let catchup = Catchup::new(
        (timeline.clone(), archive.clone()),
        Vocabulary::builtin(),
        200,
    );
    // Of a shard without rooms of this client the worker has heard less than the one before.
    let vector = |at: ShardPosition, of_other: u64| {
        let mut vector = Vector::default();
        vector.advance(ShardId(0), at).unwrap();
        let other = ShardPosition {
            epoch: Epoch(1),
            shard_seq: ShardSeq(of_other),
        };
        vector.advance(ShardId(1), other).unwrap();
        vector
    };
    let up_to = vector(timeline.shard_top(ShardId(0)), 3);
    let seen = seen.map(|at| vector(at, 7));
    let rooms = [(room("conversation:a"), joined(0, 0))];
    let returned = Returned {
        seen: seen.as_ref(),
        rooms: &rooms,
        up_to: &up_to,
    };
    let tasks = tokio::task::LocalSet::new();
    let missed = tasks.run_until(catchup.missed(returned)).await?;
    let shown = missed.iter().map(|missed| {
        let shown = catchup.shown(missed).unwrap();
        let message: serde_json::Value = serde_json::from_str(&shown.json).unwrap();
        message["content"].as_str().unwrap().to_owned()
    });
    Ok(shown.collect())
}

fn row(entry: &Entry) -> Row {
    Row {
        room: entry.room.clone(),
        position: entry.position(),
        shard: entry.shard_position(),
        id: entry.id.clone(),
        kind: "MESSAGE_SENT".to_owned(),
        user_id: user("ann"),
        at: entry.at,
        payload: String::from_utf8(entry.payload.to_vec()).unwrap(),
    }
}

fn texts(from: u64, to: u64) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn what_was_missed_is_all_of_it_or_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(sql::Options::new(folder.path()))
        .await
        .unwrap();
    let archive = Archive::sql(&database);
    let timeline = Timeline::Memory(Memory::new(small()));
    let mut entries = Vec::new();
    for n in 1..=100 {
        entries.push(apply(&timeline, "conversation:a", n, true).await);
    }
    // In the timeline alone.
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 100))).await,
        Ok(vec![])
    );
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 90))).await,
        Ok(texts(91, 100))
    );
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 80))).await,
        Ok(texts(81, 100))
    );
    // Beyond it, and the archive has nothing: no guess.
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 79))).await,
        Err(Resumed::Trimmed)
    );
    // The archive has a hole.
    let some = entries[40..60]
        .iter()
        .chain(&entries[61..])
        .map(row)
        .collect();
    archive.upsert(some, Vec::new()).await.unwrap();
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 70))).await,
        Ok(texts(71, 100))
    );
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 61))).await,
        Err(Resumed::Trimmed)
    );
    // It has all.
    let all = entries.iter().map(row).collect();
    archive.upsert(all, Vec::new()).await.unwrap();
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 5))).await,
        Ok(texts(6, 100))
    );
    assert_eq!(missed(&timeline, &archive, None).await, Ok(texts(1, 100)));
    // More than is given back.
    for n in 101..=301 {
        let entry = apply(&timeline, "conversation:a", n, true).await;
        archive.upsert(vec![row(&entry)], Vec::new()).await.unwrap();
    }
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 100))).await,
        Err(Resumed::TooMany)
    );
    assert_eq!(
        missed(&timeline, &archive, Some(at(1, 101))).await,
        Ok(texts(102, 301))
    );
    // What nobody can have seen.
    let beyond = missed(&timeline, &archive, Some(at(1, 302))).await;
    assert_eq!(beyond, Err(Resumed::PositionUnknown));
    database.close().await;
}

#[tokio::test]
async fn who_has_seen_what_was_lost_begins_anew() {
    let (folder, mut servers, shards) = servers(1);
    let database = Database::open(sql::Options::new(folder.path()))
        .await
        .unwrap();
    let archive = Archive::sql(&database);
    let (timeline, _) = node(&shards).await;
    for n in 1..=5 {
        apply(&timeline, "conversation:a", n, false).await;
    }
    assert_eq!(servers[0].ask(&["SAVE"]).as_deref(), Some("OK"));
    let old = timeline.shard_top(ShardId(0));
    servers[0].restart();
    while timeline.probe(ShardId(0)).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(timeline.epoch(ShardId(0)) > old.epoch);
    apply(&timeline, "conversation:a", 6, false).await;
    assert_eq!(
        missed(&timeline, &archive, Some(old)).await,
        Ok(texts(6, 6))
    );
    let within = at(old.epoch.0, 3);
    assert_eq!(
        missed(&timeline, &archive, Some(within)).await,
        Ok(texts(4, 6))
    );
    let beyond = at(old.epoch.0, old.shard_seq.0 + 1);
    assert_eq!(
        missed(&timeline, &archive, Some(beyond)).await,
        Err(Resumed::EpochChanged)
    );
    database.close().await;
}
