//! Clients to nodes that have fewer of them, after a node has joined.
//!
//! Balancers place new connections only: a node that joins would stay empty for as long as clients stay connected.
//! So every node that has clearly more than the mean sends some away, slowly; they come back by themselves, most
//! of them elsewhere. Only for some minutes after a node has joined: how a balancer spreads what comes is its
//! operator's choice, and must not be worked against for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::membership::{Live, Membership};
use crate::config;
use crate::lifecycle::{Admission, Drain, Phase};
use crate::server::Io;
use crate::transport::shed_here;

/// What is decided from one look to the next.
struct Shedding {
    per_second: u32,
    after: Duration,
    /// Starts of nodes, and when each was seen last.
    known: BTreeMap<String, Instant>,
    joined: Option<Instant>,
    step: Step,
}

/// Nodes say how many clients they have at different moments, and who is on the way from one to another is counted
/// nowhere: one look says little.
#[derive(Debug, Clone, Copy)]
enum Step {
    Even,
    /// It has been too many since then, and never fewer too many than this.
    TooMany {
        since: Instant,
        least: f64,
    },
    /// So many are still to be sent away.
    Sending(f64),
}

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// By then all have said how many they have, and who was sent away has arrived.
const SURE_AFTER: Duration = Duration::from_secs(4);
/// How long after a node has joined.
const SHED_FOR: Duration = Duration::from_secs(300);
/// A node that has been away for less has not joined when it is seen again.
const KNOWN_FOR: Duration = Duration::from_secs(900);
/// So much above the mean is balanced.
const MARGIN: f64 = 0.10;
/// Below so many it does not matter.
const FEW: f64 = 5.0;

impl Shedding {
    const fn new(per_second: u32, after: Duration) -> Self {
        Self {
            per_second,
            after,
            known: BTreeMap::new(),
            joined: None,
            step: Step::Even,
        }
    }

    /// Which share of this node's clients should go now. `own`: its start, and how many clients it has.
    fn share(&mut self, own: (&str, usize), live: &[Live], now: Instant) -> Option<f64> {
        if !self.is_time(own.0, live, now) {
            self.step = Step::Even;
            return None;
        }
        let clients = f64::from(u32::try_from(own.1).unwrap_or(u32::MAX));
        let surplus = surplus((own.0, clients), live);
        self.step = match (self.step, surplus) {
            (Step::Sending(left), _) => Step::Sending(left),
            (_, None) => Step::Even,
            (Step::Even, Some(surplus)) => Step::TooMany {
                since: now,
                least: surplus,
            },
            (Step::TooMany { since, least }, Some(surplus)) => {
                let least = least.min(surplus);
                match now.duration_since(since) < SURE_AFTER {
                    true => Step::TooMany { since, least },
                    // Balancers send some of them back here: half, so as not to overshoot.
                    false => Step::Sending(least / 2.0),
                }
            }
        };
        let Step::Sending(left) = self.step else {
            return None;
        };
        let count = left.min(f64::from(self.per_second)).min(clients);
        self.step = match left - count {
            rest if rest >= 1.0 && clients >= 1.0 => Step::Sending(rest),
            _ => Step::Even,
        };
        (clients >= 1.0).then(|| count / clients)
    }

    /// Whether a node has joined lately, and long enough ago to be known to balancers.
    fn is_time(&mut self, own: &str, live: &[Live], now: Instant) -> bool {
        let is_first = self.known.is_empty();
        for boot in live.iter().map(|live| &live.member.boot) {
            let is_new = self.known.insert(boot.clone(), now).is_none();
            if is_new && !is_first && boot != own {
                self.joined = Some(now);
            }
        }
        self.known
            .retain(|_, seen| now.duration_since(*seen) < KNOWN_FOR);
        let Some(joined) = self.joined else {
            return false;
        };
        let since = now.duration_since(joined);
        since >= self.after && since <= self.after + SHED_FOR
    }
}

/// How many more clients than the mean of all nodes that stay this one has, when that matters.
fn surplus((boot, own): (&str, f64), live: &[Live]) -> Option<f64> {
    let others = live.iter().map(|live| &live.member);
    let others = others.filter(|member| member.boot != boot && !member.load.leaving);
    let (count, sum) = others.fold((1.0, own), |(count, sum), member| {
        (count + 1.0, sum + f64::from(member.load.connections))
    });
    let mean: f64 = sum / count;
    let surplus = own - mean;
    (surplus > mean * MARGIN && surplus >= FEW).then_some(surplus)
}

/// Runs until the node drains, if it is switched on.
pub(super) async fn run(
    membership: Membership,
    (section, admission, io): (config::Admission, Admission, Io),
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
        // Who has no lease does not know what the others have.
        if !membership.holds_lease() {
            continue;
        }
        let own = (boot.as_str(), admission.inside());
        let Some(share) = shedding.share(own, &membership.view().live, Instant::now()) else {
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
                    ..Load::default()
                },
                pumps: Default::default(),
            },
            left: Duration::ZERO,
        };
        nodes.iter().map(live).collect()
    }

    /// One node's looks, one a second.
    struct Looks {
        shedding: Shedding,
        start: Instant,
        seconds: u64,
    }

    impl Looks {
        fn new(per_second: u32, after: u64) -> Self {
            Self {
                shedding: Shedding::new(per_second, Duration::from_secs(after)),
                start: Instant::now(),
                seconds: 0,
            }
        }

        /// How many it sends away while it sees this so many times.
        fn see(&mut self, own: (&str, usize), live: &[Live], times: u64) -> Vec<u64> {
            let looks = (0..times).map(|_| {
                self.seconds += 1;
                let now = self.start + Duration::from_secs(self.seconds);
                let share = self.shedding.share(own, live, now);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "some hundreds"
                )]
                share.map_or(0, |share| (share * own.1 as f64).round() as u64)
            });
            looks.collect()
        }
    }

    #[tokio::test]
    async fn only_after_a_node_has_joined_and_only_what_is_too_much() {
        let mut looks = Looks::new(50, 10);
        let uneven = live(&[("a", 900), ("b", 300)]);
        assert_eq!(looks.see(("a", 900), &uneven, 20), [0; 20], "nobody joined");
        let joined = live(&[("a", 900), ("b", 300), ("c", 0)]);
        assert_eq!(looks.see(("a", 900), &joined, 14), [0; 14], "not sure yet");
        // Half of 500, 50 a second, then it looks anew.
        assert_eq!(looks.see(("a", 900), &joined, 5), [50; 5]);
        assert_eq!(looks.see(("a", 900), &joined, 4), [0; 4]);
        let rest = live(&[("a", 480), ("b", 400), ("c", 320)]);
        assert_eq!(
            looks.see(("a", 480), &rest, 1),
            [40],
            "the least of what was seen"
        );
        let nearly = live(&[("a", 440), ("b", 400), ("c", 390)]);
        assert_eq!(
            looks.see(("a", 440), &nearly, 20),
            [0; 20],
            "within the margin"
        );
        assert_eq!(
            looks.see(("a", 300), &rest, 20),
            [0; 20],
            "it has fewer than the mean"
        );
        assert_eq!(
            looks
                .see(("a", 480), &rest, 300)
                .iter()
                .rev()
                .take(50)
                .sum::<u64>(),
            0,
            "no longer"
        );
        // A node that starts again is another one.
        let again = live(&[("a", 480), ("b", 400), ("d", 320)]);
        assert_eq!(looks.see(("a", 480), &again, 15)[14], 40);
    }

    #[tokio::test]
    async fn counts_of_different_moments_and_nodes_that_leave_mean_nothing() {
        let mut looks = Looks::new(50, 0);
        looks.see(("a", 0), &live(&[("a", 0)]), 1);
        // All three get as many; the others say so a moment later.
        let early = live(&[("a", 17), ("b", 0), ("c", 0)]);
        let late = live(&[("a", 17), ("b", 17), ("c", 17)]);
        assert_eq!(looks.see(("a", 17), &early, 3), [0; 3]);
        assert_eq!(looks.see(("a", 17), &late, 9), [0; 9]);
        // Clients of one that drains come to the others, and so they should.
        let mut draining = live(&[("a", 1_250), ("b", 500), ("c", 1_250)]);
        draining[1].member.load.leaving = true;
        assert_eq!(looks.see(("a", 1_250), &draining, 20), [0; 20]);
        // One whose lease lapsed for a moment has not joined.
        let mut looks = Looks::new(50, 0);
        let all = live(&[("a", 900), ("b", 300)]);
        looks.see(("a", 900), &all, 2);
        looks.see(("a", 900), &all[..1], 5);
        assert_eq!(looks.see(("a", 900), &all, 20), [0; 20]);
    }

    #[tokio::test]
    async fn a_node_that_starts_sends_nobody_away() {
        let mut looks = Looks::new(50, 0);
        let all = live(&[("a", 900), ("b", 300)]);
        assert_eq!(looks.see(("a", 900), &all, 20), [0; 20]);
    }
}
