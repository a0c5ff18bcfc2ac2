//! Clients to nodes that have fewer of them, after a node has joined.
//!
//! Balancers place new connections only: a node that joins would stay empty for as long as clients stay connected.
//! So every node that has clearly more than the mean sends some away, slowly; they come back by themselves, most
//! of them elsewhere. Only for some minutes after a node has joined: how a balancer spreads what comes is its
//! operator's choice, and must not be worked against for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::membership::{Live, Membership};
use crate::config;
use crate::lifecycle::{Drain, Phase};
use crate::server::Io;
use crate::transport::shed_here;

/// What is decided from one look to the next.
struct Shedding {
    per_second: u32,
    after: Duration,
    /// Starts of nodes that were there at the last look; `None` before the first.
    known: Option<BTreeSet<String>>,
    joined: Option<Instant>,
}

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a node has joined.
const SHED_FOR: Duration = Duration::from_secs(300);
/// So much above the mean is balanced.
const MARGIN: f64 = 0.10;
/// Below so many it does not matter.
const FEW: f64 = 5.0;

impl Shedding {
    const fn new(per_second: u32, after: Duration) -> Self {
        Self {
            per_second,
            after,
            known: None,
            joined: None,
        }
    }

    /// Which share of this node's clients should go now.
    fn share(&mut self, own: &str, live: &[Live], now: Instant) -> Option<f64> {
        let boots: BTreeSet<String> = live.iter().map(|live| live.member.boot.clone()).collect();
        if let Some(known) = &self.known
            && boots
                .iter()
                .any(|boot| boot != own && !known.contains(boot))
        {
            self.joined = Some(now);
        }
        self.known = Some(boots);
        let since = now.duration_since(self.joined?);
        if since < self.after || since > self.after + SHED_FOR {
            return None;
        }
        let all: u32 = live.iter().map(|live| live.member.load.connections).sum();
        let nodes = u32::try_from(live.len()).unwrap_or(u32::MAX).max(1);
        let mean = f64::from(all) / f64::from(nodes);
        let own = live.iter().find(|live| live.member.boot == own)?;
        let own = f64::from(own.member.load.connections);
        if own <= mean * (1.0 + MARGIN) || own - mean < FEW {
            return None;
        }
        // What the others have is known a moment late: half of what is too much, so as not to overshoot.
        let count = ((own - mean) / 2.0).min(f64::from(self.per_second));
        Some(count / own)
    }
}

/// Runs until the node drains, if it is switched on.
pub(super) async fn run(
    membership: Membership,
    (section, io): (config::Admission, Io),
    drain: Drain,
) {
    if !section.shed {
        return;
    }
    let mut shedding = Shedding::new(section.shed_per_second, section.shed_after.get());
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let ended = drain.reached(Phase::Unready);
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            _ = tick.tick() => {}
        }
        let boot = membership.me().boot;
        let share = shedding.share(&boot, &membership.view().live, Instant::now());
        // Who has no lease does not know what the others have.
        let Some(share) = share.filter(|_| membership.holds_lease()) else {
            continue;
        };
        if io
            .of("/")
            .each_worker(move |_, _| shed_here(share))
            .is_err()
        {
            tracing::debug!("a worker is too busy to send clients away");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::{Load, Member};
    use crate::types::{NodeId, Timestamp};

    fn live(nodes: &[(&str, u32)]) -> Vec<Live> {
        let live = |(boot, connections): &(&str, u32)| Live {
            member: Member {
                id: NodeId::parse(boot).unwrap(),
                boot: (*boot).to_owned(),
                address: None,
                version: String::new(),
                started: Timestamp::default(),
                shards: Vec::new(),
                load: Load {
                    connections: *connections,
                    cpu: 0.0,
                },
                pumps: Default::default(),
            },
            left: Duration::ZERO,
        };
        nodes.iter().map(live).collect()
    }

    #[tokio::test]
    async fn only_after_a_node_has_joined_and_only_what_is_too_much() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut shedding = Shedding::new(50, Duration::from_secs(10));
        let uneven = live(&[("a", 900), ("b", 300)]);
        assert_eq!(shedding.share("a", &uneven, at(0)), None, "nobody joined");
        let joined = live(&[("a", 900), ("b", 300), ("c", 0)]);
        assert_eq!(
            shedding.share("a", &joined, at(1)),
            None,
            "it is just there"
        );
        let share = shedding.share("a", &joined, at(11)).unwrap();
        assert!((share * 900.0 - 50.0).abs() < 0.001, "{share}");
        let mut other = Shedding::new(50, Duration::ZERO);
        assert_eq!(other.share("b", &uneven, at(0)), None);
        assert_eq!(
            other.share("b", &joined, at(1)),
            None,
            "it has fewer than the mean"
        );
        let nearly = live(&[("a", 440), ("b", 400), ("c", 390)]);
        assert_eq!(
            shedding.share("a", &nearly, at(12)),
            None,
            "within the margin"
        );
        let rest = live(&[("a", 480), ("b", 400), ("c", 320)]);
        let share = shedding.share("a", &rest, at(13)).unwrap();
        assert!(
            (share * 480.0 - 40.0).abs() < 0.001,
            "half of what is too much"
        );
        assert_eq!(shedding.share("a", &rest, at(400)), None, "no longer");
        // A node that starts again is another one.
        let again = live(&[("a", 480), ("b", 400), ("d", 0)]);
        assert_eq!(shedding.share("a", &again, at(401)), None);
        assert!(shedding.share("a", &again, at(412)).is_some());
    }

    #[tokio::test]
    async fn a_node_that_starts_sends_nobody_away() {
        let mut shedding = Shedding::new(50, Duration::ZERO);
        let all = live(&[("a", 900), ("b", 300)]);
        for second in 0..5 {
            let now = Instant::now() + Duration::from_secs(second);
            assert_eq!(shedding.share("a", &all, now), None);
        }
    }
}
