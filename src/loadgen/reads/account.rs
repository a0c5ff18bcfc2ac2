//! The account of a run: one line of JSON, or a table.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

use serde::Serialize;

use super::Reads;
use super::drive::Driven;
use super::mix::{Kind, SHARES};
use crate::loadgen::latency::Summary;

/// What was asked for and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Account {
    /// `reads`.
    pub scenario: &'static str,
    /// The mix, in words.
    pub mix: String,
    /// Accounts.
    pub users: u32,
    /// Conversations.
    pub conversations: u32,
    /// Connections.
    pub connections: u32,
    /// Reads asked for in a second.
    pub rate: f64,
    /// Messages sent in a second.
    pub sent: f64,
    /// How long making all that took.
    pub preparing_seconds: f64,
    /// Length of the measured part.
    pub seconds: f64,
    /// How long answers took, by kind.
    pub kinds: Vec<Timed>,
    /// What was not answered as it should be.
    pub failed: BTreeMap<String, u64>,
    /// What the caches were asked and had.
    pub caches: BTreeMap<String, CacheUse>,
    /// CPU of the server, in cores.
    pub server_cores: Option<f64>,
}

/// How long one kind of request took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timed {
    /// Which.
    pub kind: &'static str,
    /// From when it was due until its answer had come whole.
    pub latency: Summary,
    /// What its 99th percentile should stay under.
    pub target_p99_ms: Option<f64>,
}

/// How much a cache was asked and had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheUse {
    /// Look-ups.
    pub lookups: u64,
    /// Those that it answered.
    pub hits: u64,
}

/// The part of the look-ups that caches should answer.
const TARGET_HIT_RATIO: f64 = 0.85;

const fn target_p99_ms(kind: Kind) -> Option<f64> {
    match kind {
        Kind::Session => Some(3.0),
        Kind::History => Some(50.0),
        _ => None,
    }
}

impl CacheUse {
    fn ratio(self) -> f64 {
        self.hits as f64 / self.lookups as f64
    }
}

impl Account {
    pub(super) fn of(reads: &Reads, driven: Driven) -> Self {
        let shares = SHARES.map(|(kind, share)| format!("{share} % {}", kind.name()));
        let timed = driven.kinds.into_iter().filter_map(|(kind, latencies)| {
            Some(Timed {
                kind: kind.name(),
                latency: latencies.summary()?,
                target_p99_ms: target_p99_ms(kind),
            })
        });
        Self {
            scenario: "reads",
            mix: shares.join(", "),
            users: reads.users,
            conversations: reads.conversations,
            connections: reads.connections,
            rate: reads.rate,
            sent: reads.sent,
            seconds: driven.time.as_secs_f64(),
            kinds: timed.collect(),
            failed: driven.failed,
            ..Self::default()
        }
    }

    /// The part of all look-ups that caches answered; `None` when nothing is known of them.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let sum = self
            .caches
            .values()
            .fold(CacheUse::default(), |sum, one| CacheUse {
                lookups: sum.lookups + one.lookups,
                hits: sum.hits + one.hits,
            });
        (sum.lookups > 0).then(|| sum.ratio())
    }

    /// What was not answered as it should be, in words; empty when all was.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let failed = self.failed.iter();
        failed.map(|(what, n)| format!("{n} x {what}")).collect()
    }
}

impl Display for Account {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self {
            users,
            conversations,
            connections,
            rate,
            sent,
            ..
        } = self;
        writeln!(f, "reads        {}", self.mix)?;
        writeln!(
            f,
            "             {rate} in a second over {connections} connections, {users} users and \
             {conversations} conversations by Zipf; {sent} messages in a second meanwhile"
        )?;
        writeln!(
            f,
            "measured     {:.1} s, after {:.1} s of sign-ups and messages",
            self.seconds, self.preparing_seconds
        )?;
        for timed in &self.kinds {
            writeln!(f, "{timed}")?;
        }
        for (cache, used) in &self.caches {
            let CacheUse { lookups, hits } = used;
            let percent = used.ratio() * 100.0;
            writeln!(
                f,
                "cache {cache:<20} {percent:>6.2} % ({hits} of {lookups})"
            )?;
        }
        if let Some(ratio) = self.hit_ratio() {
            let is_met = verdict(ratio >= TARGET_HIT_RATIO);
            let (percent, target) = (ratio * 100.0, TARGET_HIT_RATIO * 100.0);
            writeln!(
                f,
                "caches together            {percent:>6.2} %   (at least {target}: {is_met})"
            )?;
        }
        if let Some(cores) = self.server_cores {
            writeln!(f, "server       {cores:.2} cores")?;
        }
        let faults = self.faults();
        let faults = if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        };
        writeln!(f, "faults       {faults}")
    }
}

impl Display for Timed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { kind, latency, .. } = self;
        let Summary {
            count,
            mean_ms: _,
            p50_ms,
            p99_ms,
            p999_ms,
            max_ms,
        } = *latency;
        write!(
            f,
            "{kind:<18} {count:>8}   p50 {p50_ms:.2} ms, p99 {p99_ms:.2}, p99.9 {p999_ms:.2}, \
             max {max_ms:.2}"
        )?;
        let Some(target) = self.target_p99_ms else {
            return Ok(());
        };
        let is_met = verdict(p99_ms <= target);
        write!(f, "   (p99 at most {target}: {is_met})")
    }
}

const fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_asked_and_whether_targets_are_met() {
        let latency = Summary {
            count: 60,
            mean_ms: 0.5,
            p50_ms: 0.4,
            p99_ms: 3.5,
            p999_ms: 4.0,
            max_ms: 5.0,
        };
        let account = Account {
            scenario: "reads",
            mix: "60 % session check".to_owned(),
            kinds: vec![Timed {
                kind: "session check",
                latency,
                target_p99_ms: Some(3.0),
            }],
            caches: BTreeMap::from([
                (
                    "users".to_owned(),
                    CacheUse {
                        lookups: 100,
                        hits: 90,
                    },
                ),
                (
                    "roles".to_owned(),
                    CacheUse {
                        lookups: 100,
                        hits: 80,
                    },
                ),
            ]),
            failed: BTreeMap::from([("presence: 500".to_owned(), 2)]),
            ..Account::default()
        };
        let text = account.to_string();
        for part in [
            "60 % session check",
            "p99 3.50",
            "(p99 at most 3: missed)",
            "85.00 %   (at least 85: met)",
            "2 x presence: 500",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }
}
