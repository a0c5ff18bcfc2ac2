//! The contract of `eventlog`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use vestibule::backend::sql::Options as FileOptions;
use vestibule::eventlog::{
    Append, Cause, Consumer, DeadLetter, Error, EventLog, Options, Polled, Record, Retention,
    dead_letter_topic, kafka,
};
use vestibule::types::{ByteSize, NodeId, Timestamp};

use crate::brokers;
use crate::sqlite::{Folder, let_go};

/// A log that can be closed and opened again.
struct Fixture {
    log: EventLog,
    options: Options,
    folder: Option<Folder>,
    kafka: Option<kafka::Options>,
}

impl Fixture {
    async fn memory() -> Self {
        let options = Options::default();
        Self {
            log: EventLog::memory(options.clone()),
            options,
            folder: None,
            kafka: None,
        }
    }

    async fn kafka() -> Self {
        let options = brokers::options();
        Self {
            log: brokers::log(&options).await,
            options: Options::default(),
            folder: None,
            kafka: Some(options),
        }
    }

    async fn sql() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options), file: impl FnOnce(&mut FileOptions)) -> Self {
        let mut options = Options::default();
        change(&mut options);
        let folder = Folder::with(file).await;
        let log = EventLog::sql(&folder.database, options.clone())
            .await
            .unwrap();
        Self {
            log,
            options,
            folder: Some(folder),
            kafka: None,
        }
    }

    /// Closes the log in order and opens it again; what lives in memory only goes on.
    async fn reopen(&mut self) {
        if let Some(folder) = &mut self.folder {
            folder.reopen().await;
            self.log = EventLog::sql(&folder.database, self.options.clone())
                .await
                .unwrap();
        }
        if let Some(options) = &self.kafka {
            self.log.close().await;
            self.log = EventLog::kafka(options.clone()).await.unwrap();
        }
    }

    /// The log as a kill at this moment leaves it.
    async fn crashed(&self) -> Self {
        let folder = self.folder().crashed().await;
        let log = EventLog::sql(&folder.database, self.options.clone())
            .await
            .unwrap();
        Self {
            log,
            options: self.options.clone(),
            folder: Some(folder),
            kafka: None,
        }
    }

    fn folder(&self) -> &Folder {
        self.folder.as_ref().unwrap()
    }
}

/// Runs claims on each backend.
macro_rules! suite {
    ($($claim:ident)*) => {
        embedded_suite! { $($claim)* }
        mod on_kafka {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Fixture::kafka().await).await;
            })*
        }
    };
}

/// Runs claims that only embedded mode makes.
macro_rules! embedded_suite {
    ($($claim:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Fixture::memory().await).await;
            })*
        }
        mod sql {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Fixture::sql().await).await;
            })*
        }
    };
}

suite! {
    offsets_are_gapless_from_zero_in_each_partition
    a_key_goes_to_the_partition_that_kafka_gives_it
    a_key_keeps_its_order_under_eight_appenders
    a_consumer_gets_what_is_appended_while_it_waits
    a_cancelled_poll_loses_nothing
    a_consumer_goes_on_where_its_group_committed
    two_groups_do_not_disturb_each_other
    a_seek_goes_back_in_one_partition_only
    lag_counts_what_is_not_committed
    a_dead_letter_is_open_until_it_is_put_back_or_dropped
    what_can_never_be_appended_is_refused_at_once
    records_come_back_as_they_went_in
}

mod embedded {
    use super::*;

    embedded_suite! {
    a_commit_commits_what_was_stored_and_its_text
    a_dead_letter_tells_where_it_came_from_and_why
    embedded_consumers_get_one_total_order
    embedded_groups_have_one_member
    embedded_replay_begins_with_what_is_not_committed
    }
}

fn append(log: &EventLog, key: &str, value: impl Into<String>) -> Append {
    log.append("messages", key, Bytes::from(value.into()))
        .unwrap()
}

async fn append_all(log: &EventLog, values: impl IntoIterator<Item = (String, String)>) {
    let appends: Vec<_> = values
        .into_iter()
        .map(|(key, value)| append(log, &key, value))
        .collect();
    for outcome in join_all(appends).await {
        outcome.unwrap();
    }
}

fn numbered(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|n| (format!("user-{}", n % 7), n.to_string()))
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = next(consumer, count - records.len()).await;
        assert!(!more.is_empty() && more.len() <= count - records.len());
        records.extend(more);
    }
    records
}

/// The next records, whatever partitions come and go.
async fn next(consumer: &mut Consumer, max: usize) -> Vec<Record> {
    loop {
        if let Polled::Records(records) = consumer.poll(max).await.unwrap() {
            return records;
        }
    }
}

/// Nothing comes, also when one waits a while.
async fn is_silent(consumer: &mut Consumer) -> bool {
    let wait = Duration::from_millis(300);
    tokio::time::timeout(wait, next(consumer, 1)).await.is_err()
}

/// Waits until the groups are so far behind; Kafka's are measured now and then.
async fn lag_is(log: &EventLog, records: u64) -> bool {
    let sum = || log.lag().iter().map(|lag| lag.records).sum::<u64>();
    for _ in 0..100 {
        if sum() == records {
            return true;
        }
        if !matches!(log, EventLog::Kafka(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn text(record: &Record) -> &str {
    std::str::from_utf8(&record.value).unwrap()
}

fn store_all(consumer: &mut Consumer, records: &[Record]) {
    for record in records {
        consumer.store(&record.topic, record.partition, record.offset + 1);
    }
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

async fn a_consumer_gets_what_is_appended_while_it_waits(fixture: Fixture) {
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let mut poll = Box::pin(next(&mut consumer, 10));
    assert!(
        poll.as_mut().now_or_never().is_none(),
        "there is nothing yet"
    );
    append(&fixture.log, "a", "1").await.unwrap();
    assert_eq!(text(&poll.await[0]), "1");
}

async fn a_cancelled_poll_loses_nothing(fixture: Fixture) {
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    append_all(&fixture.log, numbered(30)).await;
    let mut found = Vec::new();
    let mut cancelled = 0;
    while found.len() < 30 {
        // Polled once and dropped, which cancels it wherever it waits.
        match consumer.poll(3).now_or_never() {
            Some(polled) => found.extend(polled.unwrap().into_records()),
            None if cancelled < 100 => {
                cancelled += 1;
                tokio::task::yield_now().await;
            }
            None => found.extend(consumer.poll(3).await.unwrap().into_records()),
        }
    }
    let mut values: Vec<usize> = found
        .iter()
        .map(|record| text(record).parse().unwrap())
        .collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..30));
}

async fn a_consumer_goes_on_where_its_group_committed(mut fixture: Fixture) {
    append_all(&fixture.log, numbered(20)).await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let first = take(&mut consumer, 20).await;
    // The first of each partition are done, the rest only handed out.
    let done: Vec<_> = first
        .iter()
        .filter(|record| record.offset < 2)
        .cloned()
        .collect();
    store_all(&mut consumer, &done);
    consumer.commit("").await.unwrap();
    drop(consumer);
    fixture.reopen().await;
    append_all(&fixture.log, [("user-0".to_owned(), "new".to_owned())]).await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let again = take(&mut consumer, 21 - done.len()).await;
    assert!(
        again
            .iter()
            .all(|record| record.offset >= 2 || text(record) == "new")
    );
    assert!(is_silent(&mut consumer).await, "there is no more");
}

async fn a_commit_commits_what_was_stored_and_its_text(mut fixture: Fixture) {
    append_all(&fixture.log, [("a".to_owned(), "1".to_owned())]).await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    assert_eq!(fixture.log.metadata("g"), None);
    let records = take(&mut consumer, 1).await;
    store_all(&mut consumer, &records);
    consumer.store("messages", records[0].partition, 0);
    consumer.store("no such topic", 99, 5);
    consumer.commit("{\"epochs\":{}}").await.unwrap();
    drop(consumer);
    fixture.reopen().await;
    assert_eq!(
        fixture.log.metadata("g").as_deref(),
        Some("{\"epochs\":{}}")
    );
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    assert!(
        consumer.poll(1).now_or_never().is_none(),
        "a lower offset was not stored"
    );
}

async fn two_groups_do_not_disturb_each_other(fixture: Fixture) {
    append_all(&fixture.log, numbered(10)).await;
    let mut one = fixture.log.consumer("one", &["messages"]).await.unwrap();
    let records = take(&mut one, 10).await;
    store_all(&mut one, &records);
    one.commit("").await.unwrap();
    let mut two = fixture.log.consumer("two", &["messages"]).await.unwrap();
    let sorted = |mut records: Vec<Record>| {
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    };
    assert_eq!(sorted(take(&mut two, 10).await), sorted(records));
}

async fn a_seek_goes_back_in_one_partition_only(fixture: Fixture) {
    append_all(&fixture.log, numbered(40)).await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 40).await;
    let partition = records[0].partition;
    store_all(&mut consumer, &records);
    consumer.commit("").await.unwrap();
    consumer.seek("messages", partition, 1).await.unwrap();
    append_all(
        &fixture.log,
        [(records[0].key.to_string(), "new".to_owned())],
    )
    .await;
    let expected: Vec<_> = records
        .iter()
        .filter(|record| record.partition == partition && record.offset >= 1)
        .map(text)
        .chain(["new"])
        .collect();
    let again = take(&mut consumer, expected.len()).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), expected);
    // Going back took back what was stored, there and nowhere else.
    consumer.commit("").await.unwrap();
    assert!(lag_is(&fixture.log, expected.len() as u64).await);
}

async fn lag_counts_what_is_not_committed(fixture: Fixture) {
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    append_all(&fixture.log, numbered(12)).await;
    let records = take(&mut consumer, 12).await;
    assert!(
        lag_is(&fixture.log, 12).await,
        "handed out is not committed"
    );
    store_all(&mut consumer, &records[..6]);
    consumer.commit("").await.unwrap();
    assert!(lag_is(&fixture.log, 6).await);
    let lags = fixture.log.lag();
    assert!(
        lags.iter()
            .all(|lag| &*lag.group == "g" && &*lag.topic == "messages")
    );
}

async fn a_dead_letter_tells_where_it_came_from_and_why(fixture: Fixture) {
    append_all(&fixture.log, [("user-1".to_owned(), "not JSON".to_owned())]).await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let record = take(&mut consumer, 1).await.remove(0);
    let node = NodeId::parse("node-1").unwrap();
    let message = "expected a value".to_owned();
    let cause = Cause {
        class: "undecodable",
        message,
        attempts: 1,
        node: &node,
        id: None,
    };
    fixture
        .log
        .dead_letter(&record, &cause)
        .unwrap()
        .await
        .unwrap();
    let topic = dead_letter_topic("messages");
    let mut operator = fixture.log.consumer("operator", &[&topic]).await.unwrap();
    let dead = take(&mut operator, 1).await.remove(0);
    assert_eq!(
        (&*dead.topic, &*dead.key),
        ("messages.dead-letters", "user-1")
    );
    let letter: DeadLetter = serde_json::from_slice(&dead.value).unwrap();
    assert_eq!(
        (&*letter.topic, letter.offset, letter.timestamp),
        ("messages", 0, record.at)
    );
    assert_eq!(
        (letter.error_class.as_str(), letter.value.as_deref()),
        ("undecodable", Some("not JSON"))
    );
}

async fn a_dead_letter_is_open_until_it_is_put_back_or_dropped(mut fixture: Fixture) {
    let values: [&[u8]; 3] = [b"\xff", b"{\"resolves\":{}}", b"kept"];
    for (n, value) in values.into_iter().enumerate() {
        let key = format!("user-{n}");
        let append = fixture
            .log
            .append("messages", &key, Bytes::from_static(value));
        append.unwrap().await.unwrap();
    }
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let node = NodeId::parse("node-1").unwrap();
    for record in take(&mut consumer, 3).await {
        let cause = Cause {
            class: "undecodable",
            message: "not JSON".to_owned(),
            attempts: 1,
            node: &node,
            id: None,
        };
        let append = fixture.log.dead_letter(&record, &cause).unwrap();
        append.await.unwrap();
    }
    let open = fixture.log.dead_letters("messages", 10).await.unwrap();
    assert_eq!((open.letters.len(), open.more), (3, 0));
    let few = fixture.log.dead_letters("messages", 1).await.unwrap();
    assert_eq!((few.letters.len(), few.more), (1, 2));
    let of = |key: &str| open.letters.iter().find(|l| &*l.about.key == key).unwrap();
    assert!(fixture.log.replay_letter(of("user-0")).await.unwrap());
    fixture.log.drop_letter(of("user-1")).await.unwrap();
    let back = take(&mut consumer, 1).await.remove(0);
    assert_eq!((&*back.key, &back.value[..]), ("user-0", values[0]));
    drop(consumer);
    fixture.reopen().await;
    let open = fixture
        .log
        .dead_letters("messages", 10)
        .await
        .unwrap()
        .letters;
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].bytes.as_deref(), Some(values[2]));
    let about = &open[0].about;
    assert_eq!(
        (&*about.topic, about.error_class.as_str()),
        ("messages", "undecodable")
    );
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

async fn embedded_consumers_get_one_total_order(mut fixture: Fixture) {
    append_all(&fixture.log, numbered(100)).await;
    for group in ["one", "two"] {
        let mut consumer = fixture.log.consumer(group, &["messages"]).await.unwrap();
        let records = take(&mut consumer, 100).await;
        let values = records
            .iter()
            .map(|record| text(record).parse::<usize>().unwrap());
        assert!(
            values.eq(0..100),
            "records come in commit order over all partitions"
        );
        drop(consumer);
        fixture.reopen().await;
    }
}

async fn embedded_groups_have_one_member(fixture: Fixture) {
    let consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let refused = fixture.log.consumer("g", &["messages"]).await.unwrap_err();
    assert!(matches!(refused, Error::Member(_)));
    drop(consumer);
    fixture.log.consumer("g", &["messages"]).await.unwrap();
}

async fn embedded_replay_begins_with_what_is_not_committed(fixture: Fixture) {
    let log = &fixture.log;
    for n in 0..10 {
        append(log, "a", format!("{n}")).await.unwrap();
        log.append_patiently("timeline", "r", Bytes::from(format!("t{n}")))
            .unwrap()
            .await
            .unwrap();
    }
    let mut consumer = log.consumer("pump", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 10).await;
    store_all(&mut consumer, &records[..6]);
    consumer.commit("").await.unwrap();
    let mut all = log
        .replay("timeline", &["pump"], Duration::from_secs(3_600))
        .await
        .unwrap();
    append(log, "a", "later").await.unwrap();
    log.append("timeline", "r", Bytes::from_static(b"later"))
        .unwrap()
        .await
        .unwrap();
    let read = stream::poll_fn(|cx| std::pin::pin!(all.next(3)).poll_unpin(cx).map(Result::ok));
    let read: Vec<_> = read
        .take_while(|r| std::future::ready(!r.is_empty()))
        .concat()
        .await;
    let values: Vec<_> = read.iter().map(text).collect();
    assert_eq!(
        values,
        ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"]
    );
    let mut tail = log
        .replay("timeline", &["pump"], Duration::ZERO)
        .await
        .unwrap();
    let first = tail.next(1).await.unwrap();
    assert!(
        ["t0", "t1", "t2", "t3", "t4", "t5", "t6"].contains(&text(&first[0])),
        "{first:?}"
    );
}

#[tokio::test]
async fn a_late_consumer_reads_from_the_disk_and_then_from_memory() {
    let small = |options: &mut Options| options.recent_records = 10;
    let mut fixture = Fixture::with(small, |_| {}).await;
    append_all(&fixture.log, numbered(200)).await;
    fixture.reopen().await;
    append_all(
        &fixture.log,
        (200..220).map(|n| ("user-0".to_owned(), n.to_string())),
    )
    .await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 220).await;
    assert!(
        records
            .iter()
            .map(|record| text(record).parse::<usize>().unwrap())
            .eq(0..220)
    );
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_opens_again() {
    let few = |options: &mut Options| options.in_flight_records = 4;
    let slow = |file: &mut FileOptions| file.busy_timeout = Duration::from_secs(10);
    let fixture = Fixture::with(few, slow).await;
    append(&fixture.log, "a", "first").await.unwrap();
    let hold = fixture.folder().hold().await;
    let waiting: Vec<_> = (0..4)
        .map(|n| append(&fixture.log, "a", n.to_string()))
        .collect();
    let refused = fixture
        .log
        .append("messages", "a", Bytes::new())
        .unwrap_err();
    assert!(
        matches!(refused, Error::Overloaded { limit: 4, .. }),
        "{refused}"
    );
    assert!(refused.retry() && refused.retry_after().is_some());
    // What must get in has room of its own.
    let patient = fixture
        .log
        .append_patiently("timeline", "r", Bytes::new())
        .unwrap();
    let_go(hold).await;
    for append in waiting {
        append.await.unwrap();
    }
    patient.await.unwrap();
    append(&fixture.log, "a", "last").await.unwrap();
}

#[tokio::test]
async fn a_failed_commit_acknowledges_nothing_and_leaves_no_gap() {
    let fixture = Fixture::sql().await;
    assert_eq!(append(&fixture.log, "a", "0").await.unwrap().offset, 0);
    let hold = fixture.folder().hold().await;
    let refused = append(&fixture.log, "a", "1").await.unwrap_err();
    assert!(
        matches!(refused, Error::Storage(_)) && refused.retry(),
        "{refused:?}"
    );
    let patient: Vec<_> = (0..3)
        .map(|n| {
            fixture
                .log
                .append_patiently("messages", "a", Bytes::from(format!("p{n}")))
                .unwrap()
        })
        .collect();
    let refused = append(&fixture.log, "a", "2").await.unwrap_err();
    assert!(refused.retry(), "{refused:?}");
    let_go(hold).await;
    for (append, offset) in patient.into_iter().zip(1..) {
        assert_eq!(append.await.unwrap().offset, offset);
    }
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 4).await;
    assert_eq!(
        records.iter().map(text).collect::<Vec<_>>(),
        ["0", "p0", "p1", "p2"]
    );
}

#[tokio::test]
async fn a_full_disk_is_a_typed_error_that_heals() {
    let small = |file: &mut FileOptions| file.bytes_max = Some(ByteSize::new(256 << 10));
    let mut fixture = Fixture::with(|_| {}, small).await;
    let mut acknowledged = 0;
    let refused = loop {
        match append(&fixture.log, "a", "x".repeat(20_000)).await {
            Ok(appended) => acknowledged = appended.offset + 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 3);
    assert!(
        matches!(refused, Error::Storage(_)) && refused.retry(),
        "{refused:?}"
    );
    fixture.folder.as_mut().unwrap().options.bytes_max = None;
    fixture.reopen().await;
    assert_eq!(
        append(&fixture.log, "a", "y").await.unwrap().offset,
        acknowledged
    );
}

#[tokio::test]
async fn a_crash_keeps_what_was_acknowledged_and_nothing_else() {
    let fixture = Fixture::sql().await;
    append_all(&fixture.log, numbered(10)).await;
    let hold = fixture.folder().hold().await;
    let in_flight = append(&fixture.log, "user-0", "never acknowledged");
    let crashed = fixture.crashed().await;
    let_go(hold).await;
    drop(in_flight);
    let mut consumer = crashed.log.consumer("g", &["messages"]).await.unwrap();
    let records = take(&mut consumer, 10).await;
    assert!(
        records
            .iter()
            .map(|record| text(record).parse::<usize>().unwrap())
            .eq(0..10)
    );
    assert!(consumer.poll(1).now_or_never().is_none());
    let next = records
        .iter()
        .filter(|record| &*record.key == "user-0")
        .count() as u64;
    assert!(append(&crashed.log, "user-0", "next").await.unwrap().offset >= next);
}

#[tokio::test]
async fn old_records_go_when_every_group_has_passed_them() {
    let mut fixture = Fixture::sql().await;
    append_all(&fixture.log, numbered(700)).await;
    fixture
        .log
        .append("quiet", "a", Bytes::from_static(b"q"))
        .unwrap()
        .await
        .unwrap();
    append_all(&fixture.log, numbered(10)).await;
    let day = Duration::from_secs(86_400);
    let retention = Retention::new(fixture.log.clone(), day);
    let later = Timestamp::from_millis(i64::MAX);
    let now = Timestamp::from(std::time::SystemTime::now());
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    assert_eq!(
        retention.step(later).await.unwrap(),
        0,
        "the group has passed nothing"
    );
    let records = take(&mut consumer, 710).await;
    store_all(&mut consumer, &records[..705]);
    consumer.commit("").await.unwrap();
    assert_eq!(retention.step(now).await.unwrap(), 0, "nothing is old");
    let steps = [
        retention.step(later).await.unwrap(),
        retention.step(later).await.unwrap(),
    ];
    assert!(
        steps[0] > 0 && steps[0] + steps[1] == 705,
        "in steps, without the quiet record: {steps:?}"
    );
    assert_eq!(retention.step(later).await.unwrap(), 0);
    drop((consumer, retention));
    fixture.reopen().await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    assert_eq!(take(&mut consumer, 5).await, records[705..]);
    let quiet = fixture
        .log
        .append("quiet", "a", Bytes::new())
        .unwrap()
        .await
        .unwrap();
    assert_eq!(quiet.offset, 1, "offsets go on");
}

#[tokio::test]
async fn a_closed_log_says_so_to_everybody() {
    let fixture = Fixture::sql().await;
    let mut consumer = fixture.log.consumer("g", &["messages"]).await.unwrap();
    let last = append(&fixture.log, "a", "accepted before the close");
    fixture.folder().database.close().await;
    last.await.unwrap();
    assert!(matches!(
        fixture.log.append("messages", "a", Bytes::new()),
        Err(Error::Closed)
    ));
    assert_eq!(consumer.poll(9).await.unwrap().into_records().len(), 1);
    assert!(matches!(consumer.poll(9).await, Err(Error::Closed)));
    assert!(matches!(consumer.commit("x").await, Err(Error::Closed)));
}
