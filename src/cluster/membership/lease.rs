//! When this node's own lease is surely over: pure, time comes in.
//!
//! The server counts a lease from the moment it handles the renewal, which is after the moment the
//! renewal was sent. This node counts from the sending and leaves a margin for clocks of different
//! speed, so it knows itself without a lease before anybody else does. (A machine that was suspended may
//! not have counted; whatever is done by duty is therefore also safe when two do it.)

use std::time::{Duration, Instant};

/// How long a lease lasts and how often it is renewed.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A lease that was not renewed for so long is over.
    pub ttl: Duration,
    /// Between two renewals, about.
    pub renew: Duration,
    /// Between two looks at who lives.
    pub poll: Duration,
}

/// A lease ends well before Kafka notices that a member is gone (6 s and a rebalance), or standing in for a
/// dead node would gain nothing; and it outlasts a pause of the node, or of the first shard, of 1.8 s at any
/// time: a renewal that gets no answer is made again 0.85 s before the end.
impl Default for Times {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3),
            renew: Duration::from_secs(1),
            poll: Duration::from_millis(500),
        }
    }
}

impl Times {
    /// How long a renewal is good for, from when it was sent.
    fn good_for(self) -> Duration {
        self.ttl - self.ttl / 20
    }
}

/// This node's lease.
#[derive(Debug)]
pub(super) struct Lease {
    times: Times,
    until: Option<Instant>,
    /// Whether somebody was told that it is held.
    was_held: bool,
}

/// What became of the lease since it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// It is held now.
    Had,
    /// It is over.
    Lost,
}

impl Lease {
    pub(super) const fn new(times: Times) -> Self {
        Self {
            times,
            until: None,
            was_held: false,
        }
    }

    /// The server took the renewal that was sent then.
    pub(super) fn renewed(&mut self, sent: Instant) {
        let until = sent + self.times.good_for();
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// Another process has it, or it was given back.
    pub(super) const fn gone(&mut self) {
        self.until = None;
    }

    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What became of it since the last call.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let is_held = self.is_held(now);
        let was_held = std::mem::replace(&mut self.was_held, is_held);
        match (was_held, is_held) {
            (false, true) => Turn::Had,
            (true, false) => Turn::Lost,
            _ => Turn::None,
        }
    }

    /// How long to wait before the next renewal; `random` from 0 to 1. After a failure it is tried
    /// again soon.
    pub(super) fn pause(&self, has_worked: bool, random: f64) -> Duration {
        let pause = if has_worked {
            self.times.renew
        } else {
            self.times.renew / 4
        };
        pause.mul_f64(0.8 + 0.2 * random)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> Times {
        Times::default()
    }

    #[test]
    fn a_node_gives_its_lease_up_before_the_server_does() {
        let (mut lease, start) = (Lease::new(times()), Instant::now());
        assert!(!lease.is_held(start));
        lease.renewed(start);
        assert_eq!(lease.turn(start), Turn::Had);
        assert!(lease.is_held(start + Duration::from_millis(2_849)));
        let end = start + Duration::from_millis(2_850);
        assert!(!lease.is_held(end));
        assert_eq!((lease.turn(end), lease.turn(end)), (Turn::Lost, Turn::None));
        lease.renewed(end);
        assert_eq!(lease.turn(end), Turn::Had);
        lease.gone();
        assert_eq!(lease.turn(end), Turn::Lost);
    }

    #[test]
    fn there_is_time_for_several_renewals() {
        let lease = Lease::new(times());
        // Sent a second after the one before, not answered within a second, sent again.
        assert!(lease.pause(true, 1.0) * 2 + lease.pause(false, 1.0) < times().good_for());
        assert!(lease.pause(false, 1.0) < lease.pause(true, 0.0));
    }

    proptest! {
        /// Whatever is sent when, and whenever it arrives: while the node believes in its lease the
        /// server does, too.
        #[test]
        fn who_believes_to_have_a_lease_has_one(
            renewals in prop::collection::vec((0u64..3_000, 0u64..4_000, any::<bool>()), 1..40),
            look in 0u64..10_000,
        ) {
            let (mut lease, start) = (Lease::new(times()), Instant::now());
            let (mut sent, mut servers) = (0, None);
            for (pause, way, answers) in renewals {
                sent += pause;
                // The server counts from its arrival; the answer may get lost.
                servers = servers.max(Some(sent + way + 3_000));
                if answers {
                    lease.renewed(start + Duration::from_millis(sent));
                }
            }
            let now = sent + look;
            if lease.is_held(start + Duration::from_millis(now)) {
                prop_assert!(servers.is_some_and(|until| now < until));
            }
        }
    }
}
