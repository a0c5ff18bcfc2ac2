//! How long an HTTP connection has been waiting, and for what.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a connection is doing. Shared by its stream, which sees bytes, and its service, which sees
/// requests.
#[derive(Debug)]
pub struct Activity(Mutex<(Phase, Instant)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's head is coming; also from the connection's start.
    Head,
    /// A request is being answered.
    Serving,
    /// Nothing of the next request has come yet.
    Idle,
}

/// Times of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's head.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Activity {
    /// A connection that was opened now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new((Phase::Head, now)))
    }

    /// Bytes came.
    pub fn read(&self, now: Instant) {
        self.step(Phase::Head, now, |phase| phase == Phase::Idle);
    }

    /// A request's head is complete.
    pub fn asked(&self, now: Instant) {
        self.step(Phase::Serving, now, |_| true);
    }

    /// A request was answered.
    pub fn answered(&self, now: Instant) {
        self.step(Phase::Idle, now, |_| true);
    }

    /// When patience ends, as long as nothing changes; `None` while a request is being answered.
    #[must_use]
    pub fn deadline(&self, patience: &Patience) -> Option<Instant> {
        let (phase, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match phase {
            Phase::Head => Some(since + patience.head),
            Phase::Serving => None,
            Phase::Idle => Some(since + patience.idle),
        }
    }

    /// True between two requests.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 == Phase::Idle
    }

    fn step(&self, to: Phase, now: Instant, may: impl FnOnce(Phase) -> bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if may(state.0) {
            *state = (to, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_its_time_and_a_rest_between_requests_another() {
        let patience = Patience {
            head: Duration::from_secs(1),
            idle: Duration::from_secs(60),
        };
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let activity = Activity::new(start);
        assert_eq!(activity.deadline(&patience), Some(at(1)));
        activity.read(at(5));
        assert_eq!(
            activity.deadline(&patience),
            Some(at(1)),
            "bytes do not stretch a head"
        );
        activity.asked(at(6));
        assert_eq!(activity.deadline(&patience), None);
        activity.answered(at(10));
        assert_eq!(activity.deadline(&patience), Some(at(70)));
        activity.read(at(20));
        assert_eq!(activity.deadline(&patience), Some(at(21)));
    }
}
