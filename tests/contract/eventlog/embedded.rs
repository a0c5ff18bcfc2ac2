//! What only embedded mode promises: one total order, one member of a group, the text of a commit at hand.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use vestibule::eventlog::{Cause, DeadLetter, Error, dead_letter_topic};
use vestibule::types::NodeId;

use super::{Fixture, append, append_all, embedded_suite, numbered, store_all, take, text};

embedded_suite! {
    a_commit_commits_what_was_stored_and_its_text
    a_dead_letter_tells_where_it_came_from_and_why
    embedded_consumers_get_one_total_order
    embedded_groups_have_one_member
    embedded_replay_begins_with_what_is_not_committed
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
