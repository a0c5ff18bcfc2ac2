//! Records that are applied: each takes its place once, or is a duplicate, a gap, or stale.

use std::sync::Arc;

use vestibule::timeline::{Apply, Outcome, Settlement, Source, Timeline};
use vestibule::types::{Epoch, EventId, Position, Seq};

use super::{applied, read, record, seqs, suite};

suite! {
    memory: ((), crate::timeline::memory());
    a_record_takes_the_next_place_in_its_room_and_its_shard
    a_record_is_applied_once
    an_offset_before_the_last_is_a_duplicate_that_says_where_it_is
    a_record_whose_predecessor_did_not_land_is_a_gap
    a_clients_retry_keeps_its_place_and_the_prefix_goes_on
    the_same_id_in_another_room_is_another_event
    offsets_of_different_sources_do_not_meet
    a_caller_with_another_epoch_is_stale_before_anything_else
    a_duplicate_is_told_before_a_gap
    calls_at_the_same_time_leave_no_hole
}

suite! {
    redis: crate::timeline::on_redis(2).await;
    a_record_takes_the_next_place_in_its_room_and_its_shard
    a_record_is_applied_once
    an_offset_before_the_last_is_a_duplicate_that_says_where_it_is
    a_record_whose_predecessor_did_not_land_is_a_gap
    a_clients_retry_keeps_its_place_and_the_prefix_goes_on
    the_same_id_in_another_room_is_another_event
    offsets_of_different_sources_do_not_meet
    a_caller_with_another_epoch_is_stale_before_anything_else
    a_duplicate_is_told_before_a_gap
    calls_at_the_same_time_leave_no_hole
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
