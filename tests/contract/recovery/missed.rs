//! Reading back what was missed: from the timeline, from the archive, or a reason why not.

use std::time::Duration;

use tokio::time::sleep;
use vestibule::archive::{Archive, Row};
use vestibule::backend::sql::{self, Database};
use vestibule::delivery::catchup::{Catchup, Returned};
use vestibule::events::Vocabulary;
use vestibule::telemetry::labels::Resumed;
use vestibule::timeline::redis::{Options as Kept, Timeline as OnShards};
use vestibule::timeline::{Ask, End, Entry, Limits, Memory, Since, Timeline, Vector};
use vestibule::types::{Epoch, ShardId, ShardPosition, ShardSeq};

use super::{apply, at, joined, node, room, servers, user};

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
