//! Between the thread that polls Kafka and the member that reads: bounded, and emptied of what may no
//! longer be handed out.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::spot::Spot;
use super::{Assignment, Error, Record, Revocation};

/// What a member is told before records.
#[derive(Debug)]
pub(super) enum Notice {
    Assigned(Vec<Assignment>),
    Revoked(Revocation),
}

/// A partition is to be read from elsewhere.
#[derive(Debug)]
pub(super) struct Seek {
    pub(super) spot: Spot,
    pub(super) offset: u64,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// Offsets to be committed, with their text.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) offsets: Vec<(Spot, u64)>,
    pub(super) metadata: String,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// What the two sides share.
#[derive(Debug)]
pub(super) struct Handover {
    records_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    reader: Notify,
    room: Condvar,
    commit: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    notices: VecDeque<Notice>,
    seeks: VecDeque<Seek>,
    commits: Vec<Commit>,
    /// True while the committing thread is at work.
    is_committing: bool,
    /// Partitions that are on their way to another offset: what still comes of them is old.
    seeking: HashSet<Spot>,
    is_reader_gone: bool,
    end: Option<Error>,
}

impl Handover {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            records_max,
            bytes_max,
            state: Mutex::default(),
            reader: Notify::new(),
            room: Condvar::new(),
            commit: Condvar::new(),
        }
    }

    /// Room for another record.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.records.len() < self.records_max && state.bytes < self.bytes_max
    }

    /// True when at most half of it is full.
    pub(super) fn is_light(&self) -> bool {
        let state = self.lock();
        state.records.len() <= self.records_max / 2 && state.bytes <= self.bytes_max / 2
    }

    /// Waits a moment for room.
    pub(super) fn wait(&self, at_most: Duration) {
        let state = self.lock();
        if state.is_reader_gone || !state.seeks.is_empty() {
            return;
        }
        drop(self.room.wait_timeout(state, at_most));
    }

    /// Takes a record for the reader, unless its partition is on its way elsewhere.
    pub(super) fn push(&self, record: Record) {
        let mut state = self.lock();
        let spot = Spot::of(&record);
        if state.seeking.contains(&spot) {
            return;
        }
        state.bytes += size(&record);
        state.records.push_back(record);
        drop(state);
        self.reader.notify_one();
    }

    pub(super) fn notify(&self, notice: Notice) {
        self.lock().notices.push_back(notice);
        self.reader.notify_one();
    }

    /// Nothing of these partitions is handed out any more.
    pub(super) fn drop_partitions(&self, spots: &[Spot]) {
        let mut state = self.lock();
        state.forget(|record| spots.contains(&Spot::of(record)));
        for spot in spots {
            state.seeking.remove(spot);
        }
    }

    /// What comes of a partition is current again.
    pub(super) fn arrived(&self, spot: &Spot) {
        self.lock().seeking.remove(spot);
    }

    pub(super) fn sought(&self) -> Option<Seek> {
        self.lock().seeks.pop_front()
    }

    /// What is to be committed, when there is something; `None` when nothing will be any more.
    pub(super) fn commits(&self) -> Option<Vec<Commit>> {
        let mut state = self.lock();
        state.is_committing = false;
        loop {
            if !state.commits.is_empty() {
                state.is_committing = true;
                return Some(std::mem::take(&mut state.commits));
            }
            if state.is_reader_gone || state.end.is_some() {
                return None;
            }
            let woken = self.commit.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// True while something that was asked for is not committed.
    pub(super) fn is_committing(&self) -> bool {
        let state = self.lock();
        state.is_committing || !state.commits.is_empty()
    }

    /// No more records come.
    pub(super) fn end(&self, error: Error) {
        let mut state = self.lock();
        state.end.get_or_insert(error);
        // Whoever waits for one of these sees the channel close.
        state.seeks.clear();
        drop(state);
        self.commit.notify_all();
        self.reader.notify_one();
    }

    pub(super) fn is_reader_gone(&self) -> bool {
        self.lock().is_reader_gone
    }

    /// The reader will not come again.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.is_reader_gone = true;
        // A revocation that nobody takes must not be waited for.
        state.notices.clear();
        drop(state);
        self.room.notify_all();
        self.commit.notify_all();
    }

    /// Asks for offsets to be committed.
    pub(super) fn commit(&self, commit: Commit) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        if state.commits.len() == COMMITS_MAX {
            return Err(Error::Overloaded {
                what: "commits",
                limit: COMMITS_MAX,
                retry_after: super::RETRY_AFTER_LOAD,
            });
        }
        state.commits.push(commit);
        self.commit.notify_all();
        Ok(())
    }

    /// Asks for a partition to be read from elsewhere. What was read of it is forgotten at once; an
    /// earlier wish for it that waits is replaced.
    pub(super) fn seek(&self, seek: Seek) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        state.forget(|record| Spot::of(record) == seek.spot);
        state.seeking.insert(seek.spot.clone());
        state.seeks.retain(|earlier| earlier.spot != seek.spot);
        state.seeks.push_back(seek);
        drop(state);
        self.room.notify_all();
        Ok(())
    }

    /// What comes next for the reader. Cancel-safe.
    pub(super) async fn next(&self, max: usize) -> Result<Next, Error> {
        loop {
            let notified = self.reader.notified();
            if let Some(next) = self.take(max)? {
                return Ok(next);
            }
            notified.await;
        }
    }

    fn take(&self, max: usize) -> Result<Option<Next>, Error> {
        let mut state = self.lock();
        if let Some(notice) = state.notices.pop_front() {
            return Ok(Some(Next::Notice(notice)));
        }
        let count = max.min(state.records.len());
        if count > 0 {
            let records: Vec<_> = state.records.drain(..count).collect();
            state.bytes -= records.iter().map(size).sum::<usize>();
            drop(state);
            self.room.notify_all();
            return Ok(Some(Next::Records(records)));
        }
        match &state.end {
            Some(error) => Err(error.clone()),
            None => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, is_old: impl Fn(&Record) -> bool) {
        let mut bytes = self.bytes;
        self.records.retain(|record| {
            let goes = is_old(record);
            bytes -= if goes { size(record) } else { 0 };
            !goes
        });
        self.bytes = bytes;
    }
}

/// What the reader gets.
#[derive(Debug)]
pub(super) enum Next {
    Notice(Notice),
    Records(Vec<Record>),
}

/// What a record counts for, with about what its own structures take.
pub(super) fn size(record: &Record) -> usize {
    record.key.len() + record.value.len() + 128
}

/// One or two for each member, as it waits for one before the next.
const COMMITS_MAX: usize = 256;

/// Shared by the thread, its callbacks and the member.
pub(super) type Shared = Arc<super::reader::Link>;
