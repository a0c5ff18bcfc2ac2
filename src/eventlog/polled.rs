//! What a member of a group is told next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Record;

/// Records, or a change of the partitions that this member reads.
#[derive(Debug)]
pub enum Polled {
    /// The next records; none of a partition before it was assigned, none after it was revoked.
    Records(Vec<Record>),
    /// These partitions are read from now on too.
    Assigned(Vec<Assignment>),
    /// Another member is about to read these partitions.
    Revoked(Revocation),
}

impl Polled {
    /// The records, for whoever does not care about partitions. A revocation is let go at once.
    #[must_use]
    pub fn into_records(self) -> Vec<Record> {
        match self {
            Self::Records(records) => records,
            Self::Assigned(_) | Self::Revoked(_) => Vec::new(),
        }
    }
}

/// A partition that this member reads now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The next offset that the group has to do, where its records begin; `None` if it has not
    /// committed there, and then they begin with the oldest.
    pub committed: Option<u64>,
    /// The text of the group's last commit of this partition, unless it was empty.
    pub metadata: Option<String>,
}

/// Partitions that this member has to give up. The group waits, for two seconds at most, until this
/// is dropped, so that what is in flight can be finished, stored and committed. A commit made while
/// it is held still counts.
#[derive(Debug)]
pub struct Revocation {
    /// Topic and partition.
    pub partitions: Vec<(Arc<str>, u32)>,
    /// True if they may have another reader already: nothing waits, and nothing can be committed.
    pub is_lost: bool,
    hold: Arc<Hold>,
}

impl Revocation {
    /// A revocation, and what tells when it was dropped.
    pub(super) fn new(partitions: Vec<(Arc<str>, u32)>, is_lost: bool) -> (Self, Arc<Hold>) {
        let hold = Arc::new(Hold::default());
        let revocation = Self {
            partitions,
            is_lost,
            hold: Arc::clone(&hold),
        };
        (revocation, hold)
    }
}

impl Revocation {
    /// What tells when it was dropped.
    pub(super) fn hold(&self) -> Arc<Hold> {
        Arc::clone(&self.hold)
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        self.hold.let_go();
    }
}

/// Whether somebody is still busy with revoked partitions.
#[derive(Debug, Default)]
pub(super) struct Hold {
    is_over: AtomicBool,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Hold {
    /// True when the revocation was dropped, or nobody waits for it any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends the wait.
    pub(super) fn let_go(&self) {
        self.is_over.store(true, Ordering::Release);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// Waits for the end of it, or a moment: there may be something to commit.
    pub(super) fn wait(&self, until: Instant) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over() {
            return;
        }
        let left = until
            .saturating_duration_since(Instant::now())
            .min(LOOK_EVERY);
        drop(self.bell.wait_timeout(guard, left));
    }
}

/// A commit made meanwhile waits for no longer.
const LOOK_EVERY: Duration = Duration::from_millis(5);
