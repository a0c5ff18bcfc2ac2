//! Who is let in when many come at once.
//!
//! After the loss of a node, or of a network, thousands of clients come within a second, each with a handshake, a
//! question who it is, and rooms to be put into. Without a bound all of that would be begun at once, everybody's
//! would take as long as the last one's, and those who are connected would be served late. So:
//!
//! - A client is *on its way in* from its handshake until its CONNECT is answered. There is a number of places
//!   for such clients; without one a handshake is answered with "come again in some seconds", before anything is
//!   asked about the client.
//! - A bounded number of CONNECTs is worked on at once. Others wait: clients that come back to a socket go
//!   first, because they have a conversation to go on with and the time for it runs, but for one turn in eight; when
//!   too many wait, those who came last without one are sent away.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::telemetry::labels::NotAdmitted;
use crate::telemetry::metrics;

/// How many are let in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Clients on their way in.
    pub opening: usize,
    /// CONNECTs that are worked on.
    pub connects: usize,
    /// CONNECTs that wait for that.
    pub waiting: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            opening: 4_096,
            connects: 256,
            waiting: 4_096,
        }
    }
}

/// Lets clients in, over all workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    opening: AtomicUsize,
    inside: AtomicUsize,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// CONNECTs that are worked on.
    busy: usize,
    /// Clients that come back to a socket, and those that do not; the oldest first.
    returning: VecDeque<oneshot::Sender<Pass>>,
    new: VecDeque<oneshot::Sender<Pass>>,
    /// Turns that were given on.
    turns: u64,
}

/// The place of a client on its way in, until it is dropped.
#[derive(Debug)]
pub struct Opening(Arc<Shared>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::Relaxed);
        metrics::ADMISSION_OPENING.down();
    }
}

impl Opening {
    /// Counts the client as long as it is there, on its way in and after that.
    #[must_use]
    pub fn inside(&self) -> Inside {
        self.0.inside.fetch_add(1, Ordering::Relaxed);
        Inside(Arc::clone(&self.0))
    }
}

/// A client that is there, until it is dropped.
#[derive(Debug)]
pub struct Inside(Arc<Shared>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Work on one CONNECT, until it is dropped.
#[derive(Debug)]
pub struct Pass(Option<Arc<Shared>>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.next(Self(Some(Arc::clone(&shared))));
        }
    }
}

impl Admission {
    /// With these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            bounds,
            opening: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            gate: Mutex::default(),
        }))
    }

    /// A place for one more client on its way in, if there is one.
    #[must_use]
    pub fn open(&self) -> Option<Opening> {
        let others = self.0.opening.fetch_add(1, Ordering::Relaxed);
        metrics::ADMISSION_OPENING.up();
        let opening = Opening(Arc::clone(&self.0));
        if others < self.0.bounds.opening {
            return Some(opening);
        }
        metrics::ADMISSION_REFUSED.of(NotAdmitted::Opening).add(1);
        None
    }

    /// How many clients are there.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.0.inside.load(Ordering::Relaxed)
    }

    /// Waits for the turn of a CONNECT. `None` when too many wait. Cancel-safe.
    pub async fn pass(&self, is_returning: bool) -> Option<Pass> {
        let turn = match self.0.queue(is_returning) {
            Ok(pass) => return Some(pass),
            Err(turn) => turn?,
        };
        let _waiting = metrics::ADMISSION_WAITING.raised();
        // Its sender is dropped when somebody goes first for whom there would be no room.
        turn.await.ok()
    }

    /// When somebody who is not let in should come again: spread, so that they do not all come together.
    #[must_use]
    pub fn again_after(&self) -> Duration {
        Duration::from_secs(rand::random_range(AGAIN_AFTER_SECONDS))
    }
}

impl Gate {
    /// Whose turn it is. Those who come back go first; but anybody can say that it does, and the others are not
    /// to wait for ever.
    fn next(&mut self) -> Option<oneshot::Sender<Pass>> {
        self.turns += 1;
        let is_for_new = self.turns.is_multiple_of(NEW_EVERY);
        let (first, second) = match is_for_new {
            true => (&mut self.new, &mut self.returning),
            false => (&mut self.returning, &mut self.new),
        };
        first.pop_front().or_else(|| second.pop_front())
    }
}

impl Shared {
    /// A turn at once, or the place of one who waits, or nothing.
    fn queue(
        self: &Arc<Self>,
        is_returning: bool,
    ) -> Result<Pass, Option<oneshot::Receiver<Pass>>> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.busy < self.bounds.connects {
            gate.busy += 1;
            return Ok(Pass(Some(Arc::clone(self))));
        }
        if gate.returning.len() + gate.new.len() >= self.bounds.waiting {
            metrics::ADMISSION_REFUSED.of(NotAdmitted::Connect).add(1);
            // Who came last without a socket makes room for one who has had one.
            if !is_returning || gate.new.pop_back().is_none() {
                return Err(None);
            }
        }
        let (sender, turn) = oneshot::channel();
        match is_returning {
            true => gate.returning.push_back(sender),
            false => gate.new.push_back(sender),
        }
        Err(Some(turn))
    }

    /// Gives a turn on.
    fn next(&self, mut pass: Pass) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(sender) = gate.next() else {
                gate.busy -= 1;
                // It must not come back here when it is dropped.
                pass.0 = None;
                return;
            };
            match sender.send(pass) {
                Ok(()) => return,
                // It gave up meanwhile.
                Err(back) => pass = back,
            }
        }
    }
}

/// Every so many turns one is for somebody new.
const NEW_EVERY: u64 = 8;
/// As long as stock clients wait between two tries, and as long as some thousand CONNECTs take.
const AGAIN_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn admission(opening: usize, connects: usize, waiting: usize) -> Admission {
        Admission::new(Bounds {
            opening,
            connects,
            waiting,
        })
    }

    #[test]
    fn a_place_is_given_back_when_the_client_is_in_or_gone() {
        let admission = admission(2, 1, 1);
        let first = admission.open().unwrap();
        let inside = first.inside();
        let _second = admission.open().unwrap();
        assert!(admission.open().is_none());
        drop(first);
        assert!(admission.open().is_some());
        assert_eq!(admission.inside(), 1);
        drop(inside);
        assert_eq!(admission.inside(), 0);
        let seconds = admission.again_after().as_secs();
        assert!(AGAIN_AFTER_SECONDS.contains(&seconds));
    }

    #[test]
    fn who_comes_back_goes_first_and_who_gave_up_is_passed_over() {
        let admission = admission(9, 1, 9);
        let pass = admission.pass(false).now_or_never().unwrap().unwrap();
        let mut new = pin!(admission.pass(false));
        let mut given_up = Box::pin(admission.pass(true));
        let mut returning = pin!(admission.pass(true));
        assert!(new.as_mut().now_or_never().is_none());
        assert!(given_up.as_mut().now_or_never().is_none());
        assert!(returning.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(pass);
        assert!(new.as_mut().now_or_never().is_none());
        let pass = returning.now_or_never().unwrap();
        drop(pass);
        assert!(new.now_or_never().unwrap().is_some());
    }

    #[test]
    fn those_who_come_back_do_not_keep_the_others_out() {
        let admission = admission(9, 1, 99);
        let mut pass = admission.pass(false).now_or_never().unwrap();
        let mut new = pin!(admission.pass(false));
        assert!(new.as_mut().now_or_never().is_none());
        let mut returning: Vec<_> = (0..20).map(|_| Box::pin(admission.pass(true))).collect();
        for turn in &mut returning {
            assert!(turn.as_mut().now_or_never().is_none());
        }
        for turn in returning.iter_mut().take(7) {
            drop(pass);
            pass = turn.as_mut().now_or_never().unwrap();
        }
        assert!(new.as_mut().now_or_never().is_none());
        drop(pass);
        assert!(new.now_or_never().unwrap().is_some());
        assert!(returning[7].as_mut().now_or_never().unwrap().is_some());
    }

    #[test]
    fn the_newest_without_a_socket_makes_room() {
        let admission = admission(9, 1, 2);
        let pass = admission.pass(false).now_or_never().unwrap();
        let mut old = pin!(admission.pass(false));
        let mut newest = pin!(admission.pass(false));
        assert!(old.as_mut().now_or_never().is_none());
        assert!(newest.as_mut().now_or_never().is_none());
        assert!(admission.pass(false).now_or_never().unwrap().is_none());
        let mut returning = pin!(admission.pass(true));
        assert!(returning.as_mut().now_or_never().is_none());
        assert!(newest.now_or_never().unwrap().is_none());
        drop(pass);
        drop(returning.now_or_never().unwrap().unwrap());
        assert!(old.now_or_never().unwrap().is_some());
    }

    proptest! {
        /// Whatever happens, there are never more turns than allowed, and none is lost.
        #[test]
        fn turns_are_neither_lost_nor_doubled(steps in prop::collection::vec((0_u8..4, any::<bool>()), 1..80)) {
            let admission = admission(1, 2, 3);
            let mut passes = Vec::new();
            let mut waiting = Vec::new();
            for (step, flag) in steps {
                match step {
                    0 | 1 => {
                        let admission = admission.clone();
                        let mut turn = Box::pin(async move { admission.pass(flag).await });
                        match turn.as_mut().now_or_never() {
                            Some(Some(pass)) => passes.push(pass),
                            Some(None) => {}
                            None => waiting.push(turn),
                        }
                    }
                    2 if !passes.is_empty() => drop(passes.remove(0)),
                    3 if !waiting.is_empty() => drop(waiting.remove(0)),
                    _ => {}
                }
                waiting.retain_mut(|turn| match turn.as_mut().now_or_never() {
                    Some(Some(pass)) => {
                        passes.push(pass);
                        false
                    }
                    Some(None) => false,
                    None => true,
                });
                prop_assert!(passes.len() <= 2);
                prop_assert!(waiting.is_empty() || passes.len() == 2);
            }
            waiting.clear();
            passes.clear();
            let all: Vec<_> = (0..2).filter_map(|_| admission.pass(false).now_or_never().flatten()).collect();
            prop_assert_eq!(all.len(), 2);
        }
    }
}
