//! The generic cell rate algorithm: pure, one number for each key.
//!
//! The number is the *theoretical arrival time*: when all tokens are back. Each token moves it on by
//! `interval = per / count`; a token is had while it is not further ahead than `per`. So `count`
//! are had at once, and over any time `t` at most `count + t / interval`: the whole definition, without
//! windows at whose edges more would pass.
//!
//! Times are microseconds. A clock that was set back does not lock anybody out: what is stored is never
//! further ahead than `per`.

use std::time::Duration;

use super::{Decision, Rule};
use crate::types::Timestamp;

/// When all tokens are back, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Full(i64);

impl Full {
    /// Nothing was ever taken.
    pub(super) const ALWAYS: Self = Self(i64::MIN);

    /// Whether all tokens are back, so that nothing need be remembered.
    pub(super) fn is_by(self, now: Timestamp) -> bool {
        self.0 <= micros(now)
    }

    /// What there is to say without taking a token.
    pub(super) fn look(self, rule: Rule, now: Timestamp) -> Decision {
        let (now, interval) = (micros(now), interval(rule));
        let capacity = interval.saturating_mul(i64::from(rule.count));
        let ahead = self.0.clamp(now, now.saturating_add(capacity)) - now;
        let over = (ahead + interval).saturating_sub(capacity);
        said(rule, ahead, over.max(0))
    }

    /// Takes one token: what to remember from now on, and what to say.
    pub(super) fn take(self, rule: Rule, now: Timestamp) -> (Self, Decision) {
        let (now, interval) = (micros(now), interval(rule));
        let capacity = interval.saturating_mul(i64::from(rule.count));
        // Both bounds are rules: what is past is full, what is too far ahead is a clock set back.
        let from = self.0.clamp(now, now.saturating_add(capacity));
        let to = from.saturating_add(interval);
        let over = to.saturating_sub(now).saturating_sub(capacity);
        if over > 0 {
            return (Self(from), said(rule, from.saturating_sub(now), over));
        }
        (Self(to), said(rule, to.saturating_sub(now), 0))
    }
}

/// What to say when the tokens are back in `ahead` and the next one comes in `over`.
pub(super) fn said(rule: Rule, ahead: i64, over: i64) -> Decision {
    let interval = interval(rule);
    let left = interval.saturating_mul(i64::from(rule.count)) - ahead;
    Decision {
        limit: rule.count,
        remaining: u32::try_from(left / interval).unwrap_or(0),
        reset: duration(ahead),
        // In whole milliseconds, as clients are told and clocks count: who waits that long passes.
        retry_after: (over > 0).then(|| {
            let over = u64::try_from(over).unwrap_or(0);
            Duration::from_millis(over.div_ceil(1_000))
        }),
    }
}

/// Time for which one token is gone. Rounded up, so that never more than `count` pass in `per`.
pub(super) fn interval(rule: Rule) -> i64 {
    let per = i64::try_from(rule.per.as_micros()).unwrap_or(i64::MAX / 4);
    let count = i64::from(rule.count.max(1));
    (per / count + i64::from(per % count != 0)).max(1)
}

const fn micros(now: Timestamp) -> i64 {
    now.as_millis().saturating_mul(1_000)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn rule(count: u32, ms: u64) -> Rule {
        Rule {
            count,
            per: Duration::from_millis(ms),
        }
    }

    fn at(ms: i64) -> Timestamp {
        // Any time will do; not zero, so that what is before it exists.
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_interval() {
        let rule = rule(30, 60_000);
        let mut full = Full::ALWAYS;
        for n in 0..30 {
            let (next, decision) = full.take(rule, at(0));
            assert_eq!(decision.retry_after, None);
            assert_eq!((decision.limit, decision.remaining), (30, 29 - n));
            assert_eq!(
                decision.reset,
                Duration::from_secs(2 * (u64::from(n) + 1)),
                "{n}"
            );
            full = next;
        }
        let (same, refused) = full.take(rule, at(500));
        assert_eq!((same, refused.remaining), (full, 0));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(1_500)));
        let (full, decision) = full.take(rule, at(2_000));
        assert_eq!((decision.retry_after, decision.remaining), (None, 0));
        assert!(!full.is_by(at(61_999)) && full.is_by(at(62_000)));
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_the_rule() {
        let rule = rule(2, 1_000);
        let (full, _) = Full::ALWAYS.take(rule, at(0));
        let (full, refused) = full.take(rule, at(-3_600_000));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
        let (_, decision) = full.take(rule, at(-3_600_000 + 500));
        assert_eq!(decision.retry_after, None);
    }

    proptest! {
        /// The definition: over any stretch at most `count` and one for each interval that passed.
        #[test]
        fn never_more_than_the_definition_in_any_stretch(
            count in 1u32..20,
            per in 1u64..5_000,
            steps in prop::collection::vec(0i64..800, 1..200),
        ) {
            let rule = rule(count, per);
            let (mut full, mut now, mut passed) = (Full::ALWAYS, 0, Vec::new());
            for step in steps {
                now += step;
                let (next, decision) = full.take(rule, at(now));
                if decision.retry_after.is_none() {
                    passed.push(now);
                }
                full = next;
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let had = (last - first + 1) as i64;
                    let back = (end - start) * 1_000 / interval(rule);
                    prop_assert!(had <= i64::from(count) + back, "{had} in {} ms", end - start);
                }
            }
        }

        /// What is said is so: waiting `retry_after` is enough and a millisecond less is not; so many
        /// as `remaining` pass at once and no more; after `reset` everything is back.
        #[test]
        fn what_is_said_is_exact(
            count in 1u32..20,
            per in 1u64..5_000,
            steps in prop::collection::vec(0i64..300, 1..60),
        ) {
            let rule = rule(count, per);
            let (mut full, mut now) = (Full::ALWAYS, 0);
            for step in steps {
                now += step;
                let (next, decision) = full.take(rule, at(now));
                full = next;
                if let Some(wait) = decision.retry_after {
                    let wait = i64::try_from(wait.as_millis()).unwrap();
                    prop_assert!(full.take(rule, at(now + wait)).1.retry_after.is_none());
                    prop_assert!(full.take(rule, at(now + wait - 1)).1.retry_after.is_some());
                }
                let mut probe = full;
                for _ in 0..decision.remaining {
                    let (next, decision) = probe.take(rule, at(now));
                    prop_assert!(decision.retry_after.is_none());
                    probe = next;
                }
                prop_assert!(probe.take(rule, at(now)).1.retry_after.is_some());
                let reset = i64::try_from(decision.reset.as_micros().div_ceil(1_000)).unwrap();
                prop_assert!(full.is_by(at(now + reset)));
                prop_assert!(decision.reset.is_zero() || !full.is_by(at(now + reset - 1)));
            }
        }
    }
}
