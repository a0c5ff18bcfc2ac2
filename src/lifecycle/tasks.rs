//! The one place that spawns.
//!
//! A task is registered under its [`TaskKind`] until it ends. A panic ends only its task: it is caught,
//! counted and logged, and treated as the kind's error. When the kind says so, the first failure is told
//! to whoever awaits [`Tasks::failed`], which is what makes the node drain.
//!
//! Not here: telling tasks to stop. Those that are waited for watch the [`Drain`](super::Drain).

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tracing::{error, warn};

use super::kinds::{OnCancel, OnError, TaskKind};
use crate::telemetry::metrics;

/// How a task ended: nothing to say, or a result.
pub trait Finish {
    /// The error, as one line.
    fn error(self) -> Option<String>;
}

impl Finish for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: std::error::Error> Finish for Result<(), E> {
    fn error(self) -> Option<String> {
        let error = self.err()?;
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Some(text)
    }
}

/// The failure that the node cannot live with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of what failed: a kind of task, or a worker.
    pub name: String,
    /// The error, or the panic's message.
    pub error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.name, self.error)
    }
}

/// Tasks that did not end in time, by kind; they were aborted.
pub type Left = BTreeMap<TaskKind, usize>;

/// Spawns tasks and waits for them. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    registry: Arc<Registry>,
}

struct Registry {
    open: Mutex<Open>,
    empty: Notify,
    failed: watch::Sender<Option<Failure>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    tasks: HashMap<u64, (TaskKind, Option<AbortHandle>)>,
    /// Set when the node stops: what is of a kind to abort is aborted as soon as it is spawned.
    closing: bool,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// A registry without tasks.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry {
            open: Mutex::default(),
            empty: Notify::new(),
            failed: watch::Sender::new(None),
        };
        Self {
            registry: Arc::new(registry),
        }
    }

    /// Runs a future on the current runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where tasks are spawned"
    )]
    pub fn spawn<F>(&self, kind: TaskKind, future: F) -> Task
    where
        F: Future<Output: Finish> + Send + 'static,
    {
        let entry = self.enter(kind);
        let id = entry.id;
        self.started(id, kind, tokio::spawn(track(entry, future)).abort_handle())
    }

    /// Runs a future that stays on this thread, on the worker's runtime.
    pub fn spawn_local<F>(&self, kind: TaskKind, future: F) -> Task
    where
        F: Future<Output: Finish> + 'static,
    {
        let entry = self.enter(kind);
        let id = entry.id;
        self.started(
            id,
            kind,
            tokio::task::spawn_local(track(entry, future)).abort_handle(),
        )
    }

    /// How many tasks run.
    #[must_use]
    pub fn count(&self) -> usize {
        self.registry.lock().tasks.len()
    }

    /// How many tasks of a kind run.
    #[must_use]
    pub fn count_of(&self, kind: TaskKind) -> usize {
        self.registry
            .lock()
            .tasks
            .values()
            .filter(|(of, _)| *of == kind)
            .count()
    }

    /// Resolves when a task failed that the node cannot do without. Cancel-safe; the first failure
    /// stays and is told to every caller.
    pub async fn failed(&self) -> Failure {
        let mut failed = self.registry.failed.subscribe();
        let failure = failed.wait_for(Option::is_some).await;
        let failure = failure.expect("the sender lives in the registry that `self` holds");
        failure.clone().expect("it was waited for")
    }

    /// Reports a failure from outside a task that the node cannot do without.
    pub fn fail(&self, failure: Failure) {
        self.registry.failed.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }

    /// Ends all tasks: aborts those of a kind to abort, waits for the others, and aborts what is left
    /// at the deadline. Returns what was left.
    pub async fn finish(&self, deadline: Duration) -> Left {
        self.registry
            .abort(|kind| kind.on_cancel() == OnCancel::Abort);
        if tokio::time::timeout(deadline, self.registry.emptied())
            .await
            .is_ok()
        {
            return Left::new();
        }
        let mut left = Left::new();
        for (kind, _) in self.registry.lock().tasks.values() {
            *left.entry(*kind).or_default() += 1;
        }
        for (kind, count) in &left {
            warn!(
                task = kind.name(),
                count,
                ?deadline,
                "tasks left at their deadline, aborted"
            );
        }
        self.registry.abort(|_| true);
        left
    }

    fn enter(&self, kind: TaskKind) -> Entry {
        let mut open = self.registry.lock();
        let id = open.next;
        open.next += 1;
        open.tasks.insert(id, (kind, None));
        Entry {
            id,
            kind,
            registry: Arc::clone(&self.registry),
        }
    }

    /// Adds the handle of a task that was entered before, if it has not ended already.
    ///
    /// It is spawned between the two without the lock: a runtime that is shutting down drops the
    /// future, and with it its entry, within the call.
    fn started(&self, id: u64, kind: TaskKind, handle: AbortHandle) -> Task {
        let mut open = self.registry.lock();
        let abort = open.closing && kind.on_cancel() == OnCancel::Abort;
        if let Some((_, slot)) = open.tasks.get_mut(&id) {
            *slot = Some(handle.clone());
        }
        drop(open);
        if abort {
            handle.abort();
        }
        Task(handle)
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abort(&self, which: impl Fn(TaskKind) -> bool) {
        let mut open = self.lock();
        open.closing = true;
        let chosen = open.tasks.values().filter(|(kind, _)| which(*kind));
        let handles: Vec<_> = chosen.filter_map(|(_, handle)| handle.clone()).collect();
        drop(open);
        for handle in handles {
            handle.abort();
        }
    }

    async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.empty.notified());
            emptied.as_mut().enable();
            if self.lock().tasks.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

/// A running task. Dropping this lets it run.
#[derive(Debug, Clone)]
pub struct Task(AbortHandle);

impl Task {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// The task's place in the registry, given up when the task ends in whatever way.
struct Entry {
    id: u64,
    kind: TaskKind,
    registry: Arc<Registry>,
}

impl Entry {
    fn ended<T: Finish>(self, result: Result<T, Box<dyn Any + Send>>) {
        let error = match result {
            Ok(finish) => finish.error(),
            Err(panic) => {
                metrics::TASKS_PANICKED.of([self.kind.name()]).add(1);
                Some(panic_text(&*panic))
            }
        };
        let Some(error) = error else { return };
        let task = self.kind.name();
        match self.kind.on_error() {
            OnError::Log => warn!(task, %error, "task failed"),
            OnError::ShutDown => {
                error!(task, %error, "task failed that the node cannot do without");
                let tasks = Tasks {
                    registry: Arc::clone(&self.registry),
                };
                tasks.fail(Failure {
                    name: task.to_owned(),
                    error,
                });
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.tasks.remove(&self.id);
        if open.tasks.is_empty() {
            self.registry.empty.notify_waiters();
        }
    }
}

/// Combinators and not an async block, because a block keeps a captured future twice.
fn track<F>(entry: Entry, future: F) -> impl Future<Output = ()>
where
    F: Future<Output: Finish>,
{
    AssertUnwindSafe(future)
        .catch_unwind()
        .map(|result| entry.ended(result))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("(no message)"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::time::sleep;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn tasks_to_wait_for_are_waited_for_and_others_aborted() {
        let tasks = Tasks::new();
        let waited = tasks.spawn(TaskKind::Pump, sleep(MINUTE));
        let aborted = tasks.spawn(TaskKind::Sweeper, sleep(MINUTE * 60));
        assert_eq!((tasks.count(), tasks.count_of(TaskKind::Pump)), (2, 1));
        assert!(tasks.finish(MINUTE * 2).await.is_empty());
        assert!(waited.is_finished() && aborted.is_finished());
        assert_eq!(tasks.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_named_and_aborted() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Handler, std::future::pending::<()>());
        tasks.spawn(TaskKind::Handler, std::future::pending::<()>());
        let left = tasks.finish(MINUTE).await;
        assert_eq!(left, Left::from([(TaskKind::Handler, 2)]));
        assert!(tasks.finish(MINUTE).await.is_empty());
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Handler, async { assert_eq!(1, 2, "on purpose") });
        let other = tasks.spawn(TaskKind::Handler, async {});
        assert!(tasks.finish(MINUTE).await.is_empty());
        assert!(other.is_finished());
        assert!(
            tasks.failed().now_or_never().is_none(),
            "a handler's panic is not the node's end"
        );
    }

    #[tokio::test]
    async fn the_first_failure_of_an_essential_task_is_told() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Pump, async {
            Err(io::Error::other("disk is full"))
        });
        let failure = tasks.failed().await;
        assert_eq!(failure.to_string(), "pump failed: disk is full");
        tasks.spawn(TaskKind::Fanout, async { assert_eq!(1, 2, "later") });
        tasks.finish(MINUTE).await;
        assert_eq!(tasks.failed().await, failure);
    }

    #[tokio::test]
    async fn local_tasks_are_tracked_like_others() {
        let tasks = Tasks::new();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let shared = std::rc::Rc::new(1);
                tasks.spawn_local(TaskKind::Session, async move { drop(shared) });
                assert_eq!(tasks.count(), 1);
                assert!(tasks.finish(MINUTE).await.is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn tracking_does_not_double_a_future() {
        let future = async {
            let bytes = [0u8; 1024];
            tokio::task::yield_now().await;
            assert_eq!(bytes.len(), 1024);
        };
        let bare = size_of_val(&future);
        let entry = Tasks::new().enter(TaskKind::Other);
        assert!(size_of_val(&track(entry, future)) < bare + 64);
    }

    #[test]
    fn a_runtime_that_is_gone_does_not_block_the_spawner() {
        let tasks = Tasks::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        tasks.spawn(TaskKind::Other, async {});
        assert_eq!(tasks.count(), 0);
    }
}
