//! Rows that wait to be written, bounded by their number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Error, Row};
use crate::backend::statement::Statement;
use crate::backend::writer::Bell;

/// Rows of one call.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) rows: Vec<Row>,
    pub(super) statements: Vec<Statement>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
    /// Given back when the rows are written or refused.
    _room: OwnedSemaphorePermit,
}

/// The queue of the archive.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(bell: Bell) -> Self {
        let room = Arc::new(Semaphore::new(ROWS_MAX as usize));
        Self {
            state: Mutex::default(),
            room,
            bell,
        }
    }

    /// Waits for room and enqueues rows; the receiver tells what became of them. What follows from
    /// a row is at most a few statements, so that the bound on rows bounds them too.
    pub(super) async fn push(
        &self,
        rows: Vec<Row>,
        statements: Vec<Statement>,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        // A call with more rows than there is ever room for waits until it is alone.
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).min(ROWS_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(count).await;
        let room = room.map_err(|_closed| Error::Closed)?;
        let (done, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Closed);
        }
        state.waiting.push_back(Pending {
            rows,
            statements,
            done,
            _room: room,
        });
        drop(state);
        self.bell.ring();
        Ok(answer)
    }

    /// Takes the calls that the next transaction shall write.
    pub(super) fn take(&self) -> Vec<Pending> {
        let mut state = self.lock();
        let mut rows = 0;
        let fits = |pending: &&Pending| {
            rows += pending.rows.len();
            rows <= BATCH_ROWS
        };
        let count = state.waiting.iter().take_while(fits).count();
        let count = count.max(1).min(state.waiting.len());
        state.waiting.drain(..count).collect()
    }

    /// Refuses what waits and all that comes.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        // Whoever waits for one of these sees the channel close, which reads as "closed".
        state.waiting.clear();
        drop(state);
        self.room.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ROWS_MAX: u32 = 4_096;

/// Rows of one transaction, which appends to the log may be waiting for: a few milliseconds.
const BATCH_ROWS: usize = 256;
