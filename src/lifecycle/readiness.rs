//! Whether the balancer should send clients here.
//!
//! The node is ready when every [`Latch`] taken at start has been released and nothing of its own is
//! broken. A draining node answers 404 (it is fine, but going), a broken one 503 with its reasons.
//!
//! A backend that all nodes share never makes a node unready: all of them would leave the balancer at
//! the same moment, and clients that could still be served would be served by nobody. Such a trouble is
//! reported as [`Scope::Shared`] and only shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::drain::{Drain, Phase};

/// Whose trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This node's alone: another node can serve instead.
    Node,
    /// Every node's: it is shown, and the node stays ready.
    Shared,
}

/// What the balancer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Send clients.
    Ready,
    /// Send clients elsewhere, the node is going.
    Draining,
    /// Send clients elsewhere, something is missing.
    Broken,
}

/// One trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is in trouble.
    pub name: &'static str,
    /// Whose trouble it is.
    pub scope: Scope,
    /// What the trouble is.
    pub text: String,
}

/// The answer with its reasons; serialises as the body of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What the balancer is told.
    pub state: State,
    /// All troubles, also those that do not count.
    pub reasons: Vec<Reason>,
}

impl Status {
    /// The HTTP status of `/readyz`.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self.state {
            State::Ready => 200,
            State::Draining => 404,
            State::Broken => 503,
        }
    }
}

/// Knows whether the node is ready. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    drain: Drain,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    latched: BTreeSet<&'static str>,
    troubles: BTreeMap<&'static str, (Scope, String)>,
}

impl Readiness {
    /// Ready unless the node drains; take latches before it is served.
    #[must_use]
    pub fn new(drain: Drain) -> Self {
        Self {
            drain,
            known: Arc::default(),
        }
    }

    /// Keeps the node from being ready until the latch is released.
    ///
    /// A latch that is dropped unreleased stays: what should have been done before serving never was.
    #[must_use]
    pub fn latch(&self, name: &'static str) -> Latch {
        self.lock().latched.insert(name);
        Latch {
            name,
            known: Arc::clone(&self.known),
        }
    }

    /// Notes a trouble; a later one of the same name replaces it.
    pub fn degrade(&self, scope: Scope, name: &'static str, text: impl Into<String>) {
        self.lock().troubles.insert(name, (scope, text.into()));
    }

    /// Takes a trouble back.
    pub fn recover(&self, name: &'static str) {
        self.lock().troubles.remove(name);
    }

    /// The answer now.
    #[must_use]
    pub fn status(&self) -> Status {
        let known = self.lock();
        let starting = known.latched.iter().map(|name| Reason {
            name,
            scope: Scope::Node,
            text: "not started yet".to_owned(),
        });
        let troubles = known.troubles.iter().map(|(name, (scope, text))| Reason {
            name,
            scope: *scope,
            text: text.clone(),
        });
        let mut reasons: Vec<Reason> = starting.chain(troubles).collect();
        let broken = reasons.iter().any(|reason| reason.scope == Scope::Node);
        let phase = self.drain.phase();
        let state = match (phase, broken) {
            (Phase::Serving, false) => State::Ready,
            (Phase::Serving, true) => State::Broken,
            _ => State::Draining,
        };
        if state == State::Draining {
            let text = phase.name().to_owned();
            reasons.push(Reason {
                name: "drain",
                scope: Scope::Node,
                text,
            });
        }
        Status { state, reasons }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// Keeps the node from being ready.
pub struct Latch {
    name: &'static str,
    known: Arc<Mutex<Known>>,
}

impl Latch {
    /// What the latch stood for is done.
    pub fn release(self) {
        lock(&self.known).latched.remove(self.name);
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::drain;
    use super::*;

    fn serving() -> (drain::Conductor, Readiness) {
        let (conductor, drain) = drain::new(drain::Deadlines::default());
        (conductor, Readiness::new(drain))
    }

    #[test]
    fn a_node_is_ready_when_the_last_latch_is_released() {
        let (_conductor, readiness) = serving();
        let (log, archive) = (readiness.latch("eventlog"), readiness.latch("archive"));
        assert_eq!(readiness.status().code(), 503);
        log.release();
        let status = readiness.status();
        assert_eq!(status.code(), 503);
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"state":"broken","reasons":[{"name":"archive","scope":"node","text":"not started yet"}]}"#
        );
        archive.release();
        assert_eq!(
            readiness.status(),
            Status {
                state: State::Ready,
                reasons: vec![]
            }
        );
    }

    #[test]
    fn a_latch_that_is_lost_keeps_the_node_unready() {
        let (_conductor, readiness) = serving();
        drop(readiness.latch("eventlog"));
        assert_eq!(readiness.status().code(), 503);
    }

    #[test]
    fn own_troubles_break_the_node_until_it_recovers() {
        let (_conductor, readiness) = serving();
        readiness.degrade(Scope::Node, "disk", "no space left");
        readiness.degrade(Scope::Node, "disk", "still none");
        let status = readiness.status();
        assert_eq!(
            (status.code(), status.reasons[0].text.as_str()),
            (503, "still none")
        );
        readiness.recover("disk");
        assert_eq!(readiness.status().code(), 200);
    }

    #[test]
    fn shared_backends_alone_never_make_a_node_unready() {
        let (_conductor, readiness) = serving();
        readiness.degrade(Scope::Shared, "redis", "does not answer");
        let status = readiness.status();
        assert_eq!((status.code(), status.reasons[0].name), (200, "redis"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_node_answers_404_also_when_it_is_broken() {
        let (conductor, readiness) = serving();
        readiness.degrade(Scope::Node, "disk", "no space left");
        conductor.run(std::future::pending()).await;
        let status = readiness.status();
        assert_eq!(status.code(), 404);
        assert_eq!(status.reasons.last().unwrap().text, "stopped");
    }
}
