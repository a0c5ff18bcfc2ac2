//! The contract of `eventlog`.

mod appends;
mod consumers;
mod embedded;
mod file;

use bytes::Bytes;
use futures_util::future::join_all;
use vestibule::backend::sql::Options as FileOptions;
use vestibule::eventlog::{Append, Consumer, EventLog, Options, Polled, Record, kafka};

use crate::brokers;
use crate::sqlite::Folder;

/// A log that can be closed and opened again.
pub(super) struct Fixture {
    pub(super) log: EventLog,
    options: Options,
    pub(super) folder: Option<Folder>,
    kafka: Option<kafka::Options>,
}

impl Fixture {
    pub(super) async fn memory() -> Self {
        let options = Options::default();
        Self {
            log: EventLog::memory(options.clone()),
            options,
            folder: None,
            kafka: None,
        }
    }

    pub(super) async fn kafka() -> Self {
        let options = brokers::options();
        Self {
            log: brokers::log(&options).await,
            options: Options::default(),
            folder: None,
            kafka: Some(options),
        }
    }

    pub(super) async fn sql() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub(super) async fn with(
        change: impl FnOnce(&mut Options),
        file: impl FnOnce(&mut FileOptions),
    ) -> Self {
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
    pub(super) async fn reopen(&mut self) {
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
    pub(super) async fn crashed(&self) -> Self {
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

    pub(super) fn folder(&self) -> &Folder {
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
pub(super) use suite;

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
pub(super) use embedded_suite;

pub(super) fn append(log: &EventLog, key: &str, value: impl Into<String>) -> Append {
    log.append("messages", key, Bytes::from(value.into()))
        .unwrap()
}

pub(super) async fn append_all(log: &EventLog, values: impl IntoIterator<Item = (String, String)>) {
    let appends: Vec<_> = values
        .into_iter()
        .map(|(key, value)| append(log, &key, value))
        .collect();
    for outcome in join_all(appends).await {
        outcome.unwrap();
    }
}

pub(super) fn numbered(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|n| (format!("user-{}", n % 7), n.to_string()))
}

pub(super) async fn take(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = next(consumer, count - records.len()).await;
        assert!(!more.is_empty() && more.len() <= count - records.len());
        records.extend(more);
    }
    records
}

/// The next records, whatever partitions come and go.
pub(super) async fn next(consumer: &mut Consumer, max: usize) -> Vec<Record> {
    loop {
        if let Polled::Records(records) = consumer.poll(max).await.unwrap() {
            return records;
        }
    }
}

pub(super) fn text(record: &Record) -> &str {
    std::str::from_utf8(&record.value).unwrap()
}

pub(super) fn store_all(consumer: &mut Consumer, records: &[Record]) {
    for record in records {
        consumer.store(&record.topic, record.partition, record.offset + 1);
    }
}
