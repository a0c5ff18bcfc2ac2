//! Every socket asks and is answered: what one round trip through the server costs.

use std::ops::Range;

use super::dialect::Dialect;
use super::flight::Flights;
use super::latency::Latencies;
use super::plan::{Pace, Plan};
use super::scene::{Ack, Orders};

/// The state of an echo run.
pub(super) struct Echo {
    content: String,
    /// Questions each socket keeps open; 0 in an open loop.
    window: u32,
    sockets: Vec<Socket>,
    turn: usize,
    pub(super) measured: Range<u64>,
    pub(super) is_running: bool,
    pub(super) answers: Latencies,
    pub(super) lag: Latencies,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) stalled: u64,
    pub(super) doubled: u64,
    pub(super) misordered: u64,
}

#[derive(Default)]
struct Socket {
    flights: Flights,
    next: u32,
    /// The highest number that was answered.
    answered: u32,
}

impl Echo {
    pub(super) fn new(plan: &Plan, payload_bytes: usize, pace: Pace) -> Self {
        Self {
            content: "x".repeat(payload_bytes),
            window: match pace {
                Pace::Window(window) => window,
                Pace::Rate(_) => 0,
            },
            sockets: (0..plan.connections).map(|_| Socket::default()).collect(),
            turn: 0,
            measured: 0..0,
            is_running: true,
            answers: Latencies::new(),
            lag: Latencies::new(),
            sent: 0,
            delivered: 0,
            stalled: 0,
            doubled: 0,
            misordered: 0,
        }
    }

    pub(super) fn begin(&mut self, now: u64, orders: &mut Orders) {
        for socket in 0..self.sockets.len() {
            self.fill(socket, now, orders);
        }
    }

    pub(super) fn send_next(&mut self, due: u64, now: u64, orders: &mut Orders) {
        if self.measured.contains(&due) {
            self.lag.record(now.saturating_sub(due));
        }
        let socket = self.turn;
        self.turn = (socket + 1) % self.sockets.len();
        self.ask(socket, due, orders);
    }

    pub(super) fn ack(&mut self, ack: &Ack<'_>, now: u64, orders: &mut Orders) {
        let Some(socket) = self.sockets.get_mut(ack.socket as usize) else {
            return;
        };
        let Some(landing) = socket.flights.acknowledge(ack.id) else {
            self.doubled += 1;
            return;
        };
        self.misordered += u64::from(ack.id < socket.answered);
        socket.answered = socket.answered.max(ack.id);
        self.delivered += 1;
        if self.measured.contains(&landing.at) {
            self.answers.record(now.saturating_sub(landing.at));
        }
        self.fill(ack.socket as usize, now, orders);
    }

    pub(super) fn expire(&mut self, moment: u64, now: u64, orders: &mut Orders) {
        for socket in 0..self.sockets.len() {
            self.stalled += u64::from(self.sockets[socket].flights.expire(moment));
            self.fill(socket, now, orders);
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.sockets
            .iter()
            .map(|socket| u64::from(socket.flights.open()))
            .sum()
    }

    fn fill(&mut self, socket: usize, now: u64, orders: &mut Orders) {
        while self.is_running && self.sockets[socket].flights.open() < self.window {
            self.ask(socket, now, orders);
        }
    }

    fn ask(&mut self, index: usize, at: u64, orders: &mut Orders) {
        let socket = &mut self.sockets[index];
        socket.flights.launch(at, 0, true);
        let text = Dialect::echo(&self.content, socket.next);
        socket.next += 1;
        self.sent += 1;
        orders.push((
            u32::try_from(index).expect("sockets are counted by a u32"),
            text,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_and_late_answers_are_counted() {
        let mut echo = echo(3);
        let mut orders = Orders::new();
        echo.begin(10, &mut orders);
        assert_eq!(orders.len(), 3);
        for id in [1, 0, 0, 2, 3] {
            echo.ack(
                &Ack {
                    socket: 0,
                    id,
                    arguments: b"[]",
                },
                20,
                &mut orders,
            );
        }
        assert_eq!((echo.doubled, echo.misordered, echo.delivered), (1, 1, 4));
        assert_eq!((echo.sent, echo.open()), (7, 3), "the window is kept full");
    }

    fn echo(window: u32) -> Echo {
        Echo {
            content: String::new(),
            window,
            sockets: vec![Socket::default()],
            turn: 0,
            measured: 0..u64::MAX,
            is_running: true,
            answers: Latencies::new(),
            lag: Latencies::new(),
            sent: 0,
            delivered: 0,
            stalled: 0,
            doubled: 0,
            misordered: 0,
        }
    }
}
