//! Pumping for a node that is dead, before its group has noticed.
//!
//! A killed node's partitions have no reader until its session with Kafka is over and the group has shared
//! them out again. Its lease is over sooner. Then the survivors, each those that the ring of duties gives it,
//! read them from what the group has committed: a pump as any other, but with a consumer that is in no group
//! and commits nothing. It ends when living nodes say that they read these partitions, when the node is
//! back, or after a while.
//!
//! None of this has to be right for the order of rooms to be. Whoever pumps a record that another has applied is
//! answered DUP; what was not settled then is settled; and the group's next owner, which begins at the same
//! commit, is answered the same and commits. So it does no harm when the node only slept, when two believe
//! to have the duty, or when what the node claimed is out of date: then a record is read twice.
//!
//! What has no such answer is left to the next owner, as late as it may be: dead letters, and events that are
//! shown without a place.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::sleep;

use super::pump::{self, GROUP, Parts};
use super::route::{Route, route};
use super::turn::{Event, Turn};
use crate::cluster::membership::{Gone, Membership, View, duty_pump};
use crate::eventlog::{Error, Polled};
use crate::telemetry::metrics;

/// Bounds and times.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all stand-ins together.
    pub pump: pump::Options,
    /// After the end of a lease the group surely has other owners.
    pub stands_for: Duration,
}

impl Options {
    /// For a group whose members may be silent for so long.
    #[must_use]
    pub fn new(session_timeout: Duration) -> Self {
        Self {
            // Little, so that the node's own pump keeps its room among the records that wait to be durable:
            // far more than what comes within the time that one takes.
            pump: pump::Options {
                in_flight: 1_024,
                in_flight_bytes: 16 << 20,
                places: 20_000,
                ..pump::Options::default()
            },
            // The session, a rebalance that begins with it, and as long again for slow ones.
            stands_for: session_timeout * 2 + Duration::from_secs(8),
        }
    }
}

/// Nodes that are stood in for at once; others wait.
const STAND_INS_MAX: usize = 2;
/// What is on its way when a stand-in ends may take so long; then it is left to the next owner.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// One that failed is begun again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A partition of a topic.
type Spot = (Arc<str>, u32);

/// Looks who died, and stands in.
#[derive(Debug)]
pub struct Takeover {
    parts: Parts,
    membership: Membership,
    options: Options,
}

/// One at work.
struct StandIn {
    spots: BTreeSet<Spot>,
    /// Resolves the end of it when set, or dropped.
    end: watch::Sender<bool>,
}

/// The nodes that may need one, and those that have one, by `NODE/BOOT`.
#[derive(Default)]
struct State {
    gone: BTreeMap<String, Gone>,
    at_work: BTreeMap<String, StandIn>,
}

impl Takeover {
    /// What this node does for others.
    #[must_use]
    pub const fn new(parts: Parts, membership: Membership, options: Options) -> Self {
        Self {
            parts,
            membership,
            options,
        }
    }

    /// Runs until `stop`, then ends at once: what was begun is the next owner's.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Some(mut looks) = self.membership.watch() else {
            return stop.await;
        };
        let mut stop = pin!(stop);
        let mut state = State::default();
        let mut running: FuturesUnordered<BoxFuture<'static, String>> = FuturesUnordered::new();
        let every = self.membership.times().poll;
        loop {
            // Also without news: the end of a time, or of this node's own lease, is none.
            tokio::select! {
                () = &mut stop => return,
                Some(name) = running.next() => drop(state.at_work.remove(&name)),
                _ = looks.changed() => {}
                () = sleep(every) => {}
            }
            let view = looks.borrow_and_update().clone();
            for (name, spots) in self.look(&mut state, &view) {
                let (end, ended) = watch::channel(false);
                let standing = self.stand_in(name.clone(), spots.clone(), ended);
                running.push(Box::pin(standing));
                state.at_work.insert(name, StandIn { spots, end });
            }
        }
    }

    /// Ends whoever has nothing left to do; gives for whom somebody has to begin.
    fn look(&self, state: &mut State, view: &View) -> Vec<(String, BTreeSet<Spot>)> {
        let live = view.names();
        for gone in view.gone.iter().filter(|gone| !gone.pumps.is_empty()) {
            state.gone.insert(gone.name(), gone.clone());
        }
        let most = self.membership.times().ttl + self.options.stands_for;
        let is_due =
            |name: &String, gone: &mut Gone| gone.renewed.elapsed() < most && !live.contains(name);
        state.gone.retain(is_due);
        let wanted = |name: &String| state.gone.get(name).map(|gone| self.wanted(gone, view));
        for (name, one) in &state.at_work {
            let wanted = wanted(name).unwrap_or_default();
            if wanted.is_empty() || !wanted.is_subset(&one.spots) {
                one.end.send_replace(true);
            }
        }
        let room = STAND_INS_MAX.saturating_sub(state.at_work.len());
        let idle = state
            .gone
            .keys()
            .filter(|name| !state.at_work.contains_key(*name));
        let due = idle.filter_map(|name| Some((name.clone(), wanted(name)?)));
        due.filter(|(_, spots)| !spots.is_empty())
            .take(room)
            .collect()
    }

    /// What this node has to pump of one that is gone: what nobody who lives says to read.
    fn wanted(&self, gone: &Gone, view: &View) -> BTreeSet<Spot> {
        if !self.membership.holds_lease() {
            return BTreeSet::new();
        }
        let topics = self.parts.vocabulary.current().topics();
        // A node that has just begun, often the dead one's successor, believes in no death yet.
        let fit = view.among(|member| !member.pumps.is_empty());
        let is_mine = |(topic, partition): &(&Arc<str>, u32)| {
            let mut pumps = view.live.iter().map(|one| &one.member.pumps);
            !pumps.any(|pumps| pumps.contains(topic, *partition))
                && topics.contains(topic)
                && fit.duty_of(&duty_pump(topic, *partition)) == Some(&self.parts.node)
        };
        let mine = gone.pumps.iter().filter(is_mine);
        mine.map(|(topic, partition)| (Arc::clone(topic), partition))
            .collect()
    }

    /// Stands in for a node until told to end. Gives its name.
    fn stand_in(
        &self,
        name: String,
        spots: BTreeSet<Spot>,
        mut ended: watch::Receiver<bool>,
    ) -> impl Future<Output = String> + Send + 'static {
        let (parts, mut options) = (self.parts.clone(), self.options.pump.clone());
        options.in_flight /= STAND_INS_MAX;
        options.in_flight_bytes /= STAND_INS_MAX;
        options.places /= STAND_INS_MAX;
        async move {
            tracing::info!(node = %name, partitions = spots.len(), "standing in for a node that is gone");
            metrics::TAKEOVERS.add(1);
            let mut told = ended.clone();
            let end = async move { drop(told.wait_for(|is_over| *is_over).await) };
            let late = async move {
                drop(ended.wait_for(|is_over| *is_over).await);
                sleep(FINISH_WITHIN).await;
            };
            let standing = async {
                match stand_in(parts, options, spots, end).await {
                    Ok(()) => tracing::info!(node = %name, "no more standing in for a node"),
                    Err(error) => {
                        tracing::warn!(node = %name, %error, "standing in for a node failed");
                        sleep(AGAIN_AFTER).await;
                    }
                }
            };
            tokio::select! {
                () = standing => {}
                () = late => tracing::info!(node = %name, "no more standing in for a node; \
                    what was on its way is the next owner's"),
            }
            name
        }
    }
}

/// Pumps these partitions, from what the group has committed of them, until `end`; then what is on its way
/// is finished. Commits nothing. May run beside their owner, or another one of these, and may be dropped at any
/// time.
///
/// # Errors
/// When Kafka does not say what was committed, or the log is closed.
pub async fn stand_in(
    parts: Parts,
    options: pump::Options,
    partitions: BTreeSet<(Arc<str>, u32)>,
    end: impl Future<Output = ()>,
) -> Result<(), Error> {
    let vocabulary = parts.vocabulary.clone();
    let mut end = pin!(end);
    let asked = parts.log.committed(GROUP, partitions.into_iter().collect());
    let starts = tokio::select! {
        () = &mut end => return Ok(()),
        starts = asked => starts?,
    };
    let starts: Vec<(&str, u32, u64)> = starts
        .iter()
        .map(|(topic, partition, next)| (&**topic, *partition, *next))
        .collect();
    let consumer = parts.log.assigned(&starts).await?;
    let mut turn = Turn::new(parts, options, consumer);
    while !turn.is_over() {
        let mut event = turn.next(end.as_mut()).await;
        match &mut event {
            Event::Polled(Ok(Polled::Records(records))) => {
                let catalogue = vocabulary.current();
                records.retain(|one| matches!(route(&catalogue, one), Route::Timeline { .. }));
            }
            Event::Settled(settled) => metrics::TAKEOVER_RECORDS.add(settled.done.len() as u64),
            _ => {}
        }
        turn.on(event).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cluster::bus::Bus;
    use crate::cluster::membership::{Live, Load, Member, Partitions};
    use crate::eventlog::{EventLog, Options as LogOptions};
    use crate::events::Vocabulary;
    use crate::timeline::{Limits, Memory, Timeline};
    use crate::types::{NodeId, Timestamp};

    const SESSION: Duration = Duration::from_secs(6);

    fn partitions(numbers: impl IntoIterator<Item = u32>) -> Partitions {
        numbers
            .into_iter()
            .map(|n| (Arc::from("messages"), n))
            .collect()
    }

    fn member(id: &str, pumps: Partitions) -> Member {
        Member {
            shards: Vec::new(),
            id: NodeId::parse(id).unwrap(),
            boot: "1".to_owned(),
            address: None,
            version: String::new(),
            started: Timestamp::default(),
            load: Load::default(),
            pumps,
        }
    }

    fn gone(id: &str, ago: Duration, pumps: Partitions) -> Gone {
        Gone {
            node: NodeId::parse(id).unwrap(),
            boot: "1".to_owned(),
            renewed: Instant::now().checked_sub(ago).unwrap(),
            pumps,
        }
    }

    /// Those who live with what they pump, and those who are gone.
    fn view(live: &[(&str, &Partitions)], gone: &[&Gone]) -> View {
        let live = live.iter().map(|(id, pumps)| Live {
            member: member(id, Partitions::clone(pumps)),
            left: Duration::from_secs(1),
        });
        View::new(live.collect(), gone.iter().copied().cloned().collect())
    }

    /// One of several nodes, with the state of its stand-ins as if those that were begun were at work.
    struct Survivor {
        takeover: Takeover,
        state: State,
    }

    impl Survivor {
        fn new(id: &str) -> Self {
            let node = NodeId::parse(id).unwrap();
            let parts = Parts {
                log: EventLog::memory(LogOptions::default()),
                timeline: Timeline::Memory(Memory::new(Limits::default())),
                bus: Bus::memory(),
                vocabulary: Vocabulary::builtin(),
                node,
            };
            let membership = Membership::alone(member(id, Partitions::default()));
            Self {
                takeover: Takeover::new(parts, membership, Options::new(SESSION)),
                state: State::default(),
            }
        }

        /// For whom it begins, with what.
        fn look(&mut self, view: &View) -> Vec<(String, Vec<u32>)> {
            let begun = self.takeover.look(&mut self.state, view);
            let begun = begun.into_iter().map(|(name, spots)| {
                let numbers = spots.iter().map(|(_, number)| *number).collect();
                let end = watch::Sender::new(false);
                self.state
                    .at_work
                    .insert(name.clone(), StandIn { spots, end });
                (name, numbers)
            });
            begun.collect()
        }

        fn is_ended(&self, name: &str) -> bool {
            *self.state.at_work[name].end.borrow()
        }
    }

    const DEAD: Duration = Duration::from_secs(4);

    #[tokio::test]
    async fn survivors_share_what_nobody_reads() {
        let (mut b, mut c) = (Survivor::new("b"), Survivor::new("c"));
        // The table is old: the group has given some of it to a living node before its owner died.
        let (own, dead) = (partitions([0, 1, 2, 3]), gone("a", DEAD, partitions(2..40)));
        let other = partitions([90]);
        let now = view(&[("b", &own), ("c", &other)], &[&dead]);
        let (of_b, of_c) = (b.look(&now).remove(0), c.look(&now).remove(0));
        assert_eq!((&*of_b.0, &*of_c.0), ("a/1", "a/1"));
        assert!(!of_b.1.is_empty() && !of_c.1.is_empty());
        let mut all = [of_b.1, of_c.1].concat();
        all.sort_unstable();
        assert_eq!(all, (4..40).collect::<Vec<_>>());
        // Who pumps nothing may have begun a moment ago, and knows of no death.
        let mut fresh = Survivor::new("b");
        let one_pumps = view(&[("b", &own), ("c", &partitions([]))], &[&dead]);
        assert_eq!(
            fresh.look(&one_pumps).remove(0).1,
            (4..40).collect::<Vec<_>>()
        );
        // It is at work already, also when everything else of the node was swept and it is forgotten.
        assert!(b.look(&now).is_empty());
        assert!(b.look(&view(&[("b", &own), ("c", &other)], &[])).is_empty());
        assert!(!b.is_ended("a/1"));
    }

    #[tokio::test]
    async fn it_ends_when_all_have_a_reader_or_the_node_is_back_or_it_is_too_late() {
        let dead = gone("a", DEAD, partitions(0..12));
        let begin = || {
            let mut b = Survivor::new("b");
            assert_eq!(b.look(&view(&[("b", &partitions([]))], &[&dead])).len(), 1);
            b
        };
        let mut b = begin();
        b.look(&view(&[("b", &partitions(0..8))], &[&dead]));
        assert!(!b.is_ended("a/1"), "four have none");
        b.look(&view(
            &[("b", &partitions(0..8)), ("c", &partitions(8..12))],
            &[],
        ));
        assert!(b.is_ended("a/1"));
        let mut b = begin();
        b.look(&view(
            &[("a", &partitions(0..12)), ("b", &partitions([]))],
            &[],
        ));
        assert!(b.is_ended("a/1"));
        let mut b = begin();
        let late = b.takeover.membership.times().ttl + b.takeover.options.stands_for;
        let late = gone("a", late, partitions(0..12));
        b.look(&view(&[("b", &partitions([]))], &[&late]));
        assert!(b.is_ended("a/1"));
        assert!(
            Survivor::new("b")
                .look(&view(&[("b", &partitions([]))], &[&late]))
                .is_empty()
        );
        // Another start of the same node reads nothing yet.
        let mut b = begin();
        let mut again = view(&[("a", &partitions([])), ("b", &partitions([]))], &[]);
        again.live[0].member.boot = "2".to_owned();
        b.look(&again);
        assert!(!b.is_ended("a/1"));
    }

    #[tokio::test]
    async fn who_gets_more_to_do_begins_again_and_others_wait_for_a_place() {
        let mut b = Survivor::new("b");
        let a = gone("a", DEAD, partitions(0..12));
        let none = partitions([]);
        let first = b
            .look(&view(&[("b", &none), ("c", &none)], &[&a]))
            .remove(0)
            .1;
        assert!(!first.is_empty() && first.len() < 12);
        // The other survivor dies too: its share of the duty is this one's, and it leaves partitions.
        let c = gone("c", DEAD, partitions(20..24));
        let d = gone("d", DEAD, partitions(30..34));
        let alone = view(&[("b", &none)], &[&a, &c, &d]);
        assert_eq!(b.look(&alone), [("c/1".to_owned(), (20..24).collect())]);
        assert!(b.is_ended("a/1") && !b.is_ended("c/1"));
        b.state.at_work.remove("a/1");
        assert_eq!(b.look(&alone), [("a/1".to_owned(), (0..12).collect())]);
        b.state.at_work.remove("c/1");
        b.look(&view(&[("b", &partitions(20..24))], &[&a, &d]));
        assert!(b.state.at_work.contains_key("d/1"));
    }
}
