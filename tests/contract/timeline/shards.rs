//! What only a shard outside the process can do: be another one than before.

use vestibule::backend::redis::Options;
use vestibule::timeline::redis::{Options as Kept, ShardOptions, Timeline as Shards};
use vestibule::timeline::{Apply, Limits, Outcome, Settlement, Timeline};
use vestibule::types::{Epoch, Position, Seq, ShardId, ShardSeq};

use super::{applied, on_redis, read, record, seqs};
use crate::servers::redis::Redis;

#[tokio::test]
async fn a_restarted_server_begins_an_epoch_and_the_rooms_seq_goes_on() {
    let ((_folder, mut servers), timeline) = on_redis(1).await;
    let first = applied(&timeline, record(&timeline, "again", 0)).await;
    assert_eq!((first.epoch, first.seq), (Epoch(1), Seq(1)));
    // The file is flushed each second; a stop in order flushes it at once.
    servers[0].restart();
    let late = record(&timeline, "again", 1);
    let refused = timeline.apply(late.clone()).await;
    assert!(refused.is_err(), "the connection is gone: {refused:?}");
    let stale = timeline.apply(late).await.unwrap();
    assert!(
        matches!(stale, Outcome::Stale { epoch: Epoch(2) }),
        "{stale:?}"
    );
    let next = applied(&timeline, record(&timeline, "again", 1)).await;
    assert_eq!(
        (next.epoch, next.seq, next.shard_seq),
        (Epoch(2), Seq(2), ShardSeq(1))
    );
    let range = read(&timeline, "again", first.position()).await;
    assert_eq!((range.complete, range.entries), (true, vec![next]));
}

#[tokio::test]
async fn what_a_restarted_server_still_has_can_be_settled() {
    let ((_folder, mut servers), timeline) = on_redis(1).await;
    let kept = applied(&timeline, record(&timeline, "kept", 0)).await;
    servers[0].restart();
    drop(timeline.apply(record(&timeline, "other", 0)).await);
    drop(timeline.apply(record(&timeline, "other", 0)).await);
    assert_eq!(timeline.epoch(ShardId(0)), Epoch(2));
    // Told of it again, it says that the entry is not settled; twice, as by the old reader and the new one.
    let again = timeline.apply(record(&timeline, "kept", 0)).await.unwrap();
    let Outcome::Duplicate {
        entry: Some(entry),
        settled: false,
    } = again
    else {
        panic!("{again:?}")
    };
    assert_eq!(entry.position(), kept.position());
    for _ in 0..2 {
        assert_eq!(timeline.settle(&entry).await.unwrap(), Settlement::Done);
    }
    let after = timeline.apply(record(&timeline, "kept", 0)).await.unwrap();
    assert!(
        matches!(after, Outcome::Duplicate { settled: true, .. }),
        "{after:?}"
    );
    // Lost, and given another place: the old one is nothing that could be settled.
    servers[0].lose();
    drop(timeline.apply(record(&timeline, "kept", 0)).await);
    drop(timeline.apply(record(&timeline, "kept", 0)).await);
    let stale = timeline.settle(&entry).await.unwrap();
    assert!(matches!(stale, Settlement::Stale { .. }), "{stale:?}");
    applied(&timeline, record(&timeline, "kept", 0)).await;
    let stale = timeline.settle(&entry).await.unwrap();
    assert!(matches!(stale, Settlement::Stale { .. }), "{stale:?}");
}

#[tokio::test]
async fn a_server_that_lost_all_begins_above_every_epoch_that_was_heard_of() {
    let ((_folder, mut servers), timeline) = on_redis(1).await;
    applied(&timeline, record(&timeline, "lost", 0)).await;
    servers[0].restart();
    drop(timeline.apply(record(&timeline, "lost", 1)).await);
    drop(timeline.apply(record(&timeline, "lost", 1)).await);
    assert_eq!(timeline.epoch(ShardId(0)), Epoch(2));
    servers[0].lose();
    drop(timeline.apply(record(&timeline, "lost", 1)).await);
    drop(timeline.apply(record(&timeline, "lost", 1)).await);
    assert!(
        timeline.epoch(ShardId(0)) > Epoch(2),
        "{:?}",
        timeline.epoch(ShardId(0))
    );
}

#[tokio::test]
async fn a_room_that_moved_is_refused_to_callers_with_an_older_ring() {
    let ((_folder, _servers), timeline) = on_redis(2).await;
    let Timeline::Redis(shards) = &timeline else {
        panic!()
    };
    let late = record(&timeline, "moved", 0);
    shards.tombstone(&late.room, 7).await.unwrap();
    let moved = timeline.apply(late.clone()).await.unwrap();
    assert!(
        matches!(moved, Outcome::Moved { ring_version: 7 }),
        "{moved:?}"
    );
    applied(
        &timeline,
        Apply {
            ring_version: 7,
            ..late
        },
    )
    .await;
}

#[tokio::test]
async fn what_is_not_settled_is_never_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Redis::start(folder.path());
    let shard = ShardOptions {
        name: "only".to_owned(),
        weight: 1,
        server: Options::new(server.url()),
    };
    let limits = Limits {
        entries_max: 3,
        keep_min: 1,
        ..Limits::default()
    };
    let timeline = Timeline::Redis(
        Shards::open(
            vec![shard],
            Kept {
                limits,
                ..Kept::default()
            },
        )
        .await
        .unwrap(),
    );
    for offset in 0..6 {
        applied(&timeline, record(&timeline, "kept", offset)).await;
    }
    let kept = read(&timeline, "kept", Position::default()).await;
    assert_eq!((seqs(&kept), kept.complete), (vec![1, 2, 3, 4, 5, 6], true));
    for index in [1, 0, 2] {
        let answer = timeline.settle(&kept.entries[index]).await.unwrap();
        assert_eq!(answer, Settlement::Done);
    }
    let kept = read(&timeline, "kept", Position::default()).await;
    assert_eq!((seqs(&kept), kept.complete), (vec![4, 5, 6], false));
    let trimmed = kept.trimmed.unwrap();
    assert_eq!(
        (trimmed.position.seq, trimmed.shard.unwrap().shard_seq),
        (Seq(3), ShardSeq(3))
    );
    assert!(read(&timeline, "kept", trimmed.position).await.complete);
}
