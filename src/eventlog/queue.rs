//! What waits to be written: records, commits and deletions, each bounded.
//!
//! A record counts until it is durable or refused, not only until it is taken, so that a slow disk
//! is felt by senders and not by memory. Order is the order of the calls, under one short lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::groups::Commit;
use super::topics::TopicIndex;
use super::{Appended, Error, Patience, meter};
use crate::backend::writer::Bell;
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// A record that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) topic: TopicIndex,
    pub(super) partition: u32,
    pub(super) key: Arc<str>,
    pub(super) value: Bytes,
    pub(super) patience: Patience,
    /// Set when it is enqueued.
    pub(super) at: Timestamp,
    pub(super) since: Instant,
    pub(super) done: oneshot::Sender<Result<Appended, Error>>,
}

/// A commit that waits.
#[derive(Debug)]
pub(super) struct PendingCommit {
    pub(super) commit: Commit,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// A deletion that waits: one step of what is older than this.
#[derive(Debug)]
pub(super) struct PendingTrim {
    pub(super) before: Timestamp,
    pub(super) done: oneshot::Sender<Result<u64, Error>>,
}

/// What the next transaction shall write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Pending>,
    pub(super) commits: Vec<PendingCommit>,
    pub(super) trim: Option<PendingTrim>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.commits.is_empty() && self.trim.is_none()
    }
}

/// How much may wait, and how much is taken at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) batch_records: usize,
}

/// The queue of a log.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    bell: Bell,
    /// Whether what was written last could not be.
    is_failing: AtomicBool,
}

#[derive(Debug)]
struct State {
    records: VecDeque<Pending>,
    refusable: Load,
    patient: Load,
    commits: Vec<PendingCommit>,
    trim: Option<PendingTrim>,
    /// The newest time given out: the log's clock never goes back.
    at: Timestamp,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Load {
    records: usize,
    bytes: usize,
}

impl State {
    fn load(&mut self, patience: Patience) -> &mut Load {
        match patience {
            Patience::Refuse => &mut self.refusable,
            Patience::Persist => &mut self.patient,
        }
    }
}

impl Queue {
    pub(super) fn new(bounds: Bounds, bell: Bell, at: Timestamp) -> Self {
        let state = State {
            records: VecDeque::new(),
            refusable: Load::default(),
            patient: Load::default(),
            commits: Vec::new(),
            trim: None,
            at,
            is_closed: false,
        };
        Self {
            bounds,
            state: Mutex::new(state),
            bell,
            is_failing: AtomicBool::new(false),
        }
    }

    /// Enqueues a record behind all that were enqueued before.
    pub(super) fn push(&self, mut pending: Pending) -> Result<(), Error> {
        let bytes = size(&pending);
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        let load = state.load(pending.patience);
        let full = [
            ("records", load.records + 1, self.bounds.records),
            ("bytes", load.bytes + bytes, self.bounds.bytes),
        ];
        // One record is always let in, or a small limit would refuse a large record for ever.
        if load.records > 0
            && let Some((what, _, limit)) = full.into_iter().find(|(_, now, limit)| now > limit)
        {
            return Err(Error::Overloaded {
                what,
                limit,
                retry_after: RETRY_AFTER_LOAD,
            });
        }
        load.records += 1;
        load.bytes += bytes;
        metrics::EVENTLOG_INFLIGHT.up();
        state.at = state.at.max(pending.at);
        pending.at = state.at;
        state.records.push_back(pending);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Enqueues a commit.
    pub(super) fn push_commit(&self, commit: PendingCommit) -> Result<(), Error> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        if state.commits.len() == COMMITS_MAX {
            let retry_after = RETRY_AFTER_LOAD;
            return Err(Error::Overloaded {
                what: "commits",
                limit: COMMITS_MAX,
                retry_after,
            });
        }
        state.commits.push(commit);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Enqueues one step of deleting, in place of one that waits.
    pub(super) fn push_trim(&self, trim: PendingTrim) -> Result<(), Error> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        state.trim = Some(trim);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Takes what the next transaction shall write.
    pub(super) fn take(&self) -> Batch {
        let mut state = self.lock();
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += size(pending);
            bytes <= BATCH_BYTES_MAX
        };
        let count = state
            .records
            .iter()
            .take(self.bounds.batch_records)
            .take_while(fits)
            .count();
        let count = count.max(1).min(state.records.len());
        let records = state.records.drain(..count).collect();
        Batch {
            records,
            commits: std::mem::take(&mut state.commits),
            trim: state.trim.take(),
        }
    }

    /// How the last transaction ended.
    pub(super) fn note(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Records are durable or refused: others may come.
    pub(super) fn release<'a>(&self, records: impl Iterator<Item = &'a Pending>) {
        let mut state = self.lock();
        for pending in records {
            let load = state.load(pending.patience);
            load.records -= 1;
            load.bytes -= size(pending);
            metrics::EVENTLOG_INFLIGHT.down();
        }
        meter::in_flight(state.refusable.records + state.patient.records);
    }

    /// Puts records back to the front, in their order; they still count.
    pub(super) fn put_back(&self, records: Vec<Pending>) {
        let mut state = self.lock();
        for pending in records.into_iter().rev() {
            state.records.push_front(pending);
        }
    }

    /// Refuses what waits and all that comes.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        // Whoever waits for one of these sees the channel close, which reads as "closed".
        state.records.clear();
        state.commits.clear();
        state.trim = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(pending: &Pending) -> usize {
    pending.key.len() + pending.value.len()
}

/// A full queue drains in about as long as a few commits take.
const RETRY_AFTER_LOAD: Duration = Duration::from_millis(250);

/// What one transaction may write, so that the first of it does not wait for long.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// One or two for each group, as members wait for one before the next.
const COMMITS_MAX: usize = 256;
