//! Everything in Kafka, written to a file for programs that cannot read Kafka: a record on each line.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use serde_json::{Value, json};

/// A consumer of all topics but `timeline`. Ends with the value.
pub(super) struct Log {
    file: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Follows all topics that there are, from their beginning.
    pub(super) fn follow(brokers: &str, folder: &Path) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "a reader of everything")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.subscribe(&["^.*"]).unwrap();
        let path = folder.join("log.jsonl");
        let mut file = File::create(&path).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                if record.topic() == "timeline" || record.topic().starts_with("__") {
                    continue;
                }
                let text =
                    |bytes: Option<&[u8]>| bytes.map(String::from_utf8_lossy).map(Value::from);
                let event = record
                    .payload()
                    .and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
                let line =
                    json!({ "topic": record.topic(), "key": text(record.key()), "event": event });
                writeln!(file, "{line}").unwrap();
            }
        });
        Self {
            file: path,
            is_over,
            thread: Some(thread),
        }
    }

    /// The file, which grows.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
