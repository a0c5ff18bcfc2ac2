//! A real process, killed while it appends: what it acknowledged is there, in order, once.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures_util::future::join_all;
use vestibule::backend::sql::{Database, Options};
use vestibule::eventlog::{EventLog, Options as LogOptions};

const CHILD_FOLDER: &str = "VESTIBULE_TEST_CHILD_FOLDER";

async fn open(folder: &Path) -> (Database, EventLog) {
    let database = Database::open(Options::new(folder)).await.unwrap();
    let log = EventLog::sql(&database, LogOptions::default())
        .await
        .unwrap();
    (database, log)
}

/// Appends for ever and prints each acknowledgement; does nothing unless started by the test below.
#[tokio::test]
#[ignore = "the process that the test below kills"]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let (_database, log) = open(Path::new(&folder)).await;
    let log = &log;
    join_all((0..8).map(|user| async move {
        for n in 0.. {
            let value = Bytes::from(format!("{user} {n}"));
            let appended = log
                .append("messages", &format!("user-{user}"), value)
                .unwrap()
                .await
                .unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "ack {user} {n} {} {}",
                appended.partition, appended.offset
            )
            .unwrap();
        }
    }))
    .await;
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for life in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut acks = 0;
        for line in lines {
            let Some(at) = line.find("ack ") else {
                continue;
            };
            let words: Vec<_> = line[at..].split(' ').collect();
            // A line that the kill has cut short is no acknowledgement.
            if let [_, user, n, partition, offset] = words[..] {
                let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
                    continue;
                };
                acknowledged.insert(format!("{life} {user} {n}"), (partition, offset));
            }
            acks += 1;
            if acks == 150 * life {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let (_database, log) = open(folder.path()).await;
    let places: std::collections::BTreeSet<_> = acknowledged.values().copied().collect();
    assert_eq!(
        places.len(),
        acknowledged.len(),
        "no place was given out twice"
    );
    let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
    let mut found = BTreeMap::new();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let total: u64 = log.lag().iter().map(|lag| lag.records).sum();
    while (found.len() as u64) < total {
        for record in consumer.poll(1_000).await.unwrap().into_records() {
            let offset = next.entry(record.partition).or_default();
            assert_eq!(record.offset, *offset, "offsets are gapless");
            *offset += 1;
            found.insert((record.partition, record.offset), record.value);
        }
    }
    for (event, place) in &acknowledged {
        let (_life, value) = event.split_once(' ').unwrap();
        assert_eq!(found[place], value.as_bytes(), "{event}");
    }
}
