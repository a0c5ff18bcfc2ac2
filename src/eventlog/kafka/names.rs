//! What a topic is called here and what Kafka calls it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Error;
use super::topic_name;
use crate::telemetry::{Count, metrics};

/// A topic that was named before.
pub(super) struct Topic {
    /// Its name here.
    pub(super) name: Arc<str>,
    /// Its name at the brokers.
    pub(super) kafka: String,
    /// Records that became durable in it.
    pub(super) appended: Count,
}

/// All topics that were named. Never shrinks.
pub(super) struct Names {
    prefix: String,
    known: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            known: RwLock::default(),
        }
    }

    /// What the brokers call a group.
    pub(super) fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The topic of this name.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = known.get(name) {
            return Ok(Arc::clone(topic));
        }
        drop(known);
        let kafka = format!("{}{name}", self.prefix);
        topic_name::check(name)?;
        topic_name::check(&kafka)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = known.get(name) {
            return Ok(Arc::clone(topic));
        }
        if known.len() == topic_name::TOPICS_MAX {
            return Err(Error::Topics(topic_name::TOPICS_MAX));
        }
        let name: Arc<str> = Arc::from(name);
        let topic = Arc::new(Topic {
            appended: metrics::EVENTLOG_APPENDED.of([&name]),
            name: Arc::clone(&name),
            kafka,
        });
        known.insert(name, Arc::clone(&topic));
        Ok(topic)
    }

    /// The topic that the brokers call so; `None` if it is none of ours.
    pub(super) fn of(&self, kafka: &str) -> Option<Arc<Topic>> {
        self.topic(kafka.strip_prefix(self.prefix.as_str())?).ok()
    }

    /// Every topic that was named so far.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().map(Arc::clone).collect()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names")
            .field("prefix", &self.prefix)
            .finish()
    }
}
