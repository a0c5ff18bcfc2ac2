//! What was handed to a client and is not confirmed: bounded, and in the order of the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::names::Topic;
use super::{Appended, Error};
use crate::telemetry::metrics;

/// A record that waits for its confirmation.
pub(super) struct Pending {
    pub(super) topic: Arc<Topic>,
    pub(super) key: Arc<str>,
    pub(super) value: Bytes,
    pub(super) headers: Vec<(&'static str, Bytes)>,
    pub(super) since: Instant,
    /// `None` once its sender was answered; the record may still be on its way.
    pub(super) done: Option<oneshot::Sender<Result<Appended, Error>>>,
}

impl Pending {
    /// Tells the sender, unless it was told.
    pub(super) fn answer(self, outcome: Result<Appended, Error>) {
        if let Some(done) = self.done {
            // Whoever gave up waiting has dropped the other end.
            done.send(outcome).ok();
        }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The records of one lane.
pub(super) struct Flight {
    records_max: usize,
    bytes_max: usize,
    bytes: usize,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    /// Those before this were confirmed or their senders answered.
    answered: u64,
    /// To be handed over again, in this order.
    redo: BTreeSet<u64>,
}

impl Flight {
    pub(super) const fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            records_max,
            bytes_max,
            bytes: 0,
            pending: BTreeMap::new(),
            next: 0,
            answered: 0,
            redo: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether there is room for one more.
    pub(super) fn admit(&self, pending: &Pending) -> Result<(), Error> {
        let full = [
            ("records", self.pending.len() + 1, self.records_max),
            ("bytes", self.bytes + pending.bytes(), self.bytes_max),
        ];
        // One record is always let in, or a small limit would refuse a large record for ever.
        let full = full.into_iter().find(|(_, now, limit)| now > limit);
        match full.filter(|_| !self.is_empty()) {
            Some((what, _, limit)) => Err(Error::Overloaded {
                what,
                limit,
                retry_after: super::RETRY_AFTER_LOAD,
            }),
            None => Ok(()),
        }
    }

    /// The next record's place in the order of the calls.
    pub(super) const fn ticket(&mut self) -> u64 {
        let ticket = self.next;
        self.next += 1;
        ticket
    }

    pub(super) fn insert(&mut self, ticket: u64, pending: Pending) {
        self.bytes += pending.bytes();
        metrics::EVENTLOG_INFLIGHT.up();
        self.pending.insert(ticket, pending);
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<Pending> {
        let pending = self.pending.remove(&ticket)?;
        self.bytes -= pending.bytes();
        metrics::EVENTLOG_INFLIGHT.down();
        Some(pending)
    }

    /// Answers the senders of records that have waited too long; gives how many. The records stay.
    pub(super) fn answer_late(&mut self, now: Instant, within: Duration, error: &Error) -> usize {
        let mut count = 0;
        for (ticket, pending) in self.pending.range_mut(self.answered..) {
            if now.duration_since(pending.since) <= within {
                break;
            }
            self.answered = ticket + 1;
            if let Some(done) = pending.done.take() {
                done.send(Err(error.clone())).ok();
                count += 1;
            }
        }
        count
    }

    /// Refuses everything; gives how many senders had not been answered.
    pub(super) fn fail_all(&mut self, error: &Error) -> usize {
        let mut count = 0;
        let tickets: Vec<u64> = self.pending.keys().copied().collect();
        for pending in tickets
            .into_iter()
            .filter_map(|ticket| self.remove(ticket))
            .collect::<Vec<_>>()
        {
            count += usize::from(pending.done.is_some());
            pending.answer(Err(error.clone()));
        }
        count
    }

    /// Forgets everything; whoever waits reads that the log is closed.
    pub(super) fn clear(&mut self) {
        let tickets: Vec<u64> = self.pending.keys().copied().collect();
        tickets
            .into_iter()
            .for_each(|ticket| drop(self.remove(ticket)));
        self.redo.clear();
    }

    /// True while records wait to be handed over again: others go behind them.
    pub(super) fn is_redoing(&self) -> bool {
        !self.redo.is_empty()
    }

    pub(super) fn redo(&mut self, ticket: u64) {
        if self.pending.contains_key(&ticket) {
            self.redo.insert(ticket);
        }
    }

    pub(super) fn redo_all(&mut self) {
        self.redo = self.pending.keys().copied().collect();
    }

    pub(super) fn next_redo(&self) -> Option<(u64, &Pending)> {
        let ticket = *self.redo.first()?;
        Some((ticket, self.pending.get(&ticket)?))
    }

    pub(super) fn redone(&mut self, ticket: u64) {
        self.redo.remove(&ticket);
    }
}
