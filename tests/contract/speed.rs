//! How fast the log of embedded mode is, and what it costs. Run by hand:
//! `cargo test --test contract speed -- --ignored --nocapture`.

use std::future::pending;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use vestibule::archive::Archive;
use vestibule::cluster::bus::Bus;
use vestibule::delivery::archive::{Archiver, Options as ArchiverOptions};
use vestibule::delivery::pump::{Options as PumpOptions, Parts, Pump};
use vestibule::eventlog::{EventLog, Options};
use vestibule::events::Vocabulary;
use vestibule::timeline::{Limits, Memory, Timeline};
use vestibule::types::NodeId;

use crate::sqlite::Folder;

/// CPU time of the process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is a name in parentheses and may hold spaces; 14 and 15 are clock ticks.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
async fn measure(appenders: usize, each: usize) {
    let folder = Folder::new().await;
    let log = EventLog::sql(&folder.database, Options::default())
        .await
        .unwrap();
    let value = Bytes::from(vec![b'x'; 300]);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let append = |appender: usize| {
        let (log, value) = (&log, &value);
        async move {
            let key = format!("user-{appender}");
            for _ in 0..each {
                log.append("messages", &key, value.clone())
                    .unwrap()
                    .await
                    .unwrap();
            }
        }
    };
    join_all((0..appenders).map(append)).await;
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let total = (appenders * each) as f64;
    println!(
        "{appenders} appenders: {:.0} appends/s, {:.1} us of CPU each, {:.1} ms to be durable",
        total / took,
        cpu * 1e6 / total,
        took * 1e3 / each as f64,
    );
    folder.database.close().await;
}

fn event(user: usize, n: usize) -> Bytes {
    Bytes::from(format!(
        r#"{{"id":"e-{user}-{n}","type":"MESSAGE_SENT","userId":"user-{user}","conversationId":"{}","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"{:0>150}"}}}}"#,
        n % 20,
        n,
    ))
}

/// From the append to the row in the archive, through pump and timeline.
#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
async fn measure_path(users: usize, each: usize) {
    let folder = Folder::new().await;
    let log = EventLog::sql(&folder.database, Options::default())
        .await
        .unwrap();
    let node = NodeId::parse("node-1").unwrap();
    let parts = Parts {
        log: log.clone(),
        timeline: Timeline::Memory(Memory::new(Limits::default())),
        bus: Bus::memory(),
        vocabulary: Vocabulary::builtin(),
        node: node.clone(),
    };
    let pump = Pump::new(parts, PumpOptions::default());
    let archive = Archive::sql(&folder.database);
    let archiver = Archiver::new(log.clone(), archive, node, ArchiverOptions::default());
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let append = |user: usize| {
        let log = &log;
        async move {
            let key = format!("user-{user}");
            for n in 0..each {
                log.append("messages", &key, event(user, n))
                    .unwrap()
                    .await
                    .unwrap();
            }
        }
    };
    let settled = async {
        join_all((0..users).map(append)).await;
        let acknowledged = began.elapsed().as_secs_f64();
        let mut check = tokio::time::interval(std::time::Duration::from_millis(20));
        while log.lag().iter().map(|lag| lag.records).sum::<u64>() > 0 {
            check.tick().await;
        }
        acknowledged
    };
    let acknowledged = tokio::select! {
        acknowledged = settled => acknowledged,
        ended = pump.run(pending()) => panic!("{ended:?}"),
        ended = archiver.run(pending()) => panic!("{ended:?}"),
    };
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let total = (users * each) as f64;
    println!(
        "{users} users through the whole path: {:.0} events/s acknowledged, {:.0} archived, {:.1} us of CPU each",
        total / acknowledged,
        total / took,
        cpu * 1e6 / total,
    );
    folder.database.close().await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn events_a_second_through_the_whole_path() {
    measure_path(64, 300).await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn appends_a_second_and_their_cpu() {
    measure(1, 200).await;
    measure(64, 400).await;
    measure(1_000, 60).await;
}
