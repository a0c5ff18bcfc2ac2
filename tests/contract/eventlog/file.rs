//! The log in a file: full queues and disks, failed commits, a crash, and when old records go.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use vestibule::backend::sql::Options as FileOptions;
use vestibule::eventlog::{Error, Options, Retention};
use vestibule::types::{ByteSize, Timestamp};

use super::{Fixture, append, append_all, numbered, store_all, take, text};
use crate::sqlite::let_go;

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
