//! How fast the log of embedded mode is, and what it costs. Run by hand:
//! `cargo test --test contract speed -- --ignored --nocapture`.

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use vestibule::eventlog::{EventLog, Options};

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

#[tokio::test]
#[ignore = "a measurement"]
async fn appends_a_second_and_their_cpu() {
    measure(1, 200).await;
    measure(64, 400).await;
    measure(1_000, 60).await;
}
