//! The end of a node, in phases that everybody can watch.
//!
//! | phase | what happens | over when |
//! |---|---|---|
//! | `Serving` | everything | the drain is begun |
//! | `Unready` | readiness says 404, connections are still accepted | its time is over: balancers need it to notice |
//! | `Closed` | listeners are shut | no guard of it is held, or its deadline |
//! | `Parting` | sockets are told to reconnect elsewhere, spread over the time | the same |
//! | `Flushing` | handlers, log, offsets, archive finish; acks in flight are answered | the same |
//! | `Stopped` | nothing | |
//!
//! Whoever has work that a phase must wait for holds a [`Guard`] of that phase; what is still held at
//! the deadline is logged. Guards may be taken at any time before. Hurrying ends all phases at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::telemetry::metrics;

/// Where the node stands; later phases compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It serves but says that it is going.
    Unready,
    /// It accepts no more connections.
    Closed,
    /// It sends its sockets away.
    Parting,
    /// It finishes what it has begun.
    Flushing,
    /// It is over.
    Stopped,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 6] = [
        Self::Serving,
        Self::Unready,
        Self::Closed,
        Self::Parting,
        Self::Flushing,
        Self::Stopped,
    ];

    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Unready => "unready",
            Self::Closed => "closed",
            Self::Parting => "parting",
            Self::Flushing => "flushing",
            Self::Stopped => "stopped",
        }
    }
}

/// How long each phase may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Exactly how long the node stays unready but open.
    pub unready: Duration,
    /// How long listeners may take to close.
    pub closed: Duration,
    /// How long sockets have to leave.
    pub parting: Duration,
    /// How long work in flight has.
    pub flushing: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            unready: Duration::ZERO,
            closed: Duration::from_secs(5),
            parting: Duration::from_secs(10),
            flushing: Duration::from_secs(10),
        }
    }
}

impl Deadlines {
    /// The deadline of a phase; those that do not end by themselves have none.
    #[must_use]
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Serving | Phase::Stopped => Duration::ZERO,
            Phase::Unready => self.unready,
            Phase::Closed => self.closed,
            Phase::Parting => self.parting,
            Phase::Flushing => self.flushing,
        }
    }
}

/// Guards that were still held when a phase's time was over.
pub type Left = BTreeMap<Phase, usize>;

/// Shows the phase to everybody and hands out guards. Cheap to clone.
#[derive(Clone)]
pub struct Drain {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
}

struct Shared {
    deadlines: Deadlines,
    held: [AtomicUsize; Phase::ALL.len()],
    released: Notify,
}

/// Walks through the phases; there is one for a node.
pub struct Conductor {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
}

/// A node that serves, and the one who can end it.
#[must_use]
pub fn new(deadlines: Deadlines) -> (Conductor, Drain) {
    let held = [const { AtomicUsize::new(0) }; Phase::ALL.len()];
    let shared = Arc::new(Shared {
        deadlines,
        held,
        released: Notify::new(),
    });
    let (sender, phase) = watch::channel(Phase::Serving);
    metrics::DRAIN_PHASE.set(0.0);
    (
        Conductor {
            shared: Arc::clone(&shared),
            phase: sender,
        },
        Drain { shared, phase },
    )
}

impl Drain {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        // Without its conductor nothing would ever end the node's work.
        if self.phase.has_changed().is_err() {
            Phase::Stopped
        } else {
            *self.phase.borrow()
        }
    }

    /// Resolves when the node is in this phase or a later one. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        let mut now = self.phase.clone();
        // An error says that the conductor is gone, which is as good as stopped.
        drop(now.wait_for(|now| *now >= phase).await);
    }

    /// Makes a phase wait until the guard is dropped, at most until its deadline.
    #[must_use]
    pub fn hold(&self, phase: Phase) -> Guard {
        self.shared.held[phase as usize].fetch_add(1, Ordering::AcqRel);
        Guard {
            shared: Arc::clone(&self.shared),
            phase,
        }
    }

    /// How many guards of a phase are held.
    #[must_use]
    pub fn held(&self, phase: Phase) -> usize {
        self.shared.held[phase as usize].load(Ordering::Acquire)
    }

    /// How long each phase may last.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.shared.deadlines
    }
}

/// Work that a phase waits for.
pub struct Guard {
    shared: Arc<Shared>,
    phase: Phase,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.shared.held[self.phase as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.released.notify_waiters();
        }
    }
}

impl Conductor {
    /// Walks through all phases and returns what was left in each. When `hurry` resolves, the drain is
    /// over at once.
    pub async fn run(self, hurry: impl Future<Output = ()>) -> Left {
        let mut left = Left::new();
        let mut hurry = pin!(hurry);
        for phase in [
            Phase::Unready,
            Phase::Closed,
            Phase::Parting,
            Phase::Flushing,
        ] {
            let hurried = self.pass(phase, hurry.as_mut()).await;
            // The time of Unready is a wait by itself; nobody is late.
            let count = self.shared.held[phase as usize].load(Ordering::Acquire);
            if count > 0 && phase != Phase::Unready {
                warn!(
                    phase = phase.name(),
                    left = count,
                    "phase ended with work left"
                );
                left.insert(phase, count);
            }
            if hurried {
                warn!(phase = phase.name(), "drain cut short");
                break;
            }
        }
        self.enter(Phase::Stopped);
        left
    }

    /// One phase; true when it was cut short.
    async fn pass(&self, phase: Phase, hurry: Pin<&mut impl Future<Output = ()>>) -> bool {
        self.enter(phase);
        let began = Instant::now();
        let deadline = self.shared.deadlines.of(phase);
        let over = async {
            if phase == Phase::Unready {
                tokio::time::sleep(deadline).await;
            } else {
                // What was left is counted afterwards.
                drop(timeout(deadline, self.shared.all_released(phase)).await);
            }
        };
        let hurried = tokio::select! {
            biased;
            () = hurry => true,
            () = over => false,
        };
        info!(phase = phase.name(), took = ?began.elapsed(), "drain phase over");
        hurried
    }

    fn enter(&self, phase: Phase) {
        info!(phase = phase.name(), deadline = ?self.shared.deadlines.of(phase), "drain phase");
        metrics::DRAIN_PHASE.set(f64::from(phase as u8));
        self.phase.send_replace(phase);
    }
}

impl Shared {
    async fn all_released(&self, phase: Phase) {
        loop {
            let mut released = pin!(self.released.notified());
            released.as_mut().enable();
            if self.held[phase as usize].load(Ordering::Acquire) == 0 {
                return;
            }
            released.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;
    use tokio::time::sleep;

    use super::*;
    use crate::lifecycle::{TaskKind, Tasks};

    const SECOND: Duration = Duration::from_secs(1);
    const DEADLINES: Deadlines = Deadlines {
        unready: Duration::from_secs(3),
        closed: Duration::from_secs(5),
        parting: Duration::from_secs(10),
        flushing: Duration::from_secs(20),
    };

    #[tokio::test(start_paused = true)]
    async fn an_idle_node_waits_only_for_the_balancer() {
        let (conductor, drain) = new(DEADLINES);
        assert_eq!(drain.phase(), Phase::Serving);
        let began = Instant::now();
        assert!(conductor.run(pending()).await.is_empty());
        assert_eq!(began.elapsed(), DEADLINES.unready);
        assert_eq!(drain.phase(), Phase::Stopped);
        drain.reached(Phase::Closed).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_waits_for_its_own_guards_and_no_longer() {
        let (conductor, drain) = new(DEADLINES);
        let tasks = Tasks::new();
        let began = Instant::now();
        for (phase, work) in [
            (Phase::Closed, 1),
            (Phase::Parting, 4),
            (Phase::Flushing, 2),
        ] {
            let (drain, guard) = (drain.clone(), drain.hold(phase));
            tasks.spawn(TaskKind::Other, async move {
                drain.reached(phase).await;
                sleep(SECOND * work).await;
                drop(guard);
            });
        }
        assert!(conductor.run(pending()).await.is_empty());
        assert_eq!(began.elapsed(), SECOND * (3 + 1 + 4 + 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_a_phase_and_what_was_left_is_counted() {
        let (conductor, drain) = new(DEADLINES);
        let guards = [drain.hold(Phase::Parting), drain.hold(Phase::Parting)];
        let began = Instant::now();
        let left = conductor.run(pending()).await;
        assert_eq!(left, Left::from([(Phase::Parting, 2)]));
        assert_eq!(began.elapsed(), DEADLINES.unready + DEADLINES.parting);
        drop(guards);
        assert_eq!(drain.held(Phase::Parting), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn hurrying_ends_the_drain_at_once() {
        let (conductor, drain) = new(DEADLINES);
        let _guard = drain.hold(Phase::Parting);
        let began = Instant::now();
        let left = conductor.run(sleep(SECOND * 5)).await;
        assert_eq!(began.elapsed(), SECOND * 5);
        assert_eq!(left, Left::from([(Phase::Parting, 1)]));
        assert_eq!(drain.phase(), Phase::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_see_every_phase_in_order() {
        let (conductor, drain) = new(DEADLINES);
        let watcher = async {
            for phase in Phase::ALL {
                drain.reached(phase).await;
            }
            assert!(drain.phase() == Phase::Stopped);
        };
        tokio::join!(conductor.run(pending()), watcher);
        let (conductor, _) = new(DEADLINES);
        assert!(conductor.run(ready(())).await.is_empty());
    }

    #[tokio::test]
    async fn a_lost_conductor_counts_as_stopped() {
        let (conductor, drain) = new(DEADLINES);
        assert!(drain.reached(Phase::Unready).now_or_never().is_none());
        drop(conductor);
        drain.reached(Phase::Stopped).await;
        assert_eq!(drain.phase(), Phase::Stopped);
    }
}
