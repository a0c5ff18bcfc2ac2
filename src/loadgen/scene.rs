//! What the sockets play: the one face that the client loop sees of every scenario.

use std::ops::Range;

use super::echo::Echo;
use super::fanout::Fanout;

/// The scenario under way.
pub(super) enum Scene {
    /// Nothing is said.
    Idle,
    Fanout(Box<Fanout>),
    Echo(Box<Echo>),
}

/// Texts that sockets are to send, by socket number; carried out after each read.
pub(super) type Orders = Vec<(u32, String)>;

impl Scene {
    /// A socket's session was opened; the session as text.
    pub(super) fn opened(&mut self, socket: u32, session: &[u8]) {
        if let Self::Fanout(fanout) = self {
            fanout.opened(socket, session);
        }
    }

    /// An event arrived at a socket.
    pub(super) fn event(&mut self, socket: u32, text: &[u8], now: u64, orders: &mut Orders) {
        if let Self::Fanout(fanout) = self {
            fanout.event(socket, text, now, orders);
        }
    }

    /// An acknowledgement arrived at a socket.
    pub(super) fn ack(&mut self, ack: Ack<'_>, now: u64, orders: &mut Orders) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.ack(&ack, now, orders),
            Self::Echo(echo) => echo.ack(&ack, now, orders),
        }
    }

    /// Begins: fills the windows of a closed loop.
    pub(super) fn begin(&mut self, now: u64, orders: &mut Orders) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.begin(now, orders),
            Self::Echo(echo) => echo.begin(now, orders),
        }
    }

    /// Sends the open loop's next event, which was due at `due`.
    pub(super) fn send(&mut self, due: u64, now: u64, orders: &mut Orders) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.send_next(due, now, orders),
            Self::Echo(echo) => echo.send_next(due, now, orders),
        }
    }

    /// Abandons what has been on its way since before `moment` and fills windows again.
    pub(super) fn expire(&mut self, moment: u64, now: u64, orders: &mut Orders) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.expire(moment, now, orders),
            Self::Echo(echo) => echo.expire(moment, now, orders),
        }
    }

    /// Latencies are recorded of events that were sent in this time.
    pub(super) fn measure(&mut self, window: Range<u64>) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.measured = window,
            Self::Echo(echo) => echo.measured = window,
        }
    }

    /// Sends nothing new from now on.
    pub(super) fn stop(&mut self) {
        match self {
            Self::Idle => {}
            Self::Fanout(fanout) => fanout.is_running = false,
            Self::Echo(echo) => echo.is_running = false,
        }
    }

    /// How many events are still on their way.
    pub(super) fn open(&self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Fanout(fanout) => fanout.open(),
            Self::Echo(echo) => echo.open(),
        }
    }

    /// How many deliveries (or answers) have arrived, first copies only.
    pub(super) fn delivered(&self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Fanout(fanout) => fanout.delivered,
            Self::Echo(echo) => echo.delivered,
        }
    }

    /// How many events have been sent.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Fanout(fanout) => fanout.sent,
            Self::Echo(echo) => echo.sent,
        }
    }

    /// Deliveries that one event causes: what a rate of deliveries is divided by.
    pub(super) fn deliveries_per_event(&self) -> f64 {
        match self {
            Self::Idle | Self::Echo(_) => 1.0,
            Self::Fanout(fanout) => fanout.mean_audience(),
        }
    }
}

/// An acknowledgement as it arrived.
pub(super) struct Ack<'a> {
    pub(super) socket: u32,
    pub(super) id: u32,
    pub(super) arguments: &'a [u8],
}
