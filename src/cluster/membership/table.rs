//! Who lives and who died, as the first shard tells it: pure, time comes in.
//!
//! Who was seen once and has no lease is dead, but only once everybody had the time to renew it: after the
//! first look, after the shard was away, and after its server became another one (which may have lost
//! all leases at once), nobody is declared dead for a while.

use std::time::{Duration, Instant};

use super::{Gone, Live, Partitions};
use crate::types::NodeId;

/// One who was seen.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) node: NodeId,
    pub(super) boot: String,
    /// When its lease was renewed last, by the server's clock, in milliseconds.
    pub(super) renewed: i64,
    /// What it says of itself, while its lease lives.
    pub(super) live: Option<Live>,
    /// What it said last that it pumps.
    pub(super) pumps: Partitions,
}

/// What the shard said last.
#[derive(Debug)]
pub(super) struct Table {
    ttl: Duration,
    heard: Option<(Instant, String)>,
    /// From when on the dead are believed to be.
    settled: Option<Instant>,
}

impl Table {
    pub(super) const fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            heard: None,
            settled: None,
        }
    }

    /// The shard said this at `now`, its clock then being `server_now`; the run id is its server's.
    pub(super) fn heard(
        &mut self,
        rows: Vec<Row>,
        (now, server_now): (Instant, i64),
        run_id: &str,
    ) -> (Vec<Live>, Vec<Gone>) {
        let is_steady = self.heard.as_ref().is_some_and(|(before, run)| {
            run == run_id && now.saturating_duration_since(*before) < self.ttl / 2
        });
        self.heard = Some((now, run_id.to_owned()));
        if !is_steady {
            self.settled = Some(now + self.ttl + self.ttl / 5);
        }
        let is_settled = self.settled.is_some_and(|at| now >= at);
        let (mut live, mut gone) = (Vec::new(), Vec::new());
        for row in rows {
            if let Some(one) = row.live {
                live.push(one);
            } else if is_settled {
                let ago = u64::try_from(server_now.saturating_sub(row.renewed)).unwrap_or(0);
                let renewed = now.checked_sub(Duration::from_millis(ago)).unwrap_or(now);
                gone.push(Gone {
                    node: row.node,
                    boot: row.boot,
                    renewed,
                    pumps: row.pumps,
                });
            }
        }
        live.sort_by(|a, b| a.member.id.cmp(&b.member.id));
        (live, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn dead(name: &str, renewed: i64) -> Row {
        Row {
            node: NodeId::parse(name).unwrap(),
            boot: "b".to_owned(),
            renewed,
            live: None,
            pumps: Partitions::default(),
        }
    }

    /// Who is dead, when the shard says so every second.
    fn gone(table: &mut Table, start: Instant, seconds: u64, run: &str) -> usize {
        let now = start + Duration::from_secs(seconds);
        let server = 1_000_000 + i64::try_from(seconds).unwrap() * 1_000;
        table
            .heard(vec![dead("a", 1_000_000)], (now, server), run)
            .1
            .len()
    }

    #[test]
    fn nobody_is_dead_before_everybody_had_time_to_renew() {
        let (mut table, start) = (Table::new(TTL), Instant::now());
        for second in 0..6 {
            assert_eq!(gone(&mut table, start, second, "run"), 0, "{second}");
        }
        assert_eq!(gone(&mut table, start, 6, "run"), 1);
        // Another server: it may have forgotten them all.
        assert_eq!(gone(&mut table, start, 7, "other"), 0);
        for second in 8..13 {
            assert_eq!(gone(&mut table, start, second, "other"), 0, "{second}");
        }
        assert_eq!(gone(&mut table, start, 13, "other"), 1);
        // It was away.
        assert_eq!(gone(&mut table, start, 20, "other"), 0);
    }

    #[test]
    fn the_time_of_death_is_counted_from_the_last_renewal() {
        let (mut table, start) = (Table::new(TTL), Instant::now());
        for second in 0..8 {
            let now = start + Duration::from_secs(second);
            let server = 1_000_000 + i64::try_from(second).unwrap() * 1_000;
            let (_, gone) = table.heard(vec![dead("a", 1_002_000)], (now, server), "run");
            if second == 7 {
                assert_eq!(gone[0].renewed, start + Duration::from_secs(2));
            }
        }
    }
}
