//! Whether the log works, asked before anybody has to store something.

use super::{Error, EventLog};

impl EventLog {
    /// Asks whether a record of this topic could be stored now. In Kafka: whether records are being
    /// confirmed and the brokers know a leader for each partition. In a file: whether it can be written.
    ///
    /// # Errors
    /// When it could not.
    pub async fn probe(&self, topic: &str) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sql(log) => log.probe().await,
            Self::Kafka(log) => log.probe(topic).await,
        }
    }
}
