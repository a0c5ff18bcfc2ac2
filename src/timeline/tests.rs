//! What the in-memory timeline keeps, drops and restores. What every backend must do is in
//! tests/contract.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Apply, Entry, Limits, Memory, Outcome, Range, Source, Trimmed};
use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

const EVERYTHING: ShardPosition = ShardPosition {
    epoch: Epoch(u64::MAX),
    shard_seq: ShardSeq(u64::MAX),
};

fn limits() -> Limits {
    Limits {
        entries_max: 4,
        keep_min: 2,
        ttl: Duration::from_millis(100),
        dedup_window: Duration::from_millis(100),
        ids_max: 1_000,
        bytes_max: usize::MAX,
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn source(partition: u32) -> Source {
    Source {
        topic: Arc::from("messages"),
        generation: 0,
        partition,
    }
}

fn position(epoch: u64, seq: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        seq: Seq(seq),
    }
}

fn record(name: &str, offset: u64, at: i64) -> Apply {
    Apply {
        room: room(name),
        epoch: Epoch(1),
        ring_version: 1,
        source: source(0),
        offset,
        prev: None,
        id: EventId::parse(&format!("{name}-{offset}")).unwrap(),
        at: Timestamp::from_millis(at),
        payload: Bytes::from_static(b"{}"),
    }
}

/// Applies and settles; panics when it takes no place.
fn put(timeline: &Memory, record: Apply) -> Arc<Entry> {
    let (room, source, offset) = (record.room.clone(), record.source.clone(), record.offset);
    let entry = applied(timeline.apply(record));
    timeline.settled(&room, &source, offset);
    entry
}

fn applied(outcome: Outcome) -> Arc<Entry> {
    match outcome {
        Outcome::Applied { entry, .. } => entry,
        other => panic!("not applied: {other:?}"),
    }
}

fn read(timeline: &Memory, name: &str, after: Position) -> Range {
    timeline.range(&room(name), after, EVERYTHING, 100)
}

fn seqs(range: &Range) -> Vec<u64> {
    range.entries.iter().map(|entry| entry.seq.0).collect()
}

#[test]
fn a_room_that_moved_says_so_before_anything_else() {
    let timeline = Memory::new(limits());
    put(&timeline, record("a", 0, 0));
    timeline.tombstone(&room("a"), 2);
    let late = Apply {
        epoch: Epoch(9),
        ..record("a", 0, 0)
    };
    assert!(matches!(
        timeline.apply(late),
        Outcome::Moved { ring_version: 2 }
    ));
    let knowing = Apply {
        ring_version: 2,
        ..record("a", 1, 0)
    };
    assert!(matches!(timeline.apply(knowing), Outcome::Applied { .. }));
}

#[test]
fn a_long_room_is_trimmed_and_says_what_it_no_longer_has() {
    let timeline = Memory::new(limits());
    for offset in 0..6 {
        put(&timeline, record("a", offset, 0));
    }
    let range = read(&timeline, "a", position(1, 2));
    assert_eq!((seqs(&range), range.complete), (vec![3, 4, 5, 6], true));
    let shard = ShardPosition {
        epoch: Epoch(1),
        shard_seq: ShardSeq(2),
    };
    assert_eq!(
        range.trimmed,
        Some(Trimmed {
            position: position(1, 2),
            home: ShardId(0),
            shard: Some(shard)
        })
    );
    assert!(!read(&timeline, "a", position(1, 1)).complete);
    assert!(!read(&timeline, "a", position(0, 0)).complete);
    let cut = timeline.range(&room("a"), position(1, 2), shard, 100);
    assert_eq!(
        (seqs(&cut), cut.complete, cut.top),
        (vec![], true, position(1, 2))
    );
}

#[test]
fn what_is_not_settled_is_never_trimmed() {
    let timeline = Memory::new(limits());
    applied(timeline.apply(record("a", 0, 0)));
    for offset in 1..8 {
        put(&timeline, record("a", offset, 0));
    }
    assert_eq!(
        seqs(&read(&timeline, "a", position(1, 0))),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    timeline.sweep(Timestamp::from_millis(10_000), 10);
    assert_eq!(seqs(&read(&timeline, "a", position(1, 0))).len(), 8);
    timeline.settled(&room("a"), &source(0), 0);
    assert_eq!(seqs(&read(&timeline, "a", position(1, 4))), [5, 6, 7, 8]);
    assert!(!read(&timeline, "a", position(1, 3)).complete);
}

#[test]
fn old_entries_go_but_the_last_few_stay_while_the_room_lives() {
    let timeline = Memory::new(limits());
    for (offset, at) in [(0, 0), (1, 10), (2, 20), (3, 500)] {
        put(&timeline, record("a", offset, at));
    }
    assert_eq!(seqs(&read(&timeline, "a", position(1, 2))), [3, 4]);
    assert!(!read(&timeline, "a", position(1, 1)).complete);
}

#[test]
fn an_idle_room_drops_its_entries_and_still_knows_what_it_applied() {
    for by_itself in [true, false] {
        let timeline = Memory::new(limits());
        put(&timeline, record("a", 0, 0));
        put(&timeline, record("a", 1, 0));
        if by_itself {
            put(&timeline, record("b", 0, 101));
        } else {
            timeline.sweep(Timestamp::from_millis(101), 10);
        }
        let range = read(&timeline, "a", position(1, 1));
        assert_eq!((seqs(&range), range.complete), (vec![], false));
        assert_eq!(
            range.trimmed.map(|trimmed| trimmed.position),
            Some(position(1, 2))
        );
        assert!(read(&timeline, "a", position(1, 2)).complete);
        let again = timeline.apply(record("a", 1, 0));
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
        assert_eq!(put(&timeline, record("a", 2, 200)).seq, Seq(3));
        assert!(read(&timeline, "a", position(1, 2)).complete);
    }
}

#[test]
fn a_shard_that_keeps_too_much_drops_the_rooms_longest_untouched() {
    let timeline = Memory::new(Limits {
        bytes_max: 3_000,
        ttl: Duration::MAX,
        ..limits()
    });
    for n in 0..40 {
        put(
            &timeline,
            record(&format!("r{n}"), n, i64::try_from(n).unwrap()),
        );
        assert!(timeline.bytes() <= 3_400, "{}", timeline.bytes());
    }
    assert_eq!(seqs(&read(&timeline, "r0", position(1, 0))).len(), 0);
    assert!(!read(&timeline, "r0", position(1, 0)).complete);
    assert_eq!(seqs(&read(&timeline, "r39", position(1, 0))), [1]);
}

#[test]
fn a_new_epoch_goes_on_with_the_rooms_and_counts_the_shard_anew() {
    let timeline = Memory::new(Limits {
        entries_max: 10,
        ..limits()
    });
    for offset in 0..3 {
        put(&timeline, record("a", offset, 0));
    }
    assert_eq!(timeline.raise(ShardId(0)), Epoch(2));
    assert!(matches!(
        timeline.apply(record("a", 3, 0)),
        Outcome::Stale { epoch: Epoch(2) }
    ));
    let entry = put(
        &timeline,
        Apply {
            epoch: Epoch(2),
            ..record("a", 3, 0)
        },
    );
    assert_eq!(
        (entry.position(), entry.shard_seq),
        (position(2, 4), ShardSeq(1))
    );
    let cases = [
        (position(1, 2), vec![3, 4], true),
        (position(1, 3), vec![4], true),
        (position(0, 3), vec![4], true),
        (position(2, 4), vec![], true),
        (position(1, 4), vec![4], false), // it saw an order that is not the room's
        (position(2, 3), vec![4], false),
        (position(1, 9), vec![4], false),
        (position(3, 1), vec![], false),
    ];
    for (after, seen, complete) in cases {
        let range = read(&timeline, "a", after);
        assert_eq!((seqs(&range), range.complete), (seen, complete), "{after}");
    }
}

/// What topic `timeline` holds of a room of `n` events.
fn topic(n: u64) -> Vec<Entry> {
    let timeline = Memory::new(Limits {
        entries_max: 100,
        ..limits()
    });
    (0..n)
        .map(|offset| Entry::clone(&put(&timeline, record("a", offset, 0))))
        .collect()
}

#[test]
fn a_restored_room_goes_on_where_it_was() {
    let entries = topic(6);
    // Which entries come back, the archive's top before and after them; what is then complete.
    let cases: &[(&[u64], u64, u64, Option<u64>)] = &[
        (&[1, 2, 3], 0, 0, Some(0)),
        (&[1, 2, 2, 3, 1], 0, 0, Some(0)),
        (&[2, 3], 0, 3, Some(1)),
        (&[3, 2, 1], 0, 0, Some(0)),
        (&[2, 3], 3, 0, Some(1)),
        (&[1, 3], 0, 0, Some(2)),
        (&[1, 2], 3, 0, None),
        (&[1, 2], 0, 3, None),
        (&[], 3, 3, None),
        (&[1, 2, 3, 4, 5, 6], 0, 0, Some(2)),
    ];
    for (seqs_back, before, after, complete_from) in cases {
        let case = format!("{seqs_back:?} {before} {after}");
        let timeline = Memory::new(limits());
        timeline.restore_top(&room("a"), position(1, *before));
        for seq in *seqs_back {
            timeline.restore(entries[usize::try_from(*seq).unwrap() - 1].clone());
        }
        timeline.restore_top(&room("a"), position(1, *after));
        let archived = ShardPosition {
            epoch: Epoch(1),
            shard_seq: ShardSeq(3),
        };
        timeline.restore_shard(ShardId(0), archived);
        let top = seqs_back
            .iter()
            .max()
            .copied()
            .unwrap_or(0)
            .max(*before)
            .max(*after);
        assert_eq!(timeline.top(&room("a")), position(1, top), "{case}");
        for from in 0..top {
            let expected = complete_from.is_some_and(|first| from >= first);
            assert_eq!(
                read(&timeline, "a", position(1, from)).complete,
                expected,
                "{case} {from}"
            );
        }
        assert!(read(&timeline, "a", position(1, top)).complete, "{case}");
        let entry = applied(timeline.apply(record("a", 10, 0)));
        assert_eq!(
            (entry.seq.0, entry.shard_seq.0),
            (top + 1, top.max(3) + 1),
            "{case}"
        );
        let range = read(&timeline, "a", position(1, top));
        assert_eq!(
            (seqs(&range), range.complete),
            (vec![top + 1], true),
            "{case}"
        );
        if complete_from.is_none() {
            assert_eq!(
                range.trimmed.map(|t| t.position),
                Some(position(1, top)),
                "{case}"
            );
        }
    }
}

#[test]
fn restored_entries_are_known_settled_duplicates() {
    let timeline = Memory::new(limits());
    topic(3)
        .into_iter()
        .for_each(|entry| timeline.restore(entry));
    let again = timeline.apply(record("a", 1, 0));
    assert!(
        matches!(
            again,
            Outcome::Duplicate {
                entry: Some(_),
                settled: true
            }
        ),
        "{again:?}"
    );
    let retry = Apply {
        id: EventId::parse("a-1").unwrap(),
        ..record("a", 7, 0)
    };
    assert!(
        matches!(timeline.apply(retry), Outcome::DuplicateId { original } if original.seq.0 == 2)
    );
}

/// One record of a log that is read in one order over all partitions, as the embedded log's is.
#[derive(Debug, Clone)]
struct Written {
    partition: u32,
    room: u8,
    id: u8,
    after_ms: i64,
}

fn written() -> impl Strategy<Value = Written> {
    (0..3_u32, 0..3_u8, 0..12_u8, 0..5_i64).prop_map(|(partition, room, id, after_ms)| Written {
        partition,
        room,
        id,
        after_ms,
    })
}

fn records(log: &[Written]) -> Vec<Apply> {
    let mut at = 0;
    let numbered = log.iter().enumerate();
    let record = |(n, written): (usize, &Written)| {
        at += written.after_ms;
        Apply {
            source: source(written.partition),
            id: EventId::parse(&format!("{}-{}", written.room, written.id)).unwrap(),
            ..record(&format!("r{}", written.room), u64::try_from(n).unwrap(), at)
        }
    };
    numbered.map(record).collect()
}

proptest! {
    /// Killed anywhere and restored from what was durable, the rest of the log applied again gives
    /// every event the place it had, and no retry a place.
    #[test]
    fn applying_the_log_again_gives_the_same_positions(
        log in proptest::collection::vec(written(), 1..120),
        killed in 0..120_usize,
        not_committed in 0..20_usize,
        durable in 0..=20_usize,
    ) {
        // Ids come back after the window too; what is not committed spans less than a window.
        let limits = Limits { dedup_window: Duration::from_millis(100), ..limits() };
        let records = records(&log);
        let first = Memory::new(limits);
        let outcomes: Vec<_> = records.iter().map(|r| first.apply(r.clone())).collect();
        let killed = killed.min(records.len());
        let committed = killed.saturating_sub(not_committed);

        let second = Memory::new(limits);
        for outcome in &outcomes[..(committed + durable).min(killed)] {
            if let Outcome::Applied { entry, .. } = outcome {
                second.restore(Entry::clone(entry));
            }
        }
        for (record, before) in records.iter().zip(&outcomes).skip(committed) {
            match (second.apply(record.clone()), before) {
                (Outcome::Applied { entry, .. }, Outcome::Applied { entry: was, .. }) => {
                    prop_assert_eq!(&entry, was);
                }
                // An id that came again after its window stands twice; either may be named.
                (Outcome::DuplicateId { original }, Outcome::DuplicateId { original: was }) => {
                    prop_assert!(original >= *was);
                }
                (Outcome::Duplicate { entry, settled }, _) => {
                    prop_assert!(settled);
                    if let (Some(entry), Outcome::Applied { entry: was, .. }) = (&entry, before) {
                        prop_assert_eq!(entry, was);
                    }
                }
                (now, before) => prop_assert!(false, "{now:?} was {before:?}"),
            }
        }
        prop_assert_eq!(first.shard_top(ShardId(0)), second.shard_top(ShardId(0)));
        for name in ["r0", "r1", "r2"] {
            prop_assert_eq!(first.top(&room(name)), second.top(&room(name)));
        }
    }
}
