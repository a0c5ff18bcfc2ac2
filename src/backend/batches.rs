//! Batches of statements that wait for the writer: each is one transaction of its own, though many
//! share one flush.
//!
//! A batch runs inside a savepoint. One that the database refuses, or whose condition is not met, is
//! taken back alone; a fault of the disk fails all that were taken together. The queue is bounded by
//! statements; who comes when it is full waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::sql::{self, Connection, Error};
use super::statement::{Row, Statement};
use super::writer::{Bell, Lane, Writing};

/// What a batch answers: the rows of each of its statements.
pub(super) type Answer = Result<Vec<Vec<Row>>, Arc<Error>>;

struct Pending {
    batch: Vec<Statement>,
    done: oneshot::Sender<Answer>,
    /// Given back when the batch is written or refused.
    _room: OwnedSemaphorePermit,
}

/// What waits.
pub(super) struct Queue {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    bell: Bell,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(bell: Bell) -> Self {
        Self {
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(STATEMENTS_MAX as usize)),
            bell,
        }
    }

    /// Writes a batch. When the caller goes away, the batch may or may not be written.
    pub(super) async fn write(&self, batch: Vec<Statement>) -> Answer {
        // A batch larger than the queue waits until it is alone.
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let count = count.min(STATEMENTS_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(count).await;
        let room = room.map_err(|_closed| Arc::new(Error::Closed))?;
        let (done, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.is_closed {
                return Err(Arc::new(Error::Closed));
            }
            state.waiting.push_back(Pending {
                batch,
                done,
                _room: room,
            });
        }
        self.bell.ring();
        answer
            .await
            .unwrap_or_else(|_closed| Err(Arc::new(Error::Closed)))
    }

    fn take(&self) -> Vec<Pending> {
        let mut state = self.lock();
        let mut statements = 0;
        let fits = |pending: &&Pending| {
            statements += pending.batch.len();
            statements <= TRANSACTION_STATEMENTS
        };
        let count = state.waiting.iter().take_while(fits).count();
        let count = count.max(1).min(state.waiting.len());
        state.waiting.drain(..count).collect()
    }

    /// Refuses what waits and all that comes.
    fn close(&self) {
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

/// Statements that may wait: about a second's work.
const STATEMENTS_MAX: u32 = 16_384;

/// Statements of one transaction, which appends to the log may be waiting for.
const TRANSACTION_STATEMENTS: usize = 512;

/// The batches' part of each transaction.
pub(super) struct BatchLane {
    queue: Arc<Queue>,
    taken: Vec<Pending>,
    answers: Vec<Answer>,
}

impl BatchLane {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            taken: Vec::new(),
            answers: Vec::new(),
        }
    }

    async fn write_all(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.answers.clear();
        for pending in &self.taken {
            sql::savepoint(connection).await?;
            let answer = match run(connection, &pending.batch).await {
                Ok(rows) => Ok(rows),
                // Of these SQLite has not ended the transaction, and the next batch may fare better.
                Err(error) if error.is_of_statement() => {
                    sql::undo(connection).await?;
                    Err(Arc::new(error))
                }
                Err(error) => return Err(error),
            };
            sql::release(connection).await?;
            self.answers.push(answer);
        }
        Ok(())
    }
}

async fn run(connection: &mut Connection, batch: &[Statement]) -> Result<Vec<Vec<Row>>, Error> {
    let mut answers = Vec::with_capacity(batch.len());
    for (index, statement) in batch.iter().enumerate() {
        let rows = sql::run(connection, statement).await?;
        if statement.is_must && rows.is_empty() {
            return Err(Error::Unmet(index));
        }
        answers.push(rows);
    }
    Ok(answers)
}

impl Lane for BatchLane {
    fn take(&mut self) -> bool {
        self.taken = self.queue.take();
        !self.taken.is_empty()
    }

    fn write<'a>(&'a mut self, connection: &'a mut Connection) -> Writing<'a> {
        Box::pin(self.write_all(connection))
    }

    fn finish(&mut self, outcome: Result<(), Arc<Error>>) {
        let mut answers = self.answers.drain(..);
        for pending in self.taken.drain(..) {
            let answer = match &outcome {
                Ok(()) => answers.next().unwrap_or(Ok(Vec::new())),
                Err(error) => Err(Arc::clone(error)),
            };
            // Whoever gave up waiting has dropped the other end.
            pending.done.send(answer).ok();
        }
    }
}

impl Drop for BatchLane {
    fn drop(&mut self) {
        self.queue.close();
    }
}
