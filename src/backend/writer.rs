//! One writer for the one file: whatever waits is written in one transaction with one flush.
//!
//! Each part that writes has a [`Lane`]: its own bounded queue, and the statements that write what
//! is taken from it. While one transaction is being flushed, the next one's work gathers; an idle
//! writer starts at once. Results are told only after the commit, so that nothing is acknowledged
//! that a crash could take back. When a commit fails, everything in it is told so; a lane whose
//! statements fail is left out and does not take the others down.
//!
//! The writer has a thread of its own: a flush can take longer than anything else in the process
//! may wait.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::folder::FolderLock;
use super::sql::{self, Connection, Error};

/// What [`Lane::write`] returns.
pub type Writing<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// What one part writes. When the writer ends, its lanes are dropped: a lane's `Drop` must refuse
/// what still waits in its queue.
pub trait Lane: Send {
    /// Takes from the queue what the next transaction shall write; false if there is nothing.
    fn take(&mut self) -> bool;

    /// Writes what was taken. May be called again for the same work after another lane failed.
    fn write<'a>(&'a mut self, connection: &'a mut Connection) -> Writing<'a>;

    /// Tells what became of the work that was taken: durable, or not written at all.
    fn finish(&mut self, outcome: Result<(), Arc<Error>>);
}

/// Wakes the writer. Cheap to clone and to ring.
#[derive(Debug, Clone)]
pub struct Bell(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    wake: Notify,
    is_stopping: AtomicBool,
    stop: Notify,
}

impl Bell {
    /// Says that a lane has work.
    pub fn ring(&self) {
        self.0.wake.notify_one();
    }
}

type Lanes = Arc<Mutex<Vec<Box<dyn Lane>>>>;

/// The handle of the writer's thread. Dropping it stops the thread after the work it has.
pub(super) struct Writer {
    signal: Arc<Signal>,
    joining: Lanes,
    ended: watch::Receiver<bool>,
}

impl Writer {
    /// Starts the thread. This is the only place of the program that starts one for the database.
    pub(super) fn start(
        connection: Connection,
        lock: FolderLock,
        linger: Duration,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let signal = Arc::new(Signal::default());
        let joining = Lanes::default();
        let (end, ended) = watch::channel(false);
        let turn = Turn {
            signal: Arc::clone(&signal),
            joining: Arc::clone(&joining),
            linger,
        };
        thread::Builder::new()
            .name("sql-writer".to_owned())
            .spawn(move || {
                runtime.block_on(turn.run(connection));
                drop(lock);
                // Dropped, not sent, also when the thread panics: waiters see the channel close.
                drop(end);
            })?;
        Ok(Self {
            signal,
            joining,
            ended,
        })
    }

    pub(super) fn attach(&self, lane: Box<dyn Lane>) {
        self.joining
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane);
        self.signal.wake.notify_one();
    }

    pub(super) fn bell(&self) -> Bell {
        Bell(Arc::clone(&self.signal))
    }

    pub(super) fn stop(&self) {
        self.signal.is_stopping.store(true, Ordering::Release);
        self.signal.stop.notify_one();
        self.signal.wake.notify_one();
    }

    pub(super) async fn stopped(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's state.
struct Turn {
    signal: Arc<Signal>,
    joining: Lanes,
    linger: Duration,
}

impl Turn {
    async fn run(self, mut connection: Connection) {
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        let mut failures = 0;
        loop {
            // Read before the work is taken: what was accepted before the stop is still written.
            let is_stopping = self.signal.is_stopping.load(Ordering::Acquire);
            lanes.append(&mut self.joining.lock().unwrap_or_else(PoisonError::into_inner));
            let mut busy: Vec<&mut Box<dyn Lane>> = lanes
                .iter_mut()
                .filter_map(|lane| lane.take().then_some(lane))
                .collect();
            if busy.is_empty() {
                if is_stopping {
                    break;
                }
                self.signal.wake.notified().await;
                if !self.linger.is_zero() {
                    tokio::time::sleep(self.linger).await;
                }
                continue;
            }
            if transact(&mut connection, &mut busy).await {
                failures = 0;
            } else if is_stopping {
                break;
            } else {
                failures += 1;
                let wait = tokio::time::sleep(backoff(failures));
                tokio::select! {
                    () = wait => {}
                    () = self.signal.stop.notified() => {}
                }
            }
        }
        drop(lanes);
        sql::close(connection).await;
    }
}

/// Writes what the lanes have taken and tells each of them; true if all of it is durable.
async fn transact(connection: &mut Connection, lanes: &mut Vec<&mut Box<dyn Lane>>) -> bool {
    let mut all_durable = true;
    while !lanes.is_empty() {
        match attempt(connection, lanes).await {
            Ok(()) => {
                lanes.drain(..).for_each(|lane| lane.finish(Ok(())));
            }
            Err((failed, error)) => {
                all_durable = false;
                sql::roll_back(connection).await;
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "a write failed");
                let error = Arc::new(error);
                match failed {
                    Some(index) => lanes.remove(index).finish(Err(error)),
                    None => lanes
                        .drain(..)
                        .for_each(|lane| lane.finish(Err(Arc::clone(&error)))),
                }
            }
        }
    }
    all_durable
}

/// One transaction; an error names the lane whose statements failed, if it was not the commit.
async fn attempt(
    connection: &mut Connection,
    lanes: &mut [&mut Box<dyn Lane>],
) -> Result<(), (Option<usize>, Error)> {
    sql::begin(connection)
        .await
        .map_err(|error| (None, error))?;
    for (index, lane) in lanes.iter_mut().enumerate() {
        lane.write(connection)
            .await
            .map_err(|error| (Some(index), error))?;
    }
    sql::commit(connection).await.map_err(|error| (None, error))
}

/// How long to wait after so many failures in a row. One process writes, so there is nobody to
/// keep out of step with and no jitter.
fn backoff(failures: u32) -> Duration {
    (BACKOFF_MIN * 2u32.saturating_pow(failures.min(10) - 1)).min(BACKOFF_MAX)
}

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit() {
        assert_eq!(backoff(1), BACKOFF_MIN);
        assert_eq!(backoff(2), BACKOFF_MIN * 2);
        assert_eq!(backoff(1_000), BACKOFF_MAX);
    }
}
