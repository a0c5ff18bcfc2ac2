//! Who else reads and writes in Kafka: its own tool, an operator, programs that write directly.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use vestibule::eventlog::{Cause, TopicSpec, dead_letter_topic};
use vestibule::types::{NodeId, Timestamp};

use super::{SOON, append, take, text};
use crate::brokers;

#[tokio::test]
async fn lag_is_what_kafkas_own_tool_prints() {
    let options = brokers::options();
    let log = brokers::log(&options).await;
    for n in 0..50 {
        append(&log, &format!("user-{n}"), "x").await;
    }
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 50).await;
    for record in records.iter().filter(|record| record.offset < 2) {
        consumer.store("messages", record.partition, record.offset + 1);
    }
    consumer.commit("").await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let group = format!("{}g", options.prefix);
    let printed = tokio::task::spawn_blocking(move || {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        brokers::shared().tool(class, &["--describe", "--group", &group])
    });
    let printed = printed.await.unwrap();
    let mut theirs = BTreeMap::new();
    for line in printed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, topic, partition, _, _, lag, ..] = words[..]
            && topic.ends_with("messages")
            && let (Ok(partition), Ok(lag)) = (partition.parse::<u32>(), lag.parse::<u64>())
        {
            theirs.insert(partition, lag);
        }
    }
    let is_theirs = |p: &u32| theirs.contains_key(p);
    let ours: BTreeMap<u32, u64> = log
        .lag()
        .iter()
        .map(|lag| (lag.partition, lag.records))
        .collect();
    assert!(theirs.len() > 6, "{printed}");
    let shared: BTreeMap<_, _> = ours
        .clone()
        .into_iter()
        .filter(|(p, _)| is_theirs(p))
        .collect();
    assert_eq!(shared, theirs, "{printed}");
    // Where the group has committed nothing the tool prints no number; everything is to be done.
    assert!(
        ours.iter().all(|(p, lag)| is_theirs(p) || *lag == 0),
        "{ours:?} {printed}"
    );
}

#[tokio::test]
async fn a_dead_letter_is_the_record_with_headers_that_tell_why() {
    let log = brokers::log(&brokers::options()).await;
    log.append("messages", "user-1", Bytes::from_static(b"\xff not JSON"))
        .unwrap()
        .await
        .unwrap();
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let record = take(&mut consumer, 1).await.remove(0);
    let node = NodeId::parse("node-1").unwrap();
    let cause = Cause {
        class: "undecodable",
        message: "expected a value".to_owned(),
        attempts: 1,
        node: &node,
        id: Some("e-7"),
    };
    log.dead_letter(&record, &cause).unwrap().await.unwrap();
    let topic = dead_letter_topic("messages");
    let mut operator = log.consumer("operator", &[&topic]).await.unwrap();
    let dead = take(&mut operator, 1).await.remove(0);
    assert_eq!((&*dead.key, &dead.value), ("user-1", &record.value));
    let (partition, at) = (
        record.partition.to_string(),
        record.at.as_millis().to_string(),
    );
    for (name, value) in [
        ("x-orig-topic", "messages"),
        ("x-orig-partition", &partition),
        ("x-orig-offset", "0"),
        ("x-orig-timestamp", &at),
        ("x-orig-key", "user-1"),
        ("x-error-class", "undecodable"),
        ("x-error-message", "expected a value"),
        ("x-attempts", "1"),
        ("x-node", "node-1"),
        ("x-event-id", "e-7"),
    ] {
        assert_eq!(dead.headers.text(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn who_writes_into_kafka_directly_may_leave_out_key_and_value() {
    let options = brokers::options();
    let log = brokers::log(&options).await;
    let topic = format!("{}messages", options.prefix);
    let outside: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers::shared().bootstrap())
        .create()
        .unwrap();
    let keyless = BaseRecord::<str, str>::to(&topic).payload("keyless");
    let tombstone = BaseRecord::<str, str>::to(&topic).key("gone");
    let binary = BaseRecord::<[u8], str>::to(&topic)
        .key(&[0xff, 0xfe])
        .payload("binary");
    assert!(outside.send(keyless).is_ok() && outside.send(tombstone).is_ok());
    assert!(outside.send(binary).is_ok());
    outside.flush(SOON).unwrap();
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let mut records = take(&mut consumer, 3).await;
    records.sort_by_key(|record| record.value.len());
    let found: Vec<_> = records.iter().map(|r| (&*r.key, text(r))).collect();
    assert_eq!(
        found,
        [
            ("gone", ""),
            ("\u{fffd}\u{fffd}", "binary"),
            ("", "keyless")
        ]
    );
    assert!(
        records
            .iter()
            .all(|record| record.at > Timestamp::default())
    );
}

#[tokio::test]
async fn topics_are_made_checked_and_told_apart_when_made_again() {
    let options = brokers::options();
    let log = brokers::log(&options).await;
    log.ensure_topics(&brokers::specs()).await.unwrap();
    let first = log.generation("messages");
    assert!(first > 0 && log.generation("nothing") == 0);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers::shared().bootstrap())
        .create()
        .unwrap();
    let name = format!("{}messages", options.prefix);
    admin
        .delete_topics(&[&name], &AdminOptions::new())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    log.ensure_topics(&brokers::specs()).await.unwrap();
    assert!(log.generation("messages") > first);
    let strict = format!("{}strict", options.prefix);
    let topic =
        NewTopic::new(&strict, 1, TopicReplication::Fixed(1)).set("min.insync.replicas", "2");
    admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    let spec = TopicSpec {
        name: "strict".to_owned(),
        partitions: 1,
        retention: Duration::from_secs(60),
    };
    let refused = log.ensure_topics(&[spec]).await.unwrap_err();
    assert!(
        refused.to_string().contains("min.insync.replicas is 2") && !refused.retry(),
        "{refused}"
    );
}
