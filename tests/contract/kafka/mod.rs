//! What only the log in Kafka promises: members that come and go, brokers that are away, who else
//! reads and writes there.

mod groups;
mod outages;
mod outside;
mod reading;

use std::time::Duration;

use bytes::Bytes;
use vestibule::eventlog::{Assignment, Consumer, EventLog, Polled, Record};

pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) async fn append(log: &EventLog, key: &str, value: &str) -> u64 {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let append = log.append("messages", key, value).unwrap();
    append.await.unwrap().offset
}

pub(super) async fn poll(consumer: &mut Consumer) -> Polled {
    let polled = tokio::time::timeout(SOON, consumer.poll(1_000)).await;
    polled.expect("something comes").unwrap()
}

pub(super) async fn assigned(consumer: &mut Consumer) -> Vec<Assignment> {
    loop {
        if let Polled::Assigned(assigned) = poll(consumer).await {
            return assigned;
        }
    }
}

pub(super) async fn take(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(poll(consumer).await.into_records());
    }
    records
}

pub(super) fn text(record: &Record) -> &str {
    std::str::from_utf8(&record.value).unwrap()
}
