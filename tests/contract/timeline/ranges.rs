//! What is read of a room: from where, up to where, and whether that is all.

use vestibule::timeline::Timeline;
use vestibule::types::{Epoch, Position, RoomName, Seq, ShardPosition, ShardSeq};

use super::{applied, read, record, seqs, suite};

suite! {
    memory: ((), crate::timeline::memory());
    a_range_is_what_is_after_and_not_beyond
    a_range_is_cut_at_its_limit_and_says_so
    a_place_that_is_not_in_the_room_is_not_completed
    an_unknown_room_is_empty
}

suite! {
    redis: crate::timeline::on_redis(2).await;
    a_range_is_what_is_after_and_not_beyond
    a_range_is_cut_at_its_limit_and_says_so
    a_place_that_is_not_in_the_room_is_not_completed
    an_unknown_room_is_empty
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
