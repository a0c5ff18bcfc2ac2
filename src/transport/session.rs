//! One session: the state machine, its outbox, and whatever carries it now.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::polling::{Answer, give};
use super::sessions::{Sessions, label};
use super::stream::Stream;
use super::websocket::{Route, WebSocket};
use crate::lifecycle::admission::Opening;
use crate::protocol::engineio::handshake::{Transport, open_packet};
use crate::protocol::engineio::packet;
use crate::protocol::engineio::session::{self as machine, Step, Tick};
use crate::protocol::frame::Frame;
use crate::rooms::{Link, Outbox};
use crate::server::{Client, Handshake};
use crate::telemetry::labels::{Attempt, Packet};
use crate::telemetry::metrics;
use crate::types::{CloseReason, SessionId};

/// What carries a session.
pub(super) enum Carrier {
    /// Long-polling, with the GET that waits for packets.
    Polling(Option<oneshot::Sender<Answer>>),
    WebSocket(Rc<WebSocket>),
}

/// One Engine.IO session.
pub(super) struct Session {
    pub(super) me: Weak<Self>,
    pub(super) id: SessionId,
    pub(super) sessions: Weak<Sessions>,
    pub(super) machine: RefCell<machine::Session>,
    pub(super) carrier: RefCell<Carrier>,
    pub(super) probe: RefCell<Option<Rc<WebSocket>>>,
    pub(super) outbox: Rc<Outbox>,
    pub(super) client: Rc<Client>,
    opened: Instant,
    pub(super) is_over: Cell<bool>,
    /// The client ended it; a GET that comes late is only let go.
    pub(super) is_goodbye: Cell<bool>,
    /// What its last GET was stamped with, and whether that ever changed.
    pub(super) stamp: Cell<(Option<u64>, bool)>,
    /// It waits for its last acks: an event that is taken in now could not be answered.
    is_parting: Cell<bool>,
}

/// How long after its handshake a client that says nothing counts as on its way in. Stock clients send CONNECT
/// as soon as they have the answer.
pub(super) const OPENING_FOR: Duration = Duration::from_secs(5);
/// An Engine.IO ping.
const PING: &str = "2";
pub(super) const CLOSE: &str = "1";
pub(super) const NOOP: &str = "6";

impl Session {
    pub(super) fn open(
        sessions: &Weak<Sessions>,
        (id, transport): (SessionId, Transport),
        handshake: (Handshake, Opening),
    ) -> Rc<Self> {
        let owner = sessions
            .upgrade()
            .expect("sessions are opened by their owner");
        let settings = owner.settings();
        let outbox = Outbox::new(settings.outbox);
        let client = Client::new(owner.local(), Rc::clone(&outbox), handshake);
        let opened = Instant::now();
        let machine = machine::Session::new(transport, &settings.timing, opened);
        let session = Rc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            sessions: sessions.clone(),
            machine: RefCell::new(machine),
            carrier: RefCell::new(Carrier::Polling(None)),
            probe: RefCell::new(None),
            outbox,
            client,
            opened,
            is_over: Cell::new(false),
            is_goodbye: Cell::new(false),
            stamp: Cell::new((None, false)),
            is_parting: Cell::new(false),
        });
        let link: Rc<dyn Link> = Rc::clone(&session) as Rc<dyn Link>;
        session.outbox.connect(Rc::downgrade(&link));
        metrics::CONNECTIONS_OPEN.of(label(transport)).up();
        session
    }

    /// The packet that opens it.
    pub(super) fn open_packet(&self) -> String {
        let Some(sessions) = self.sessions.upgrade() else {
            return String::new();
        };
        let is_polling = self.machine.borrow().transport() == Transport::Polling;
        let settings = sessions.settings();
        let can_upgrade = is_polling
            && settings.allow_upgrades
            && settings.transports.contains(&Transport::WebSocket);
        open_packet(self.id.as_str(), can_upgrade, &sessions.parameters())
    }

    /// Carries a new session by this connection from the start.
    pub(super) fn start_websocket(self: &Rc<Self>, stream: Stream) {
        let socket = self.new_socket(stream);
        *self.carrier.borrow_mut() = Carrier::WebSocket(Rc::clone(&socket));
        socket.serve(Rc::clone(&self.outbox));
        self.send_text(&self.open_packet());
        self.outbox.flush();
        self.run_socket(socket);
    }

    /// What time brings.
    pub(super) fn tick(&self, now: Instant) {
        if now.duration_since(self.opened) >= OPENING_FOR {
            self.client.is_slow();
        }
        let Some(sessions) = self.sessions.upgrade() else {
            return;
        };
        if self.client.has_joined() {
            self.machine.borrow_mut().joined();
        }
        let tick = self
            .machine
            .borrow_mut()
            .tick(&sessions.settings().timing, now);
        match tick {
            Tick::Rest => {}
            Tick::Ping => self.send_text(PING),
            Tick::CloseProbe => {
                metrics::ENGINEIO_UPGRADES.of(Attempt::TimedOut).add(1);
                self.close_probe();
            }
            Tick::Close(reason) => self.close(reason),
        }
    }

    pub(super) fn next_tick(&self) -> Instant {
        self.machine.borrow().next_tick()
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Takes in nothing more and resolves when no event is in flight.
    pub(super) async fn answered(&self) {
        self.is_parting.set(true);
        poll_fn(|context| {
            let is_idle = self.is_over.get() || self.client.is_idle(context.waker());
            if is_idle {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Asks the client to go elsewhere, after an upgrade that is under way: a stock client whose session ends in the
    /// middle of one hears nothing on either connection, and comes back only when it has missed a ping.
    pub(super) async fn part(self: Rc<Self>, reason: CloseReason) {
        let end = Instant::now() + UPGRADED_WITHIN;
        while self.probe.borrow().is_some() && !self.is_over() && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.end(&self, reason);
        }
    }

    /// Whether it can be asked to go elsewhere.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_over() && !self.is_parting.get() && self.client.has_joined()
    }

    /// The end, from the reaper.
    pub(super) fn finish(&self, reason: CloseReason) {
        if self.is_over.replace(true) {
            return;
        }
        tracing::debug!(session = &self.id.as_str()[..5], %reason, "session closed");
        metrics::CONNECTIONS_CLOSED.of(reason).add(1);
        self.machine.borrow_mut().close();
        self.client.close(reason);
        self.close_probe();
        let (parked, transport) = match &mut *self.carrier.borrow_mut() {
            Carrier::WebSocket(socket) => {
                socket.close(reason);
                (None, Transport::WebSocket)
            }
            Carrier::Polling(parked) => (parked.take(), Transport::Polling),
        };
        metrics::CONNECTIONS_OPEN.of(label(transport)).down();
        match (transport, parked) {
            (Transport::Polling, Some(parked)) => {
                self.machine.borrow_mut().released();
                let is_last = self.outbox.is_empty();
                // A client that said goodbye itself only needs its request back.
                let words = match reason {
                    CloseReason::TransportClose => NOOP.to_owned(),
                    _ => self.last_words(&[CLOSE]),
                };
                give(parked, Answer::Packets(words));
                if is_told(reason) && !is_last {
                    self.linger(LINGER);
                } else {
                    self.leave_map();
                }
            }
            (Transport::Polling, None) if is_told(reason) => self.linger(LINGER),
            // Its GET may have been overtaken by the POST that said goodbye.
            (Transport::Polling, None) if reason == CloseReason::TransportClose => {
                self.outbox.close();
                self.is_goodbye.set(true);
                self.linger(OVERTAKEN);
            }
            _ => self.leave_map(),
        }
    }

    pub(super) fn new_socket(&self, stream: Stream) -> Rc<WebSocket> {
        let max = self
            .sessions
            .upgrade()
            .map_or(0, |sessions| sessions.settings().payload_max);
        WebSocket::new(stream, max)
    }

    pub(super) fn run_socket(self: &Rc<Self>, socket: Rc<WebSocket>) {
        let route: Rc<dyn Route> = Rc::clone(self) as Rc<dyn Route>;
        drop(tokio::task::spawn_local(socket.run(route)));
    }

    pub(super) fn send_text(&self, packet: &str) {
        if let Some(sessions) = self.sessions.upgrade() {
            sessions
                .local()
                .hub()
                .send(&self.outbox, Frame::text(&[packet]));
        }
    }

    /// An attachment.
    pub(super) fn attachment(&self, data: Bytes) -> Result<(), CloseReason> {
        if self.is_parting.get() {
            return Ok(());
        }
        self.client.binary(data)
    }

    pub(super) fn packet(&self, packet: (packet::Kind, &str)) -> Result<(), CloseReason> {
        let sessions = self.sessions.upgrade().ok_or(CloseReason::TransportClose)?;
        if let Some(kind) = counted(packet.0) {
            metrics::PACKETS_RECEIVED.of(kind).add(1);
        }
        let timing = &sessions.settings().timing;
        let step = match packet {
            // Nearly every packet is one of these two; only the pong needs the time.
            (packet::Kind::Pong, _) => {
                self.machine
                    .borrow_mut()
                    .packet(packet, timing, Instant::now())
            }
            _ => self
                .machine
                .borrow_mut()
                .packet(packet, timing, sessions.started()),
        };
        match step {
            Step::Message(_) if self.is_parting.get() => Ok(()),
            Step::Message(text) => self.client.text(text),
            Step::Close(reason) => Err(reason),
            Step::Ignore | Step::AnswerProbe | Step::Upgraded | Step::CloseProbe => Ok(()),
        }
    }

    pub(super) fn leave_map(&self) {
        match &*self.carrier.borrow() {
            // It lets the last frames out by itself.
            Carrier::WebSocket(_) => self.outbox.seal(),
            Carrier::Polling(_) => self.outbox.close(),
        }
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.forget(&self.id);
        }
    }

    /// Stays known for a while, so that the client's next GET hears of the end.
    pub(super) fn linger(&self, time: Duration) {
        let Some(session) = self.me.upgrade() else {
            return;
        };
        drop(tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            session.leave_map();
        }));
    }
}

/// How a packet is counted here; a message is counted as what it carries.
const fn counted(kind: packet::Kind) -> Option<Packet> {
    match kind {
        packet::Kind::Close => Some(Packet::Close),
        packet::Kind::Ping => Some(Packet::Ping),
        packet::Kind::Pong => Some(Packet::Pong),
        packet::Kind::Upgrade => Some(Packet::Upgrade),
        packet::Kind::Open | packet::Kind::Noop => Some(Packet::Noop),
        packet::Kind::Message => None,
    }
}

/// As long as the reference server waits for a last GET.
const LINGER: Duration = Duration::from_secs(30);

/// A request that was sent together with another arrives within this, or is lost.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// Ends that a polling client is still to be told of; after the others it is gone or at fault.
const fn is_told(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ForcedServerClose
            | CloseReason::ServerShuttingDown
            | CloseReason::Rebalanced
            | CloseReason::SessionRevoked
            | CloseReason::TakenOver
    )
}

/// Ends after which the client is to come back at once.
const fn comes_again(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ServerShuttingDown
            | CloseReason::Rebalanced
            | CloseReason::Interrupted
            | CloseReason::Unavailable
    )
}

/// How long such an end waits for an upgrade that is under way.
const UPGRADED_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Link for Session {
    fn drain(&self) {
        let socket = match &*self.carrier.borrow() {
            Carrier::WebSocket(socket) => Some(Rc::clone(socket)),
            Carrier::Polling(_) => None,
        };
        if let Some(socket) = socket {
            socket.flush();
        } else if !self.outbox.is_empty()
            && let Some(parked) = self.take_parked()
        {
            self.hand_over(parked);
        }
    }

    fn close(&self, reason: CloseReason) {
        let (Some(sessions), Some(me)) = (self.sessions.upgrade(), self.me.upgrade()) else {
            return;
        };
        if comes_again(reason) && self.probe.borrow().is_some() {
            drop(tokio::task::spawn_local(me.part(reason)));
        } else {
            sessions.end(&me, reason);
        }
    }

    fn is_writable(&self) -> bool {
        match &*self.carrier.borrow() {
            Carrier::WebSocket(socket) => socket.is_writable(),
            Carrier::Polling(parked) => parked.is_some(),
        }
    }
}

impl Session {
    fn is_main(&self, socket: &Rc<WebSocket>) -> bool {
        match &*self.carrier.borrow() {
            Carrier::WebSocket(main) => Rc::ptr_eq(main, socket),
            Carrier::Polling(_) => false,
        }
    }
}

impl Route for Session {
    fn text(&self, socket: &Rc<WebSocket>, text: &str) -> Result<(), CloseReason> {
        let decoded = packet::decode(text);
        if self.is_main(socket) {
            return self.packet(decoded.map_err(|_| CloseReason::ParseError)?);
        }
        match decoded {
            Ok(packet) => self.probe_packet(socket, packet),
            Err(_) => self.close_probe(),
        }
        Ok(())
    }

    fn binary(&self, socket: &Rc<WebSocket>, data: Bytes) -> Result<(), CloseReason> {
        if self.is_main(socket) {
            return self.attachment(data);
        }
        self.close_probe();
        Ok(())
    }

    fn is_paused(&self, waker: &Waker) -> bool {
        self.client.is_paused(waker)
    }

    fn ended(&self, socket: &Rc<WebSocket>, reason: CloseReason) {
        if self.is_main(socket) {
            self.close(reason);
        } else {
            self.close_probe();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sessions::Settings;
    use super::*;
    use crate::lifecycle::admission::Bounds;
    use crate::lifecycle::{Admission, Deadlines, drain};
    use crate::protocol::engineio::session::Timing;
    use crate::rooms::Limits;
    use crate::server::{Io, Local, Mailboxes, Options, Server};
    use crate::types::{NodeId, Timestamp};

    fn sessions() -> Rc<Sessions> {
        let (mailboxes, _) = Mailboxes::new(1, 8);
        let io = Io::new(mailboxes, Server::new());
        let options = Options {
            in_flight_max: 8,
            attachments_max: 1,
            attachment_bytes_max: 100,
        };
        let local = Local::install(0, io, Server::new(), options);
        let second = Duration::from_secs(1);
        let settings = Settings {
            path: "/socket.io/".to_owned(),
            timing: Timing {
                ping_interval: 25 * second,
                ping_timeout: 20 * second,
                upgrade_timeout: 10 * second,
                connect_timeout: 45 * second,
            },
            payload_max: 100_000,
            body_within: second,
            transports: vec![Transport::Polling, Transport::WebSocket],
            allow_upgrades: true,
            outbox: Limits {
                frames_max: 100,
                bytes_max: 100_000,
            },
            node: NodeId::parse("n").unwrap(),
            peers: None,
            admission: Admission::new(Bounds::default()),
        };
        Sessions::install(&local, settings, drain::new(Deadlines::default()).1)
    }

    fn polling(sessions: &Sessions) -> Rc<Session> {
        let address = [127, 0, 0, 1].into();
        let request = ("", std::iter::empty());
        let handshake = Handshake::new(address, false, Timestamp::default(), request);
        let opening = sessions.settings().admission.open().unwrap();
        sessions.open(Transport::Polling, (handshake, opening))
    }

    /// Runs `act`, then lets ends happen.
    async fn with_reaper(sessions: &Rc<Sessions>, act: impl FnOnce()) {
        let tasks = tokio::task::LocalSet::new();
        let running = Rc::clone(sessions);
        tasks.spawn_local(async move { running.run().await });
        tasks
            .run_until(async {
                tokio::task::yield_now().await;
                act();
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            })
            .await;
    }

    fn asked(session: &Session) -> String {
        let (reply, mut answer) = oneshot::channel();
        session.get(reply);
        match answer.try_recv() {
            Ok(Answer::Packets(packets)) => packets,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn frames_for_a_request_that_is_gone_end_the_session() {
        let sessions = sessions();
        let session = polling(&sessions);
        with_reaper(&sessions, || {
            let (reply, answer) = oneshot::channel();
            session.get(reply);
            // The word of it is lost, or still on its way from another worker.
            drop(answer);
            session.send_text("4x");
            session.outbox.flush();
        })
        .await;
        assert!(session.is_over() && sessions.find(&session.id).is_none());
    }

    #[tokio::test]
    async fn packets_that_a_dropped_request_took_along_end_the_session() {
        for has_lost in [false, true] {
            let sessions = sessions();
            let session = polling(&sessions);
            with_reaper(&sessions, || session.get_dropped(has_lost)).await;
            assert_eq!(session.is_over(), has_lost);
        }
    }

    #[tokio::test]
    async fn a_get_that_somebody_on_the_way_repeats_ends_the_session() {
        for (opened, stamps, is_over) in [
            (None, &[Some(1), Some(2), Some(2)][..], true),
            (None, &[Some(1), Some(2), Some(1)], false),
            // The first one carries the answer to CONNECT.
            (Some(0), &[Some(1), Some(1)], true),
            // Means nothing by it, or has none.
            (None, &[Some(1), Some(1), Some(1)], false),
            (Some(1), &[Some(1), Some(1)], false),
            (None, &[None, None], false),
        ] {
            let sessions = sessions();
            let session = polling(&sessions);
            session.opened_with(opened);
            with_reaper(&sessions, || {
                for stamp in stamps {
                    session.send_text("4x");
                    let (reply, answer) = oneshot::channel();
                    session.get_stamped(reply, *stamp);
                    drop(answer);
                }
            })
            .await;
            assert_eq!(session.is_over(), is_over, "{stamps:?}");
        }
    }

    #[tokio::test]
    async fn the_end_is_told_after_everything_that_waits() {
        let sessions = sessions();
        let session = polling(&sessions);
        let mut answers = Vec::new();
        with_reaper(&sessions, || {
            (0..40).for_each(|_| session.send_text("4x"));
            session.close(CloseReason::ServerShuttingDown);
        })
        .await;
        with_reaper(&sessions, || {
            while sessions.find(&session.id).is_some() {
                answers.push(asked(&session));
            }
        })
        .await;
        let end = answers.pop().unwrap();
        assert_eq!(end, "6\u{1e}1");
        assert_eq!(answers.join("\u{1e}").matches("4x").count(), 40);
        assert!(answers.iter().all(|answer| !answer.ends_with('1')));
    }

    /// A stock client that reads events and the end in one answer has the end first.
    #[tokio::test]
    async fn a_waiting_request_brings_either_packets_or_the_end() {
        for (reason, is_told) in [
            (CloseReason::Rebalanced, true),
            (CloseReason::ForcedServerClose, true),
            (CloseReason::Interrupted, false),
        ] {
            let sessions = sessions();
            let session = polling(&sessions);
            let (reply, mut answer) = oneshot::channel();
            with_reaper(&sessions, || {
                session.get(reply);
                session.send_text("4x");
                session.close(reason);
            })
            .await;
            let Ok(Answer::Packets(packets)) = answer.try_recv() else {
                panic!("{reason}");
            };
            assert_eq!(packets, "4x", "{reason}");
            // Who is not told finds nothing here any more.
            assert_eq!(sessions.find(&session.id).is_some(), is_told, "{reason}");
            if is_told {
                assert_eq!(asked(&session), "6\u{1e}1");
            }
        }
        let sessions = sessions();
        let session = polling(&sessions);
        let (reply, mut answer) = oneshot::channel();
        with_reaper(&sessions, || {
            session.get(reply);
            session.close(CloseReason::Rebalanced);
        })
        .await;
        assert!(matches!(answer.try_recv(), Ok(Answer::Packets(words)) if words == "1"));
    }
}
