//! The topics of a log: a small number for each name, and how many partitions each has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::topic_name::TOPICS_MAX;
use super::{Error, topic_name};

/// A topic's number in this log, dense from 0.
pub(super) type TopicIndex = usize;

/// One topic.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: u32,
    /// True once the backend has written it down.
    pub(super) is_stored: bool,
}

/// All topics. Never shrinks.
#[derive(Debug)]
pub(super) struct Topics {
    partitions: u32,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<Arc<str>, TopicIndex>,
    list: Vec<Topic>,
}

impl Topics {
    /// The topics known so far, in the order of their numbers.
    pub(super) fn new(partitions: u32, known: Vec<Topic>) -> Self {
        let by_name = known
            .iter()
            .enumerate()
            .map(|(index, t)| (Arc::clone(&t.name), index));
        let inner = Inner {
            by_name: by_name.collect(),
            list: known,
        };
        Self {
            partitions,
            inner: RwLock::new(inner),
        }
    }

    /// The topic of this name, made if there is none.
    pub(super) fn ensure(&self, name: &str) -> Result<(TopicIndex, u32), Error> {
        let known = self.read();
        if let Some(index) = known.by_name.get(name) {
            return Ok((*index, known.list[*index].partitions));
        }
        drop(known);
        topic_name::check(name)?;
        let mut inner = self.write();
        if let Some(index) = inner.by_name.get(name) {
            return Ok((*index, inner.list[*index].partitions));
        }
        if inner.list.len() == TOPICS_MAX {
            return Err(Error::Topics(TOPICS_MAX));
        }
        let (index, name) = (inner.list.len(), Arc::from(name));
        inner.by_name.insert(Arc::clone(&name), index);
        inner.list.push(Topic {
            name,
            partitions: self.partitions,
            is_stored: false,
        });
        Ok((index, self.partitions))
    }

    pub(super) fn name(&self, index: TopicIndex) -> Arc<str> {
        Arc::clone(&self.read().list[index].name)
    }

    /// The topics the backend has not written down.
    pub(super) fn unstored(&self) -> Vec<(TopicIndex, Topic)> {
        let inner = self.read();
        let all = inner.list.iter().cloned().enumerate();
        all.filter(|(_, topic)| !topic.is_stored).collect()
    }

    /// Notes that the backend has written these down.
    pub(super) fn mark_stored(&self, stored: impl Iterator<Item = TopicIndex>) {
        let mut inner = self.write();
        stored.for_each(|index| inner.list[index].is_stored = true);
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
