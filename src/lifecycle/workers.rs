//! The worker threads: each owns its sockets and shares nothing with the others.
//!
//! A worker is a named thread with a local runtime, so that what it holds
//! needs no locks and tasks need not be `Send`. It runs one future until that returns; what it spawned
//! and did not wait for ends with it. Not here: the small multi-thread runtime of the services.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tracing::error;

use super::tasks::{Failure, panic_text};
use crate::telemetry::metrics;

/// Workers could not be started or did not end well.
#[derive(Debug, Error)]
pub enum WorkersError {
    /// The system refused a thread or a runtime.
    #[error("worker {name} cannot be started")]
    Start {
        /// The worker's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Some still ran at the deadline; their threads are left behind.
    #[error("{left} of {of} workers still ran after {deadline:?}")]
    Left {
        /// How many.
        left: usize,
        /// Of how many.
        of: usize,
        /// After how long.
        deadline: Duration,
    },
}

/// Running worker threads.
pub struct Workers {
    ended: watch::Receiver<Ended>,
    count: usize,
}

#[derive(Debug, Clone, Default)]
struct Ended {
    count: usize,
    failure: Option<Failure>,
}

impl Workers {
    /// As many as there are cores this process may use.
    #[must_use]
    pub fn available() -> usize {
        thread::available_parallelism().map_or(1, NonZeroUsize::get)
    }

    /// Starts `count` workers; `init(index)` makes, on the worker's own thread, the future it runs.
    ///
    /// # Errors
    /// When the system refuses a thread; those started before run on and end with the process.
    pub fn start<I, F>(count: usize, name: &str, init: I) -> Result<Self, WorkersError>
    where
        I: Fn(usize) -> F + Send + Clone + 'static,
        F: Future<Output = ()> + 'static,
    {
        let sender = watch::Sender::new(Ended::default());
        let ended = sender.subscribe();
        for index in 0..count {
            let name = format!("{name}-{index}");
            let failed = |source| WorkersError::Start {
                name: name.clone(),
                source,
            };
            let worker = Worker {
                name: name.clone(),
                ended: sender.clone(),
            };
            let init = init.clone();
            let run = move || {
                worker.run(|| {
                    // A local runtime cannot be made on another thread. Should the system refuse
                    // its event queue, the worker counts as failed and the node drains.
                    let runtime = Builder::new_current_thread()
                        .enable_all()
                        .build_local(LocalOptions::default())
                        .expect("the system gives a worker its event queue");
                    runtime.block_on(init(index));
                });
            };
            // Detached: the watch tells when it ended, and a hung one must not hang the process.
            drop(
                thread::Builder::new()
                    .name(name.clone())
                    .spawn(run)
                    .map_err(failed)?,
            );
        }
        Ok(Self { ended, count })
    }

    /// How many were started.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Resolves when a worker panicked. Never otherwise.
    pub async fn failed(&self) -> Failure {
        let mut ended = self.ended.clone();
        if let Ok(ended) = ended.wait_for(|ended| ended.failure.is_some()).await {
            return ended.failure.clone().expect("it was waited for");
        }
        std::future::pending().await
    }

    /// Waits until all workers have returned.
    ///
    /// # Errors
    /// When some still run at the deadline.
    pub async fn join(self, deadline: Duration) -> Result<(), WorkersError> {
        let mut ended = self.ended;
        let all = ended.wait_for(|ended| ended.count == self.count);
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return Ok(());
        }
        let left = self.count - ended.borrow().count;
        Err(WorkersError::Left {
            left,
            of: self.count,
            deadline,
        })
    }
}

struct Worker {
    name: String,
    ended: watch::Sender<Ended>,
}

impl Worker {
    fn run(self, body: impl FnOnce()) {
        let result = catch_unwind(AssertUnwindSafe(body));
        let failure = result.err().map(|panic| {
            let failure = Failure {
                name: self.name,
                error: panic_text(&*panic),
            };
            metrics::TASKS_PANICKED.of(["worker"]).add(1);
            error!(worker = %failure.name, error = %failure.error, "worker ended");
            failure
        });
        self.ended.send_modify(|ended| {
            ended.count += 1;
            ended.failure = ended.failure.take().or(failure);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::lifecycle::{TaskKind, Tasks};

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn each_worker_runs_its_own_future_on_its_own_thread() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = Tasks::new();
        let init = {
            let (seen, tasks) = (Arc::clone(&seen), tasks.clone());
            move |index| {
                let (seen, tasks) = (Arc::clone(&seen), tasks.clone());
                async move {
                    let local = Rc::new(index);
                    let (done, finished) = tokio::sync::oneshot::channel();
                    tasks.spawn_local(TaskKind::Other, async move {
                        let name = thread::current().name().unwrap_or_default().to_owned();
                        seen.lock().unwrap().push((*local, name));
                        done.send(()).unwrap();
                    });
                    finished.await.unwrap();
                }
            }
        };
        let workers = Workers::start(3, "test", init).unwrap();
        assert_eq!(workers.count(), 3);
        workers.join(MINUTE).await.unwrap();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort();
        let expected = [0, 1, 2].map(|n| (n, format!("test-{n}")));
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_told_and_the_others_go_on() {
        let (stop, stopped) = watch::channel(false);
        let workers = Workers::start(2, "test", move |index| {
            let mut stopped = stopped.clone();
            async move {
                assert_ne!(index, 1, "on purpose");
                drop(stopped.wait_for(|stop| *stop).await);
            }
        })
        .unwrap();
        let failure = workers.failed().await;
        assert_eq!(failure.name, "test-1");
        assert!(failure.error.contains("on purpose"), "{failure}");
        stop.send(true).unwrap();
        workers.join(MINUTE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn join_gives_up_at_its_deadline() {
        let (_stop, stopped) = watch::channel(false);
        let workers = Workers::start(1, "test", move |_| {
            let mut stopped = stopped.clone();
            async move {
                drop(stopped.wait_for(|stop| *stop).await);
            }
        })
        .unwrap();
        let error = workers.join(MINUTE).await.unwrap_err();
        assert_eq!(error.to_string(), "1 of 1 workers still ran after 60s");
    }
}
