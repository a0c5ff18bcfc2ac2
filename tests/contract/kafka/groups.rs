//! Members of a group that come and go: what is handed over, and where the next one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vestibule::eventlog::Polled;

use super::{SOON, append, assigned, poll, take, text};
use crate::brokers;

#[tokio::test]
async fn a_partition_comes_with_the_text_of_its_last_commit() {
    let log = brokers::log(&brokers::options()).await;
    for n in 0..20 {
        append(&log, &format!("user-{n}"), "x").await;
    }
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let all = assigned(&mut consumer).await;
    assert_eq!(all.len(), 12);
    assert!(
        all.iter()
            .all(|a| a.committed.is_none() && a.metadata.is_none())
    );
    let records = take(&mut consumer, 20).await;
    let partition = records[0].partition;
    for record in records
        .iter()
        .filter(|record| record.partition == partition)
    {
        consumer.store("messages", partition, record.offset + 1);
    }
    consumer.store("no such topic", 99, 5);
    consumer.commit("{\"epochs\":{}}").await.unwrap();
    consumer.store("messages", partition, 0);
    consumer.commit("is not committed").await.unwrap();
    drop(consumer);
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    for assignment in assigned(&mut consumer).await {
        let is_it = assignment.partition == partition;
        assert_eq!(
            assignment.metadata.as_deref(),
            is_it.then_some("{\"epochs\":{}}")
        );
        let done = records
            .iter()
            .filter(|record| record.partition == partition);
        assert_eq!(assignment.committed, is_it.then_some(done.count() as u64));
    }
}

#[tokio::test]
async fn a_revoked_partition_is_finished_before_another_member_begins() {
    let log = brokers::log(&brokers::options()).await;
    for n in 0..60 {
        append(&log, &format!("user-{n}"), "x").await;
    }
    let mut first = log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut first, 60).await;
    // Everything is in flight: handed out, and nothing stored.
    let mut second = log.consumer("g", &["messages"]).await.unwrap();
    let revocation = loop {
        match poll(&mut first).await {
            Polled::Revoked(revocation) => break revocation,
            Polled::Records(records) => panic!("handed out twice: {records:?}"),
            Polled::Assigned(_) => {}
        }
    };
    assert!(!revocation.is_lost && !revocation.partitions.is_empty());
    let gone: BTreeSet<u32> = revocation.partitions.iter().map(|(_, p)| *p).collect();
    let early = tokio::time::timeout(Duration::from_millis(700), async {
        loop {
            if let Polled::Records(_) = second.poll(100).await.unwrap() {
                return;
            }
        }
    });
    assert!(early.await.is_err(), "the second waits for the first");
    for record in &records {
        first.store(&record.topic, record.partition, record.offset + 1);
    }
    first.commit("finished").await.unwrap();
    drop(revocation);
    let mut came = BTreeSet::new();
    while came.len() < gone.len() {
        for assignment in assigned(&mut second).await {
            let count = records
                .iter()
                .filter(|r| r.partition == assignment.partition)
                .count();
            if count > 0 {
                assert_eq!(assignment.committed, Some(count as u64));
                assert_eq!(assignment.metadata.as_deref(), Some("finished"));
            }
            came.insert(assignment.partition);
        }
    }
    assert_eq!(came, gone);
    // Both go on, each with its own.
    for n in 0..60 {
        append(&log, &format!("user-{n}"), "y").await;
    }
    let mut found = Vec::new();
    while found.len() < 60 {
        let (member, polled) = tokio::select! {
            polled = poll(&mut first) => (1, polled),
            polled = poll(&mut second) => (2, polled),
        };
        for record in polled.into_records() {
            assert_eq!(text(&record), "y");
            assert_eq!(member == 2, gone.contains(&record.partition));
            found.push(record);
        }
    }
}

#[tokio::test]
async fn a_member_that_leaves_hands_over_at_once() {
    let log = brokers::log(&brokers::options()).await;
    let mut first = log.consumer("g", &["messages"]).await.unwrap();
    assigned(&mut first).await;
    let mut second = log.consumer("g", &["messages"]).await.unwrap();
    append(&log, "a", "1").await;
    while !matches!(poll(&mut first).await, Polled::Revoked(_)) {}
    drop(first);
    let since = Instant::now();
    assert_eq!(text(&take(&mut second, 1).await[0]), "1");
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn nothing_is_lost_while_members_come_and_go() {
    let log = brokers::log(&brokers::options()).await;
    let mut done = BTreeMap::<(u32, u64), usize>::new();
    let mut members = vec![log.consumer("g", &["messages"]).await.unwrap()];
    for round in 0..4 {
        for n in 0..100 {
            let value = format!("{round}-{n}");
            drop(
                log.append("messages", &format!("user-{n}"), Bytes::from(value))
                    .unwrap(),
            );
        }
        if round == 1 {
            members.push(log.consumer("g", &["messages"]).await.unwrap());
        }
        if round == 3 {
            members.remove(0);
        }
        let end = Instant::now() + SOON;
        while done.len() < (round + 1) * 100 {
            assert!(
                Instant::now() < end,
                "{} of {}",
                done.len(),
                (round + 1) * 100
            );
            for member in &mut members {
                let wait = Duration::from_millis(20);
                let Ok(polled) = tokio::time::timeout(wait, member.poll(7)).await else {
                    continue;
                };
                for record in polled.unwrap().into_records() {
                    member.store("messages", record.partition, record.offset + 1);
                    *done.entry((record.partition, record.offset)).or_default() += 1;
                }
                member.commit("").await.ok();
            }
        }
    }
    let tops = done
        .keys()
        .fold(BTreeMap::<u32, u64>::new(), |mut tops, (p, o)| {
            tops.entry(*p)
                .and_modify(|top| *top = (*top).max(*o))
                .or_insert(*o);
            tops
        });
    let total: u64 = tops.values().map(|top| top + 1).sum();
    assert_eq!(total, done.len() as u64, "no hole in any partition");
}

/// What was read before it went must not seem to be its beginning: a pump would take what comes later for
/// the first, and what it began with for something that it has done.
/// Which partition the reader's last record is of is chance here, so this finds the mistake only sometimes.
#[tokio::test]
async fn a_partition_that_goes_and_comes_back_under_a_full_reader_begins_where_it_has_to() {
    let mut options = brokers::options();
    (options.read_records, options.session_timeout) = (10, Duration::from_secs(6));
    let log = brokers::log(&options).await;
    let appends: Vec<_> = (0..600)
        .map(|n| {
            log.append("messages", &format!("user-{n}"), Bytes::from("x"))
                .unwrap()
        })
        .collect();
    for append in appends {
        append.await.unwrap();
    }
    let mut first = log.consumer("g", &["messages"]).await.unwrap();
    drop(take(&mut first, 1).await);
    // Long enough that reading is paused: its thread has records that nobody has room for.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut second = log.consumer("g", &["messages"]).await.unwrap();
    let moved = assigned(&mut second).await;
    assert!(!moved.is_empty());
    drop(second);
    // Nobody takes a thing of the first until its partitions are back.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut back = BTreeSet::new();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    while next.values().sum::<u64>() < 600 {
        match poll(&mut first).await {
            Polled::Assigned(assignments) => {
                for assignment in assignments {
                    back.insert(assignment.partition);
                    next.insert(assignment.partition, 0);
                }
            }
            Polled::Revoked(_) => {}
            Polled::Records(records) => {
                for record in records {
                    if !back.contains(&record.partition) {
                        let from = next.entry(record.partition).or_insert(record.offset);
                        *from = (*from).max(record.offset + 1);
                        continue;
                    }
                    let next = next.get_mut(&record.partition).unwrap();
                    assert_eq!(record.offset, *next, "partition {}", record.partition);
                    *next += 1;
                }
            }
        }
    }
    for assignment in moved {
        assert!(back.contains(&assignment.partition), "{assignment:?}");
    }
}
