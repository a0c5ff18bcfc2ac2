//! One Kafka broker for all tests of this binary that do not harm it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use vestibule::backend::kafka as brokers;
use vestibule::eventlog::{EventLog, TopicSpec, kafka};

use crate::servers::kafka::Kafka;

/// The broker. It ends with this process.
pub(crate) fn shared() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| {
        let (started, broker) = mpsc::channel();
        // The kernel ends a server with the thread that started it, and a test's thread ends early.
        std::thread::spawn(move || {
            started.send(Kafka::start(&folder())).unwrap();
            loop {
                std::thread::park();
            }
        });
        broker.recv().unwrap()
    })
}

/// A folder of this process; those of processes that are gone are removed.
fn folder() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    std::fs::create_dir_all(&parent).unwrap();
    for old in std::fs::read_dir(&parent).unwrap().flatten() {
        let process = Path::new("/proc").join(old.file_name());
        if !process.exists() {
            std::fs::remove_dir_all(old.path()).ok();
        }
    }
    let folder = parent.join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Topics and groups that no other test has.
pub(crate) fn options() -> kafka::Options {
    let options = at(&shared().bootstrap());
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}-", NEXT.fetch_add(1, Ordering::Relaxed));
    kafka::Options { prefix, ..options }
}

/// Options for some broker, with short times.
pub(crate) fn at(bootstrap: &str) -> kafka::Options {
    let connection = brokers::Options {
        bootstrap: bootstrap.to_owned(),
        client_id: "test".to_owned(),
        ..brokers::Options::default()
    };
    kafka::Options {
        lag_every: Duration::from_millis(200),
        ..kafka::Options::new(connection)
    }
}

/// A log with the topics that tests use.
pub(crate) async fn log(options: &kafka::Options) -> EventLog {
    let log = EventLog::kafka(options.clone()).await.unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    log
}

pub(crate) fn specs() -> [TopicSpec; 3] {
    let spec = |(name, partitions): (&str, u32)| TopicSpec {
        name: name.to_owned(),
        partitions,
        retention: Duration::from_secs(86_400),
    };
    [
        ("messages", 12),
        ("messages.dead-letters", 2),
        ("timeline", 3),
    ]
    .map(spec)
}
