//! What consumers get, where they go on, how far behind they are; and dead letters.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use vestibule::eventlog::{Cause, Consumer, EventLog, Record};
use vestibule::types::NodeId;

use super::{
    Fixture, append, append_all, embedded_suite, next, numbered, store_all, suite, take, text,
};

suite! {
    a_consumer_gets_what_is_appended_while_it_waits
    a_cancelled_poll_loses_nothing
    a_consumer_goes_on_where_its_group_committed
    two_groups_do_not_disturb_each_other
    a_seek_goes_back_in_one_partition_only
    lag_counts_what_is_not_committed
    a_dead_letter_is_open_until_it_is_put_back_or_dropped
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
