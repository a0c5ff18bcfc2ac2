//! The log alone, for commands that look after it.

use anyhow::Context as _;

use crate::backend::sql::{self, Database};
use crate::config::{Config, Mode};
use crate::eventlog::{self, EventLog};

/// A log, and what has to be closed behind it.
pub struct OpenLog {
    /// The log.
    pub log: EventLog,
    database: Option<Database>,
}

impl OpenLog {
    /// Opens the log that a configuration names.
    ///
    /// # Errors
    /// When it can not be opened. The data folder of embedded mode belongs to one process: while a
    /// node runs on it, this says so.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match config.mode {
            Mode::Embedded => {
                let database = Database::open(sql::Options::new(&config.data)).await;
                let database = database.with_context(|| {
                    let folder = config.data.display();
                    format!("the log in {folder} cannot be opened; a node that uses it must be stopped first")
                })?;
                let options = eventlog::Options {
                    partitions: config.eventlog.partitions,
                    ..eventlog::Options::default()
                };
                Ok(Self {
                    log: EventLog::sql(&database, options).await?,
                    database: Some(database),
                })
            }
            Mode::Cluster => {
                let options = super::servers::kafka_options(config, &super::backends::node(config));
                let log = EventLog::kafka(options).await.context("[kafka]")?;
                Ok(Self {
                    log,
                    database: None,
                })
            }
        }
    }

    /// Waits until what was appended is durable, and closes it.
    pub async fn close(self) {
        self.log.close().await;
        if let Some(database) = self.database {
            database.close().await;
        }
    }
}
