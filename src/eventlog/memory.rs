//! The log in memory: the same promises as long as the process lives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::core::Core;
use super::groups::{Commit, Groups};
use super::recent::{Entry, Keep, Recent, Tops, slot};
use super::topics::Topics;
use super::{Append, Appended, Error, Headers, Options, Record, Request};
use crate::types::Timestamp;

/// A log in memory. Unbounded: for tests.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    /// Held from the choice of an offset until the record is visible.
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct Tail {
    tops: Tops,
    at: Timestamp,
}

impl Log {
    pub(super) fn new(options: Options) -> Self {
        let keep = Keep {
            records: usize::MAX,
            bytes: usize::MAX,
        };
        let core = Core {
            topics: Topics::new(options.partitions, Vec::new()),
            recent: Recent::new(keep, 1, Tops::new()),
            groups: Groups::default(),
        };
        Self(Arc::new(Inner {
            core: Arc::new(core),
            tail: Mutex::default(),
        }))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    pub(super) fn append(&self, request: Request<'_>) -> Result<Append, Error> {
        let (topic, partition) = self.0.core.place(&request)?;
        let mut tail = self.0.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.at = tail.at.max(Timestamp::from(SystemTime::now()));
        let at = tail.at;
        let top = slot(&mut tail.tops, topic, partition);
        let offset = *top;
        *top += 1;
        let record = Record {
            topic: self.0.core.topics.name(topic),
            partition,
            offset,
            key: Arc::from(request.key),
            value: request.value,
            at,
            headers: Headers::default(),
        };
        self.0.core.recent.push([Entry { topic, record }]);
        drop(tail);
        let (done, append) = oneshot::channel();
        done.send(Ok(Appended {
            partition,
            offset,
            at,
        }))
        .expect("its receiver is held here");
        Ok(Append(append))
    }

    pub(super) fn commit(&self, commit: Commit) {
        self.0.core.groups.commit(commit);
    }
}
