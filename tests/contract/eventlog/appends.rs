//! What is appended: its partition and offset, its order, what comes back of it, what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use vestibule::eventlog::Error;
use vestibule::types::Timestamp;

use super::{Fixture, append, embedded_suite, numbered, suite, take, text};

suite! {
    offsets_are_gapless_from_zero_in_each_partition
    a_key_goes_to_the_partition_that_kafka_gives_it
    a_key_keeps_its_order_under_eight_appenders
    what_can_never_be_appended_is_refused_at_once
    records_come_back_as_they_went_in
}

async fn offsets_are_gapless_from_zero_in_each_partition(fixture: Fixture) {
    let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (key, value) in numbered(40) {
        let appended = append(&fixture.log, &key, value).await.unwrap();
        offsets
            .entry(appended.partition)
            .or_default()
            .push(appended.offset);
    }
    assert!(offsets.len() > 1);
    for (partition, offsets) in offsets {
        assert!(
            offsets.iter().copied().eq(0..offsets.len() as u64),
            "{partition}: {offsets:?}"
        );
    }
}

async fn a_key_goes_to_the_partition_that_kafka_gives_it(fixture: Fixture) {
    // (murmur2 & 0x7fffffff) % 12, from Kafka's golden hashes.
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
    ] {
        let partition = (hash & 0x7fff_ffff).cast_unsigned() % 12;
        assert_eq!(
            append(&fixture.log, key, "x").await.unwrap().partition,
            partition
        );
    }
}

async fn a_key_keeps_its_order_under_eight_appenders(fixture: Fixture) {
    let log = &fixture.log;
    // Every appender writes for every key; what matters is the order of the calls.
    let order = Arc::new(std::sync::Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let appender = |appender: usize| {
        let order = Arc::clone(&order);
        async move {
            for n in 0..50 {
                let (key, value) = (format!("key-{}", n % 3), format!("{appender}-{n}"));
                let append = {
                    let mut order = order.lock().unwrap();
                    order.entry(key.clone()).or_default().push(value.clone());
                    append(log, &key, value)
                };
                append.await.unwrap();
            }
        }
    };
    join_all((0..8).map(appender)).await;
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for record in take(&mut consumer, 400).await {
        found
            .entry(record.key.to_string())
            .or_default()
            .push(text(&record).to_owned());
    }
    assert_eq!(found, *order.lock().unwrap());
}

async fn what_can_never_be_appended_is_refused_at_once(fixture: Fixture) {
    let huge = Bytes::from(vec![0; 5 << 20]);
    let refused = fixture.log.append("messages", "a", huge).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { .. }) && !refused.retry());
    for name in ["", "a b", "a/b", "ä", &"x".repeat(250)] {
        let refused = fixture.log.append(name, "a", Bytes::new()).unwrap_err();
        assert!(
            matches!(refused, Error::Topic(_)) && !refused.retry(),
            "{name}"
        );
    }
}

async fn records_come_back_as_they_went_in(mut fixture: Fixture) {
    let value = Bytes::from((0..=255).collect::<Vec<u8>>());
    fixture
        .log
        .append("messages", "schlüssel", value.clone())
        .unwrap()
        .await
        .unwrap();
    fixture
        .log
        .append("messages", "", Bytes::new())
        .unwrap()
        .await
        .unwrap();
    for _ in 0..2 {
        let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
        let mut records = take(&mut consumer, 2).await;
        // They may be in two partitions.
        records.sort_by_key(|record| record.key.is_empty());
        assert_eq!((&*records[0].key, &records[0].value), ("schlüssel", &value));
        assert_eq!((&*records[1].key, &records[1].value), ("", &Bytes::new()));
        assert!(records[0].at <= records[1].at && records[0].at > Timestamp::default());
        drop(consumer);
        fixture.reopen().await;
    }
}
