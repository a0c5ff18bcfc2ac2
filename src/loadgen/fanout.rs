//! Some members of each room publish, all of them receive, everything is checked.
//!
//! Socket `s` is in room `s % rooms`; the first sockets of a room are its publishers. In a closed
//! loop an event's place in the window is free again when every member has it (and the server has
//! acknowledged it, if it does that). In an open loop the publishers take turns; an event's time is
//! when it was due, so a generator that comes late makes its server look slower, never faster.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::check::{Checker, Seen};
use super::dialect::{Dialect, Node, outcome};
use super::flight::Flights;
use super::latency::Latencies;
use super::plan::{Pace, Plan};
use super::scene::{Ack, Orders};
use super::stamp::{Stamp, Stamps};

/// The state of a fan-out run.
pub(super) struct Fanout {
    dialect: Dialect,
    rooms: Vec<String>,
    payload_bytes: usize,
    /// Events each publisher keeps on their way; 0 in an open loop.
    window: Vec<u32>,
    stamps: Stamps,
    flights: Vec<Flights>,
    /// Whose turn it is in an open loop.
    turn: usize,
    pub(super) measured: Range<u64>,
    pub(super) is_running: bool,
    pub(super) checker: Checker,
    /// Where each socket's session is, if that is known.
    nodes: Vec<Option<Node>>,
    pub(super) deliveries: Latencies,
    /// Those to members on another node than the publisher.
    pub(super) elsewhere: Latencies,
    pub(super) acks: Latencies,
    /// How late the open loop's events were sent.
    pub(super) lag: Latencies,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) acknowledged: u64,
    pub(super) stalled: u64,
    pub(super) refused: BTreeMap<String, u64>,
    /// Events that carry no stamp of this run.
    pub(super) foreign: u64,
}

/// What a fan-out run is made of.
pub(super) struct Casting {
    pub(super) publishers: u32,
    pub(super) payload_bytes: usize,
    pub(super) pace: Pace,
    pub(super) run: u16,
    pub(super) rooms: Vec<String>,
}

impl Fanout {
    pub(super) fn new(plan: &Plan, casting: Casting) -> Self {
        let Casting {
            publishers,
            payload_bytes,
            pace,
            run,
            rooms,
        } = casting;
        let sources = (publishers * plan.rooms) as usize;
        // Publisher `p` is the `p / rooms`-th of its room; the first ones take what does not divide.
        let share = |lane: u32| match pace {
            Pace::Window(window) => window / publishers + u32::from(lane < window % publishers),
            Pace::Rate(_) => 0,
        };
        Self {
            dialect: plan.target.dialect,
            rooms,
            payload_bytes,
            window: (0..publishers * plan.rooms)
                .map(|p| share(p / plan.rooms))
                .collect(),
            stamps: Stamps::new(run),
            flights: (0..sources).map(|_| Flights::default()).collect(),
            turn: 0,
            measured: 0..0,
            is_running: true,
            checker: Checker::new(plan.connections, plan.rooms, publishers),
            nodes: vec![None; plan.connections as usize],
            deliveries: Latencies::new(),
            elsewhere: Latencies::new(),
            acks: Latencies::new(),
            lag: Latencies::new(),
            sent: 0,
            delivered: 0,
            acknowledged: 0,
            stalled: 0,
            refused: BTreeMap::new(),
            foreign: 0,
        }
    }

    pub(super) fn opened(&mut self, socket: u32, session: &[u8]) {
        self.nodes[socket as usize] = self.dialect.node(session);
    }

    /// How many different nodes the sockets are on, as far as that is known.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.iter().flatten().collect::<BTreeSet<_>>().len()
    }

    pub(super) fn begin(&mut self, now: u64, orders: &mut Orders) {
        for source in 0..self.flights.len() {
            self.fill(source, now, orders);
        }
    }

    pub(super) fn send_next(&mut self, due: u64, now: u64, orders: &mut Orders) {
        if self.measured.contains(&due) {
            self.lag.record(now.saturating_sub(due));
        }
        let source = self.turn;
        self.turn = (source + 1) % self.flights.len();
        self.publish(source, due, orders);
    }

    pub(super) fn event(&mut self, member: u32, text: &[u8], now: u64, orders: &mut Orders) {
        if !self.dialect.is_delivery(text) {
            return;
        }
        let Some(Stamp { publisher, seq, at }) = self.stamps.find(text) else {
            self.foreign += 1;
            return;
        };
        if self.checker.arrive(member, publisher, seq) != Seen::Fresh {
            return;
        }
        self.delivered += 1;
        if self.measured.contains(&at) {
            self.deliveries.record(now.saturating_sub(at));
            let (here, there) = (
                self.nodes[member as usize],
                self.nodes[usize::from(publisher)],
            );
            if here.is_some() && there.is_some() && here != there {
                self.elsewhere.record(now.saturating_sub(at));
            }
        }
        let source = usize::from(publisher);
        if self.flights[source]
            .deliver(seq)
            .is_some_and(|landing| landing.is_done)
        {
            self.fill(source, now, orders);
        }
    }

    pub(super) fn ack(&mut self, ack: &Ack<'_>, now: u64, orders: &mut Orders) {
        let source = ack.socket as usize;
        let (Some(flights), Some(seq)) = (self.flights.get_mut(source), ack.id.checked_sub(1))
        else {
            return;
        };
        if let Err(code) = outcome(ack.arguments) {
            // The place in the window stays empty until the next sweep: a server that refuses
            // because it is overloaded is not asked again at once.
            flights.abandon(seq);
            self.checker.refuse(source_id(source), seq);
            *self.refused.entry(code).or_default() += 1;
            return;
        }
        let Some(landing) = flights.acknowledge(seq) else {
            return;
        };
        self.acknowledged += 1;
        if self.measured.contains(&landing.at) {
            self.acks.record(now.saturating_sub(landing.at));
        }
        if landing.is_done {
            self.fill(source, now, orders);
        }
    }

    pub(super) fn expire(&mut self, moment: u64, now: u64, orders: &mut Orders) {
        for source in 0..self.flights.len() {
            self.stalled += u64::from(self.flights[source].expire(moment));
            self.fill(source, now, orders);
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.flights
            .iter()
            .map(|flights| u64::from(flights.open()))
            .sum()
    }

    pub(super) fn mean_audience(&self) -> f64 {
        let sum: u64 = (0..self.flights.len())
            .map(|source| u64::from(self.checker.audience(source_id(source))))
            .sum();
        sum as f64 / self.flights.len() as f64
    }

    fn fill(&mut self, source: usize, now: u64, orders: &mut Orders) {
        while self.is_running && self.flights[source].open() < self.window[source] {
            self.publish(source, now, orders);
        }
    }

    fn publish(&mut self, source: usize, at: u64, orders: &mut Orders) {
        let publisher = source_id(source);
        let seq = self.checker.send(publisher);
        let receivers = self.checker.audience(publisher);
        self.flights[source].launch(at, receivers, self.dialect.acknowledges());
        let content = self
            .stamps
            .content(Stamp { publisher, seq, at }, self.payload_bytes);
        let room = &self.rooms[source % self.rooms.len()];
        self.sent += 1;
        orders.push((
            u32::from(publisher),
            self.dialect.publish(room, &content, seq),
        ));
    }
}

fn source_id(source: usize) -> u16 {
    u16::try_from(source).expect("the plan allows at most 65,535 publishers")
}
