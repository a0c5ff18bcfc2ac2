//! Brokers that are away, or let nobody in without a password: what is refused, and how soon.

use std::time::{Duration, Instant};

use bytes::Bytes;
use vestibule::backend::kafka::{Mechanism, Sasl, Tls};
use vestibule::eventlog::{Error, EventLog};
use vestibule::types::Secret;

use super::{append, poll, text};
use crate::brokers;
use crate::servers::kafka::{Kafka, Secured};

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
