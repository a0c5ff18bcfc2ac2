//! The state machine of one session: which transport it is on, and what each request means.
//!
//! The driver owns sockets, timers and the outbox; it tells the machine what arrived and does what it
//! says. Transitions (anything not listed leaves the state as it is):
//!
//! ```text
//! Polling    --probe opened-->     Probing      data still goes by polling
//! Probing    --`5` on the probe--> WebSocket    polling requests are refused from now on
//! Probing    --probe closed, wrong packet, timeout--> Polling    only the probe is closed
//! any        --violation, timeout, close--> Closed
//! ```

use std::time::{Duration, Instant};

use super::handshake::{Refusal, Transport};
use super::heartbeat::{Beat, Heartbeat};
use super::packet::{Kind, PROBE};
use crate::types::CloseReason;

/// Times of a session.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between pings.
    pub ping_interval: Duration,
    /// For a pong.
    pub ping_timeout: Duration,
    /// From a probe's opening to its `5`.
    pub upgrade_timeout: Duration,
    /// From the opening to the first namespace.
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Polling,
    /// `is_probed` once `2probe` was answered: then parked requests are released at once.
    Probing {
        until: Instant,
        is_probed: bool,
    },
    WebSocket,
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
    connect_by: Option<Instant>,
    is_parked: bool,
    is_posting: bool,
}

/// What to do with a GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Get {
    /// Answer with what waits, or park it until something does.
    Serve,
    /// Answer with what waits, or with a noop at once.
    ServeOrNoop,
    /// A second one while one is parked: the parked one gets `1`, this one 400, the session ends.
    Duplicate,
    /// 400 with this code.
    Refuse(Refusal),
}

/// What to do with a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Read its body.
    Read,
    /// A second one at the same time: 400, and the session ends.
    Duplicate,
    /// 400 with this code.
    Refuse(Refusal),
}

/// What a packet means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing.
    Ignore,
    /// A message for the layer above.
    Message(&'a str),
    /// Answer `3probe` on the probe, and release a parked GET with a noop.
    AnswerProbe,
    /// The session is on the WebSocket from now on.
    Upgraded,
    /// Close the probe only.
    CloseProbe,
    /// Close the session.
    Close(CloseReason),
}

/// What time brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing.
    Rest,
    /// Send a ping.
    Ping,
    /// Close the probe only.
    CloseProbe,
    /// Close the session.
    Close(CloseReason),
}

impl Session {
    /// A session opened now.
    #[must_use]
    pub fn new(transport: Transport, timing: &Timing, now: Instant) -> Self {
        let state = match transport {
            Transport::Polling => State::Polling,
            Transport::WebSocket => State::WebSocket,
        };
        Self {
            state,
            heartbeat: Heartbeat::new(timing.ping_interval, now),
            connect_by: Some(now + timing.connect_timeout),
            is_parked: false,
            is_posting: false,
        }
    }

    /// The transport that data goes by.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.state {
            State::WebSocket => Transport::WebSocket,
            _ => Transport::Polling,
        }
    }

    /// True after the end.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// A namespace was joined: the connect timeout no longer counts, also not after it is left.
    pub const fn joined(&mut self) {
        self.connect_by = None;
    }

    /// A GET came.
    pub const fn get(&mut self) -> Get {
        match self.state {
            State::WebSocket => Get::Refuse(Refusal::BadRequest),
            State::Closed => Get::Refuse(Refusal::SessionUnknown),
            _ if self.is_parked => {
                self.state = State::Closed;
                Get::Duplicate
            }
            State::Probing {
                is_probed: true, ..
            } => Get::ServeOrNoop,
            _ => Get::Serve,
        }
    }

    /// The GET was not answered at once.
    pub const fn parked(&mut self) {
        self.is_parked = true;
    }

    /// The parked GET was answered.
    pub const fn released(&mut self) {
        self.is_parked = false;
    }

    /// True while a GET is parked.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        self.is_parked
    }

    /// A POST came.
    pub const fn post(&mut self) -> Post {
        match self.state {
            State::WebSocket => Post::Refuse(Refusal::BadRequest),
            State::Closed => Post::Refuse(Refusal::SessionUnknown),
            _ if self.is_posting => {
                self.state = State::Closed;
                Post::Duplicate
            }
            _ => {
                self.is_posting = true;
                Post::Read
            }
        }
    }

    /// The POST was answered.
    pub const fn posted(&mut self) {
        self.is_posting = false;
    }

    /// A WebSocket with this session's id was opened.
    ///
    /// # Errors
    /// When the session is on a WebSocket already, or another probe is under way.
    pub fn probe(&mut self, timing: &Timing, now: Instant) -> Result<(), Refusal> {
        match self.state {
            State::Polling => {
                let until = now + timing.upgrade_timeout;
                self.state = State::Probing {
                    until,
                    is_probed: false,
                };
                Ok(())
            }
            State::Closed => Err(Refusal::SessionUnknown),
            State::Probing { .. } | State::WebSocket => Err(Refusal::BadRequest),
        }
    }

    /// True from the opening of a probe to its end.
    #[must_use]
    pub const fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// The probe ended without an upgrade.
    pub const fn probe_closed(&mut self) {
        if let State::Probing { .. } = self.state {
            self.state = State::Polling;
        }
    }

    /// A text packet came by the transport that data goes by.
    pub fn packet<'a>(
        &mut self,
        (kind, rest): (Kind, &'a str),
        timing: &Timing,
        now: Instant,
    ) -> Step<'a> {
        match kind {
            _ if self.is_closed() => Step::Ignore,
            Kind::Message => Step::Message(rest),
            Kind::Pong => {
                self.heartbeat.pong(timing.ping_interval, now);
                Step::Ignore
            }
            Kind::Close => self.end(CloseReason::TransportClose),
            // Version 4 turned the direction round: only servers ask.
            Kind::Ping => self.end(CloseReason::ParseError),
            Kind::Open | Kind::Upgrade | Kind::Noop => Step::Ignore,
        }
    }

    /// A text packet came by the probe.
    pub fn probe_packet<'a>(&mut self, (kind, rest): (Kind, &'a str)) -> Step<'a> {
        match (self.state, kind) {
            (State::Probing { until, .. }, Kind::Ping) if rest == PROBE => {
                self.state = State::Probing {
                    until,
                    is_probed: true,
                };
                Step::AnswerProbe
            }
            (
                State::Probing {
                    is_probed: true, ..
                },
                Kind::Upgrade,
            ) => {
                self.state = State::WebSocket;
                Step::Upgraded
            }
            _ => {
                self.probe_closed();
                Step::CloseProbe
            }
        }
    }

    /// Ends the session.
    pub const fn close(&mut self) {
        self.state = State::Closed;
    }

    /// What is due now. Also asked when a request arrives, since a timer may be late.
    pub fn tick(&mut self, timing: &Timing, now: Instant) -> Tick {
        if self.is_closed() {
            return Tick::Rest;
        }
        if self.connect_by.is_some_and(|by| now >= by) {
            self.state = State::Closed;
            return Tick::Close(CloseReason::ConnectTimeout);
        }
        match self.heartbeat.tick(timing.ping_timeout, now) {
            Beat::Dead => {
                self.state = State::Closed;
                return Tick::Close(CloseReason::PingTimeout);
            }
            Beat::Ping => return Tick::Ping,
            Beat::Rest => {}
        }
        if let State::Probing { until, .. } = self.state
            && now >= until
        {
            self.state = State::Polling;
            return Tick::CloseProbe;
        }
        Tick::Rest
    }

    /// When [`Session::tick`] has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Instant {
        let mut next = self.heartbeat.next();
        if let Some(by) = self.connect_by {
            next = next.min(by);
        }
        if let State::Probing { until, .. } = self.state {
            next = next.min(until);
        }
        next
    }

    const fn end(&mut self, reason: CloseReason) -> Step<'static> {
        self.state = State::Closed;
        Step::Close(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMING: Timing = Timing {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        upgrade_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(1000),
    };

    fn polling() -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(Transport::Polling, &TIMING, now), now)
    }

    #[test]
    fn one_get_is_parked_and_a_second_ends_the_session() {
        let (mut session, _) = polling();
        assert_eq!(session.get(), Get::Serve);
        session.parked();
        session.released();
        assert_eq!(session.get(), Get::Serve);
        session.parked();
        assert_eq!(session.get(), Get::Duplicate);
        assert_eq!(session.get(), Get::Refuse(Refusal::SessionUnknown));
    }

    #[test]
    fn posts_come_one_at_a_time() {
        let (mut session, _) = polling();
        assert_eq!(session.post(), Post::Read);
        session.posted();
        assert_eq!(session.post(), Post::Read);
        assert_eq!(session.post(), Post::Duplicate);
        assert!(session.is_closed());
    }

    #[test]
    fn an_upgrade_moves_the_session_once() {
        let (mut session, now) = polling();
        session.probe(&TIMING, now).unwrap();
        assert_eq!(session.probe(&TIMING, now), Err(Refusal::BadRequest));
        assert_eq!(session.get(), Get::Serve, "not probed yet");
        assert_eq!(
            session.probe_packet((Kind::Ping, "probe")),
            Step::AnswerProbe
        );
        assert_eq!(session.get(), Get::ServeOrNoop);
        assert_eq!(
            session.get(),
            Get::ServeOrNoop,
            "every request during an upgrade"
        );
        assert_eq!(
            session.transport(),
            Transport::Polling,
            "data still goes by polling"
        );
        assert_eq!(session.probe_packet((Kind::Upgrade, "")), Step::Upgraded);
        assert_eq!(session.transport(), Transport::WebSocket);
        assert_eq!(session.get(), Get::Refuse(Refusal::BadRequest));
        assert_eq!(session.post(), Post::Refuse(Refusal::BadRequest));
        assert_eq!(session.probe(&TIMING, now), Err(Refusal::BadRequest));
    }

    #[test]
    fn a_bad_probe_leaves_the_session_alone() {
        for packet in [
            (Kind::Message, "x"),
            (Kind::Upgrade, ""),
            (Kind::Ping, ""),
            (Kind::Close, ""),
        ] {
            let (mut session, now) = polling();
            session.probe(&TIMING, now).unwrap();
            assert_eq!(session.probe_packet(packet), Step::CloseProbe, "{packet:?}");
            assert_eq!(session.get(), Get::Serve);
            assert!(
                session.probe(&TIMING, now).is_ok(),
                "and may be tried again"
            );
        }
    }

    #[test]
    fn an_unfinished_upgrade_is_given_up() {
        let (mut session, now) = polling();
        session.probe(&TIMING, now).unwrap();
        assert_eq!(session.next_tick(), now + TIMING.upgrade_timeout);
        assert_eq!(
            session.tick(&TIMING, now + TIMING.upgrade_timeout),
            Tick::CloseProbe
        );
        assert_eq!(session.get(), Get::Serve);
    }

    #[test]
    fn a_client_may_not_ask_and_may_leave() {
        let (mut session, now) = polling();
        let step = session.packet((Kind::Ping, ""), &TIMING, now);
        assert_eq!(step, Step::Close(CloseReason::ParseError));
        let mut session = Session::new(Transport::WebSocket, &TIMING, now);
        let step = session.packet((Kind::Close, ""), &TIMING, now);
        assert_eq!(step, Step::Close(CloseReason::TransportClose));
        assert_eq!(
            session.packet((Kind::Message, "x"), &TIMING, now),
            Step::Ignore
        );
    }

    #[test]
    fn the_connect_timeout_counts_until_a_namespace_is_joined() {
        let (mut session, now) = polling();
        let mut joined = Session::new(Transport::Polling, &TIMING, now);
        joined.joined();
        for ms in [300, 700] {
            let at = now + Duration::from_millis(ms);
            for session in [&mut session, &mut joined] {
                assert_eq!(session.tick(&TIMING, at), Tick::Ping);
                session.packet((Kind::Pong, ""), &TIMING, at + Duration::from_millis(100));
            }
        }
        let late = now + Duration::from_millis(1000);
        assert_eq!(
            session.tick(&TIMING, late),
            Tick::Close(CloseReason::ConnectTimeout)
        );
        assert_eq!(joined.tick(&TIMING, late), Tick::Rest);
    }

    #[test]
    fn a_sleeping_session_is_small() {
        assert!(size_of::<Session>() <= 72, "{}", size_of::<Session>());
    }

    proptest! {
        #[test]
        fn whatever_comes_the_end_is_final(inputs in proptest::collection::vec(0..12_u8, 0..60)) {
            let (mut session, mut now) = polling();
            let mut was_websocket = false;
            for input in inputs {
                let was_closed = session.is_closed();
                now += Duration::from_millis(40);
                match input {
                    0 => if session.get() == Get::Serve { session.parked() },
                    1 => session.released(),
                    2 => drop(session.post()),
                    3 => session.posted(),
                    4 => drop(session.probe(&TIMING, now)),
                    5 => drop(session.probe_packet((Kind::Ping, "probe"))),
                    6 => drop(session.probe_packet((Kind::Upgrade, ""))),
                    7 => session.probe_closed(),
                    8 => drop(session.packet((Kind::Pong, ""), &TIMING, now)),
                    9 => drop(session.packet((Kind::Close, ""), &TIMING, now)),
                    10 => drop(session.tick(&TIMING, now)),
                    _ => session.joined(),
                }
                prop_assert!(!was_closed || session.is_closed());
                was_websocket |= session.transport() == Transport::WebSocket;
                if was_websocket && !session.is_closed() {
                    prop_assert_eq!(session.transport(), Transport::WebSocket);
                }
            }
        }
    }
}
