//! What a reader is given: from any place in a partition, at its own pace, each record once.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use vestibule::eventlog::Appended;
use vestibule::telemetry::expose;
use vestibule::types::Timestamp;

use super::{SOON, append, assigned, poll, take, text};
use crate::brokers;

/// A raise, and a page of history, conclude from a room's later entry that its earlier ones are in the topic too.
#[tokio::test]
async fn patient_records_of_a_key_follow_one_another_in_one_partition() {
    let log = brokers::log(&brokers::options()).await;
    let mut last: Option<Appended> = None;
    for n in 0..6 {
        let value = Bytes::from(format!("{n}"));
        let append = log.append_patiently("timeline", "room", value).unwrap();
        let appended = append.await.unwrap();
        if let Some(last) = last.replace(appended) {
            assert_eq!(appended.partition, last.partition);
            assert_eq!(appended.offset, last.offset + 1);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// How often something was read again in this process.
fn rereads() -> f64 {
    let page = expose::render();
    let name = "vestibule_eventlog_rereads_total ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Offsets that hold no record for us: what a transaction leaves behind, and what was deleted.
#[tokio::test]
async fn offsets_without_a_record_are_looked_at_twice_and_no_record_comes_twice() {
    let options = brokers::options();
    let log = brokers::log(&options).await;
    log.ensure_topics(&brokers::specs()).await.unwrap();
    let topic = format!("{}messages", options.prefix);
    let bootstrap = brokers::shared().bootstrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("transactional.id", format!("{}writer", options.prefix))
        .create()
        .unwrap();
    producer.init_transactions(SOON).unwrap();
    for (values, is_kept) in [(["a", "b"], true), (["x", "y"], false), (["c", "d"], true)] {
        producer.begin_transaction().unwrap();
        for value in values {
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic);
            let record = record.key("ada").payload(value).partition(3);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SOON).unwrap();
        match is_kept {
            true => producer.commit_transaction(SOON).unwrap(),
            false => producer.abort_transaction(SOON).unwrap(),
        }
    }
    let before = rereads();
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 4).await;
    assert!(rereads() > before, "what is not there was not looked for");
    let more = tokio::time::timeout(Duration::from_secs(2), take(&mut consumer, 1)).await;
    assert!(more.is_err(), "a record came twice: {more:?}");
    let texts: Vec<&str> = records.iter().map(text).collect();
    assert_eq!(texts, ["a", "b", "c", "d"]);
    assert_eq!(records[0].offset, 0);
    assert!(records[3].offset > 5, "marks have offsets too");
    drop(consumer);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .create()
        .unwrap();
    let mut before = TopicPartitionList::new();
    let at = Offset::Offset(i64::try_from(records[2].offset).unwrap());
    before.add_partition_offset(&topic, 3, at).unwrap();
    let deleted = admin.delete_records(&before, &AdminOptions::new());
    deleted.await.unwrap();
    let before = rereads();
    let mut other = log.consumer("h", &["messages"]).await.unwrap();
    let records = take(&mut other, 2).await;
    let texts: Vec<&str> = records.iter().map(text).collect();
    assert_eq!(texts, ["c", "d"]);
    assert!(rereads() > before, "what was deleted was not looked for");
}

#[tokio::test]
async fn a_partition_is_read_from_an_offset_a_time_or_what_is_not_committed() {
    let log = brokers::log(&brokers::options()).await;
    for n in 0..10 {
        append(&log, "a", &n.to_string()).await;
        if n == 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 10).await;
    let partition = records[0].partition;
    let at = log
        .offsets_at("messages", &[partition], records[5].at)
        .await
        .unwrap();
    assert_eq!(at, [(partition, 5)]);
    let later = Timestamp::from_millis(records[9].at.as_millis() + 1);
    assert_eq!(
        log.offsets_at("messages", &[partition], later)
            .await
            .unwrap(),
        [(partition, 10)]
    );
    let mut alone = log.assigned(&[("messages", partition, 7)]).await.unwrap();
    assert_eq!(assigned(&mut alone).await[0].committed, Some(7));
    let read = take(&mut alone, 3).await;
    assert_eq!(read.iter().map(text).collect::<Vec<_>>(), ["7", "8", "9"]);
    alone.store("messages", partition, 10);
    alone.commit("never").await.unwrap();
    alone.seek("messages", partition, 9).await.unwrap();
    assert_eq!(text(&take(&mut alone, 1).await[0]), "9");
    // A group that has committed the first six.
    consumer.store("messages", partition, 6);
    consumer.commit("").await.unwrap();
    let mut replay = log
        .replay("messages", &["g"], Duration::ZERO)
        .await
        .unwrap();
    append(&log, "a", "later").await;
    let mut found = Vec::new();
    loop {
        let records = replay.next(3).await.unwrap();
        if records.is_empty() {
            break;
        }
        found.extend(records.iter().map(|record| text(record).to_owned()));
    }
    // Records of one millisecond belong together.
    assert!(
        found.ends_with(&["6", "7", "8", "9"].map(str::to_owned)),
        "{found:?}"
    );
    assert!(!found.contains(&"4".to_owned()), "{found:?}");
    let mut all = log
        .replay("messages", &[], Duration::from_secs(3_600))
        .await
        .unwrap();
    assert_eq!(all.next(100).await.unwrap().len(), 11);
    let mut none = log
        .replay("timeline", &["g"], Duration::from_secs(9))
        .await
        .unwrap();
    assert!(none.next(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_reader_is_not_put_out_and_a_seek_works_at_once() {
    let mut options = brokers::options();
    (options.read_records, options.session_timeout) = (10, Duration::from_secs(6));
    let log = brokers::log(&options).await;
    let appends: Vec<_> = (0..500)
        .map(|n| {
            log.append("messages", "a", Bytes::from(n.to_string()))
                .unwrap()
        })
        .collect();
    for append in appends {
        append.await.unwrap();
    }
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let first = take(&mut consumer, 1).await;
    // Long enough that reading is paused.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let partition = first[0].partition;
    consumer.seek("messages", partition, 490).await.unwrap();
    let read = take(&mut consumer, 10).await;
    assert!(read.iter().map(|record| record.offset).eq(490..500));
    consumer.seek("messages", partition, 0).await.unwrap();
    let mut next = 0;
    while next < 500 {
        for record in poll(&mut consumer).await.into_records() {
            assert_eq!(record.offset, next);
            next += 1;
        }
        if next < 30 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
}
