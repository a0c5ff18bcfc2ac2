//! Pings and the one absolute deadline of a session.
//!
//! Only a pong counts as life. Deadlines are computed from when a ping was *due*, so that a late
//! timer does not stretch them, and can be judged at any moment, not only when a timer fires.

use std::time::{Duration, Instant};

/// When a session is asked and when it is given up.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The next ping is due then.
    Resting(Instant),
    /// A pong must come until then.
    Asked(Instant),
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Rest,
    /// Send a ping.
    Ping,
    /// The session is dead.
    Dead,
}

/// A timer later than this is a stalled process, which must not be held against its clients.
const STALL: Duration = Duration::from_secs(1);

impl Heartbeat {
    /// A session opened now.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            state: State::Resting(now + interval),
        }
    }

    /// What is to be done now.
    pub fn tick(&mut self, timeout: Duration, now: Instant) -> Beat {
        match self.state {
            State::Resting(due) if now >= due => {
                let asked = if now.duration_since(due) > STALL {
                    now
                } else {
                    due
                };
                self.state = State::Asked(asked + timeout);
                if now >= asked + timeout {
                    Beat::Dead
                } else {
                    Beat::Ping
                }
            }
            State::Asked(deadline) if now >= deadline => Beat::Dead,
            _ => Beat::Rest,
        }
    }

    /// A pong came; an unasked one changes nothing.
    pub fn pong(&mut self, interval: Duration, now: Instant) {
        if matches!(self.state, State::Asked(_)) {
            self.state = State::Resting(now + interval);
        }
    }

    /// When [`Heartbeat::tick`] has something to do next.
    #[must_use]
    pub const fn next(&self) -> Instant {
        match self.state {
            State::Resting(at) | State::Asked(at) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(300);
    const TIMEOUT: Duration = Duration::from_millis(200);

    #[test]
    fn a_silent_session_is_dead_at_interval_plus_timeout() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut beat = Heartbeat::new(INTERVAL, start);
        assert_eq!(beat.tick(TIMEOUT, at(299)), Beat::Rest);
        assert_eq!(
            beat.tick(TIMEOUT, at(310)),
            Beat::Ping,
            "late by a timer's grain"
        );
        assert_eq!(beat.tick(TIMEOUT, at(499)), Beat::Rest);
        assert_eq!(
            beat.tick(TIMEOUT, at(500)),
            Beat::Dead,
            "but the deadline is absolute"
        );
    }

    #[test]
    fn the_deadline_holds_even_if_no_timer_ever_fired() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(INTERVAL, start);
        assert_eq!(
            beat.tick(TIMEOUT, start + Duration::from_millis(501)),
            Beat::Dead
        );
    }

    #[test]
    fn a_pong_starts_the_next_interval_and_only_an_asked_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut beat = Heartbeat::new(INTERVAL, start);
        beat.pong(INTERVAL, at(250));
        assert_eq!(
            beat.tick(TIMEOUT, at(300)),
            Beat::Ping,
            "an unasked pong does not postpone"
        );
        beat.pong(INTERVAL, at(350));
        assert_eq!(beat.next(), at(650));
        assert_eq!(beat.tick(TIMEOUT, at(650)), Beat::Ping);
    }

    #[test]
    fn a_stalled_process_does_not_kill_its_clients() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(INTERVAL, start);
        let late = start + Duration::from_secs(30);
        assert_eq!(beat.tick(TIMEOUT, late), Beat::Ping);
        assert_eq!(beat.tick(TIMEOUT, late + TIMEOUT), Beat::Dead);
    }
}
