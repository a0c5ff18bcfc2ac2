//! What every timeline must do, whatever keeps it. Each test uses rooms and sources of its own.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

use std::sync::Arc;

use bytes::Bytes;
use vestibule::backend::redis::Options;
use vestibule::timeline::redis::{Options as Kept, ShardOptions, Timeline as Shards};
use vestibule::timeline::{
    Apply, Entry, Limits, Memory, Outcome, Range, Settlement, Source, Timeline,
};
use vestibule::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

use crate::servers::redis::Redis;

/// Runs the suite on a backend; a new one needs only a line like this.
macro_rules! suite {
    ($backend:ident: $new:expr; $($test:ident)*) => {
        mod $backend {
            $(#[tokio::test]
            async fn $test() {
                let (_servers, timeline) = $new;
                super::$test(&timeline).await;
            })*
        }
    };
}

suite! {
    memory: ((), super::memory());
    a_record_takes_the_next_place_in_its_room_and_its_shard
    a_record_is_applied_once
    an_offset_before_the_last_is_a_duplicate_that_says_where_it_is
    a_record_whose_predecessor_did_not_land_is_a_gap
    a_clients_retry_keeps_its_place_and_the_prefix_goes_on
    the_same_id_in_another_room_is_another_event
    offsets_of_different_sources_do_not_meet
    a_caller_with_another_epoch_is_stale_before_anything_else
    a_duplicate_is_told_before_a_gap
    a_range_is_what_is_after_and_not_beyond
    a_range_is_cut_at_its_limit_and_says_so
    a_place_that_is_not_in_the_room_is_not_completed
    an_unknown_room_is_empty
    calls_at_the_same_time_leave_no_hole
}

suite! {
    redis: super::on_redis(2).await;
    a_record_takes_the_next_place_in_its_room_and_its_shard
    a_record_is_applied_once
    an_offset_before_the_last_is_a_duplicate_that_says_where_it_is
    a_record_whose_predecessor_did_not_land_is_a_gap
    a_clients_retry_keeps_its_place_and_the_prefix_goes_on
    the_same_id_in_another_room_is_another_event
    offsets_of_different_sources_do_not_meet
    a_caller_with_another_epoch_is_stale_before_anything_else
    a_duplicate_is_told_before_a_gap
    a_range_is_what_is_after_and_not_beyond
    a_range_is_cut_at_its_limit_and_says_so
    a_place_that_is_not_in_the_room_is_not_completed
    an_unknown_room_is_empty
    calls_at_the_same_time_leave_no_hole
}

pub(crate) fn memory() -> Timeline {
    Timeline::Memory(Memory::new(Limits::default()))
}

/// Timelines on shards of their own, and the servers, which end with the value.
pub(crate) async fn on_redis(count: usize) -> ((tempfile::TempDir, Vec<Redis>), Timeline) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Redis> = (0..count).map(|_| Redis::start(folder.path())).collect();
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards = servers.iter().enumerate().map(shard).collect();
    let timeline = Shards::open(shards, Kept::default()).await;
    ((folder, servers), Timeline::Redis(timeline.unwrap()))
}

/// A record of `messages`, partition 0.
fn record(timeline: &Timeline, room: &str, offset: u64) -> Apply {
    let room = RoomName::parse(room).unwrap();
    Apply {
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
        payload: Bytes::from(format!("{{\"n\": {offset}}}")),
        room,
    }
}

async fn applied(timeline: &Timeline, record: Apply) -> Arc<Entry> {
    match timeline.apply(record).await.unwrap() {
        Outcome::Applied { entry, .. } => entry,
        other => panic!("not applied: {other:?}"),
    }
}

async fn read(timeline: &Timeline, room: &str, after: Position) -> Range {
    let room = RoomName::parse(room).unwrap();
    let up_to = timeline.shard_top(timeline.shard_of(&room));
    timeline.range(&room, after, up_to, 1_000).await.unwrap()
}

fn seqs(range: &Range) -> Vec<u64> {
    range.entries.iter().map(|entry| entry.seq.0).collect()
}

async fn a_record_takes_the_next_place_in_its_room_and_its_shard(timeline: &Timeline) {
    let first = applied(timeline, record(timeline, "takes", 4)).await;
    let epoch = timeline.epoch(timeline.shard_of(&first.room));
    assert_eq!(first.position(), Position { epoch, seq: Seq(1) });
    assert_eq!(first.shard, timeline.shard_of(&first.room));
    assert_eq!(timeline.shard_top(first.shard), first.shard_position());
    let second = applied(timeline, record(timeline, "takes", 9)).await;
    assert_eq!(
        (second.seq, second.shard_seq),
        (Seq(2), first.shard_seq.next())
    );
    assert_eq!(timeline.top(&first.room).await.unwrap(), second.position());
    let range = read(timeline, "takes", Position::default()).await;
    assert_eq!(range.entries, [first, second]);
    assert_eq!(&range.entries[1].payload[..], b"{\"n\": 9}");
}

async fn a_record_is_applied_once(timeline: &Timeline) {
    let first = applied(timeline, record(timeline, "once", 0)).await;
    for settled_before in [false, true] {
        match timeline.apply(record(timeline, "once", 0)).await.unwrap() {
            Outcome::Duplicate { entry, settled } => {
                assert_eq!(settled, settled_before);
                // Who is told that it is settled needs no entry.
                assert!(entry.as_ref() == Some(&first) || (settled && entry.is_none()));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(timeline.settle(&first).await.unwrap(), Settlement::Done);
    }
    assert_eq!(
        seqs(&read(timeline, "once", Position::default()).await),
        [1]
    );
}

async fn an_offset_before_the_last_is_a_duplicate_that_says_where_it_is(timeline: &Timeline) {
    let first = applied(timeline, record(timeline, "before", 1)).await;
    applied(timeline, record(timeline, "before", 3)).await;
    for (offset, found) in [(0, false), (1, true), (2, false)] {
        match timeline
            .apply(record(timeline, "before", offset))
            .await
            .unwrap()
        {
            Outcome::Duplicate { entry, settled } => {
                assert_eq!(entry, found.then(|| first.clone()), "{offset}");
                assert_eq!(settled, !found, "{offset}");
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_record_whose_predecessor_did_not_land_is_a_gap(timeline: &Timeline) {
    let after = |offset, prev| Apply {
        prev,
        ..record(timeline, "gap", offset)
    };
    let gap = timeline.apply(after(5, Some(4))).await.unwrap();
    assert!(matches!(gap, Outcome::Gap { last: None }), "{gap:?}");
    applied(timeline, after(4, None)).await;
    let gap = timeline.apply(after(9, Some(7))).await.unwrap();
    assert!(matches!(gap, Outcome::Gap { last: Some(4) }), "{gap:?}");
    applied(timeline, after(7, Some(4))).await;
    assert_eq!(applied(timeline, after(9, Some(7))).await.seq, Seq(3));
    // Another owner has gone further than this caller knows.
    applied(timeline, after(12, Some(4))).await;
}

async fn a_clients_retry_keeps_its_place_and_the_prefix_goes_on(timeline: &Timeline) {
    let first = applied(timeline, record(timeline, "retry", 0)).await;
    let retry = Apply {
        prev: Some(0),
        id: first.id.clone(),
        ..record(timeline, "retry", 3)
    };
    match timeline.apply(retry.clone()).await.unwrap() {
        Outcome::DuplicateId { original } => assert_eq!(original, first.position()),
        other => panic!("{other:?}"),
    }
    let again = timeline.apply(retry).await.unwrap();
    assert!(
        matches!(
            again,
            Outcome::Duplicate {
                entry: None,
                settled: true
            }
        ),
        "{again:?}"
    );
    let next = Apply {
        prev: Some(3),
        ..record(timeline, "retry", 4)
    };
    assert_eq!(applied(timeline, next).await.seq, Seq(2));
}

async fn the_same_id_in_another_room_is_another_event(timeline: &Timeline) {
    assert_eq!(
        applied(timeline, record(timeline, "same-1", 0)).await.seq,
        Seq(1)
    );
    assert_eq!(
        applied(timeline, record(timeline, "same-2", 0)).await.seq,
        Seq(1)
    );
}

async fn offsets_of_different_sources_do_not_meet(timeline: &Timeline) {
    let base = record(timeline, "sources", 5);
    let sources = [
        base.source.clone(),
        Source {
            partition: 1,
            ..base.source.clone()
        },
        Source {
            generation: 1,
            ..base.source.clone()
        },
        Source {
            topic: Arc::from("notifications"),
            ..base.source.clone()
        },
    ];
    for (n, source) in sources.into_iter().enumerate() {
        let id = EventId::parse(&format!("s{n}")).unwrap();
        applied(
            timeline,
            Apply {
                source,
                id,
                offset: 5,
                ..base.clone()
            },
        )
        .await;
    }
    let seen = read(timeline, "sources", Position::default()).await;
    assert_eq!(seqs(&seen), [1, 2, 3, 4]);
}

async fn a_caller_with_another_epoch_is_stale_before_anything_else(timeline: &Timeline) {
    let now = applied(timeline, record(timeline, "stale", 0)).await.epoch;
    for epoch in [Epoch(now.0 - 1), now.next()] {
        for (offset, prev) in [(0, None), (1, None), (9, Some(8))] {
            let late = Apply {
                epoch,
                prev,
                ..record(timeline, "stale", offset)
            };
            let outcome = timeline.apply(late).await.unwrap();
            assert!(
                matches!(outcome, Outcome::Stale { epoch } if epoch == now),
                "{outcome:?}"
            );
        }
    }
    assert_eq!(
        seqs(&read(timeline, "stale", Position::default()).await),
        [1]
    );
}

async fn a_duplicate_is_told_before_a_gap(timeline: &Timeline) {
    applied(timeline, record(timeline, "order", 5)).await;
    let replayed = Apply {
        prev: Some(9),
        ..record(timeline, "order", 5)
    };
    assert!(matches!(
        timeline.apply(replayed).await.unwrap(),
        Outcome::Duplicate { .. }
    ));
    let id = EventId::parse("e5").unwrap();
    let holed = Apply {
        prev: Some(9),
        id,
        ..record(timeline, "order", 10)
    };
    assert!(matches!(
        timeline.apply(holed).await.unwrap(),
        Outcome::Gap { last: Some(5) }
    ));
}

async fn a_range_is_what_is_after_and_not_beyond(timeline: &Timeline) {
    let mut entries = Vec::new();
    for offset in 0..5 {
        entries.push(applied(timeline, record(timeline, "range", offset)).await);
        applied(timeline, record(timeline, "range-other", offset)).await;
    }
    let room = &entries[0].room;
    let epoch = entries[0].epoch;
    let before = ShardPosition {
        epoch,
        shard_seq: ShardSeq(entries[0].shard_seq.0 - 1),
    };
    let everything = timeline.shard_top(entries[0].shard);
    // After which seq, up to where; which seqs, and the top of it.
    let cases = [
        (0, everything, vec![1, 2, 3, 4, 5], 5),
        (2, everything, vec![3, 4, 5], 5),
        (5, everything, vec![], 5),
        (0, entries[2].shard_position(), vec![1, 2, 3], 3),
        (1, entries[2].shard_position(), vec![2, 3], 3),
        (4, entries[2].shard_position(), vec![], 3),
        (0, before, vec![], 0),
    ];
    for (after, up_to, expected, top) in cases {
        for after in [
            Position {
                epoch,
                seq: Seq(after),
            },
            Position {
                epoch: Epoch(0),
                seq: Seq(after),
            },
        ] {
            let range = timeline.range(room, after, up_to, 100).await.unwrap();
            assert_eq!(seqs(&range), expected, "{after} {up_to:?}");
            assert_eq!(
                (range.complete, range.more),
                (true, false),
                "{after} {up_to:?}"
            );
            assert_eq!(
                range.top,
                Position {
                    epoch,
                    seq: Seq(top)
                },
                "{after} {up_to:?}"
            );
        }
    }
}

async fn a_range_is_cut_at_its_limit_and_says_so(timeline: &Timeline) {
    for offset in 0..3 {
        applied(timeline, record(timeline, "limit", offset)).await;
    }
    let room = RoomName::parse("limit").unwrap();
    let up_to = timeline.shard_top(timeline.shard_of(&room));
    for (limit, expected, more) in [
        (0, vec![], true),
        (2, vec![1, 2], true),
        (3, vec![1, 2, 3], false),
    ] {
        let range = timeline
            .range(&room, Position::default(), up_to, limit)
            .await
            .unwrap();
        assert_eq!(
            (seqs(&range), range.more, range.top.seq),
            (expected, more, Seq(3)),
            "{limit}"
        );
    }
}

async fn a_place_that_is_not_in_the_room_is_not_completed(timeline: &Timeline) {
    let epoch = applied(timeline, record(timeline, "beyond", 0)).await.epoch;
    for after in [
        Position { epoch, seq: Seq(2) },
        Position {
            epoch: Epoch(0),
            seq: Seq(2),
        },
        Position {
            epoch: epoch.next(),
            seq: Seq(1),
        },
    ] {
        let range = read(timeline, "beyond", after).await;
        assert_eq!((seqs(&range), range.complete), (vec![], false), "{after}");
    }
}

async fn an_unknown_room_is_empty(timeline: &Timeline) {
    let room = RoomName::parse("unknown").unwrap();
    assert_eq!(timeline.top(&room).await.unwrap().seq, Seq(0));
    let range = read(timeline, "unknown", Position::default()).await;
    assert_eq!(
        (seqs(&range), range.complete, range.top.seq),
        (vec![], true, Seq(0))
    );
    let after = Position {
        epoch: Epoch(1),
        seq: Seq(1),
    };
    assert!(!read(timeline, "unknown", after).await.complete);
}

async fn calls_at_the_same_time_leave_no_hole(timeline: &Timeline) {
    let calls = (0..50_u64).map(|n| {
        let mut record = record(timeline, "many", n);
        record.source.partition = u32::try_from(n).unwrap();
        timeline.apply(record)
    });
    for outcome in futures_util::future::join_all(calls).await {
        assert!(matches!(outcome.unwrap(), Outcome::Applied { .. }));
    }
    let range = read(timeline, "many", Position::default()).await;
    assert_eq!(seqs(&range), (1..=50).collect::<Vec<_>>());
    assert!(range.entries.is_sorted_by_key(|entry| entry.shard_seq));
}

/// What only a shard outside the process can do: be another one than before.
mod shards {
    use super::*;

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
}
