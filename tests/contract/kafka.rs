//! What only the log in Kafka promises: members that come and go, brokers that are away, who else
//! reads and writes there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use vestibule::backend::kafka::{Mechanism, Sasl, Tls};
use vestibule::eventlog::{
    Appended, Assignment, Cause, Consumer, Error, EventLog, Polled, Record, TopicSpec,
    dead_letter_topic,
};
use vestibule::telemetry::expose;
use vestibule::types::{NodeId, Secret, Timestamp};

use crate::brokers;
use crate::servers::kafka::{Kafka, Secured};

const SOON: Duration = Duration::from_secs(20);

async fn append(log: &EventLog, key: &str, value: &str) -> u64 {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let append = log.append("messages", key, value).unwrap();
    append.await.unwrap().offset
}

async fn poll(consumer: &mut Consumer) -> Polled {
    let polled = tokio::time::timeout(SOON, consumer.poll(1_000)).await;
    polled.expect("something comes").unwrap()
}

async fn assigned(consumer: &mut Consumer) -> Vec<Assignment> {
    loop {
        if let Polled::Assigned(assigned) = poll(consumer).await {
            return assigned;
        }
    }
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(poll(consumer).await.into_records());
    }
    records
}

fn text(record: &Record) -> &str {
    std::str::from_utf8(&record.value).unwrap()
}

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
async fn too_much_in_flight_is_refused_at_once_and_patient_records_have_room_of_their_own() {
    let mut options = brokers::at("127.0.0.1:9");
    options.in_flight_records = 4;
    options.answer_within = Duration::from_secs(1);
    let log = EventLog::kafka(options).await.unwrap();
    let send = || log.append("messages", "a", Bytes::from_static(b"x"));
    let waiting: Vec<_> = (0..4).map(|_| send().unwrap()).collect();
    let refused = send().unwrap_err();
    assert!(
        matches!(refused, Error::Overloaded { limit: 4, .. }),
        "{refused}"
    );
    assert!(refused.retry() && refused.retry_after().is_some());
    let _patient = log.append_patiently("timeline", "r", Bytes::new()).unwrap();
    let since = Instant::now();
    for append in waiting {
        let refused = append.await.unwrap_err();
        assert!(
            matches!(refused, Error::Unreachable { .. }) && refused.retry(),
            "{refused}"
        );
    }
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
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

/// Appends of one key, again until each is in, as a sender with an id would.
async fn insist(log: &EventLog, value: &str) {
    loop {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let refused = match log.append("messages", "sender", value) {
            Ok(append) => match append.await {
                Ok(_) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        assert!(refused.retry(), "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[expect(clippy::too_many_lines, reason = "one story")]
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_soon_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (started, kafka) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        started.send(Kafka::start(&path)).unwrap();
        std::thread::park();
    });
    let mut kafka = tokio::task::spawn_blocking(move || kafka.recv().unwrap())
        .await
        .unwrap();
    let mut options = brokers::at(&kafka.bootstrap());
    options.answer_within = Duration::from_secs(2);
    let log = brokers::log(&options).await;
    insist(&log, "s0").await;

    kafka.broker(0).process().pause();
    let since = Instant::now();
    let waits = log
        .append("messages", "other", Bytes::from_static(b"x"))
        .unwrap();
    let refused = waits.await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "{:?}",
        since.elapsed()
    );
    let refused = log
        .append("messages", "other", Bytes::from_static(b"y"))
        .unwrap_err();
    assert!(
        refused.retry() && refused.retry_after().is_some(),
        "{refused}"
    );
    let patient = log
        .append_patiently("timeline", "r", Bytes::from_static(b"p0"))
        .unwrap();
    kafka.broker(0).process().resume();
    patient.await.unwrap();
    insist(&log, "s1").await;

    let patient: Vec<_> = (1..300)
        .map(|n| {
            log.append_patiently("timeline", "r", Bytes::from(format!("p{n}")))
                .unwrap()
        })
        .collect();
    let restart = tokio::task::spawn_blocking(move || {
        kafka.broker(0).kill();
        kafka.broker(0).restart();
        kafka
    });
    for n in 2..100 {
        insist(&log, &format!("s{n}")).await;
    }
    let _kafka = restart.await.unwrap();
    for append in patient {
        append.await.unwrap();
    }
    let mut consumer = log.consumer("g", &["messages", "timeline"]).await.unwrap();
    let (mut sent, mut patient) = (Vec::new(), Vec::new());
    let done = |all: &[String], last: &str| all.iter().any(|value| value == last);
    while !done(&sent, "s99") || !done(&patient, "p299") {
        for record in poll(&mut consumer).await.into_records() {
            let list = if &*record.topic == "timeline" {
                &mut patient
            } else {
                &mut sent
            };
            if &*record.key != "other" && !list.contains(&text(&record).to_owned()) {
                list.push(text(&record).to_owned());
            }
        }
    }
    assert_eq!(sent, (0..100).map(|n| format!("s{n}")).collect::<Vec<_>>());
    assert_eq!(
        patient,
        (0..300).map(|n| format!("p{n}")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn brokers_may_ask_for_tls_and_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (kafka, secured) = tokio::task::spawn_blocking(move || Kafka::secured(&path))
        .await
        .unwrap();
    let Secured {
        bootstrap,
        authority,
    } = secured;
    for mechanism in [
        Mechanism::ScramSha256,
        Mechanism::ScramSha512,
        Mechanism::Plain,
    ] {
        let mut options = brokers::at(&bootstrap);
        options.connection.tls = Some(Tls {
            authorities: Some(authority.clone()),
            ..Tls::default()
        });
        options.connection.sasl = Some(Sasl {
            mechanism,
            username: "node".to_owned(),
            password: Secret::new("let me in".to_owned()),
        });
        let log = brokers::log(&options).await;
        append(&log, "a", "x").await;
        log.close().await;
        options.connection.sasl.as_mut().unwrap().password = Secret::new("wrong".to_owned());
        options.answer_within = Duration::from_secs(2);
        let log = EventLog::kafka(options).await.unwrap();
        let refused = log.append("messages", "a", Bytes::new()).unwrap().await;
        assert!(refused.is_err(), "a wrong password is refused");
    }
    drop(kafka);
}
