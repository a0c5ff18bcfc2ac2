//! The move of a session from polling to WebSocket: the probe is tested while data goes on by polling.

use std::rc::Rc;
use std::time::Instant;

use super::session::{Carrier, NOOP, Session};
use super::sessions::label;
use super::stream::Stream;
use super::websocket::WebSocket;
use crate::protocol::engineio::handshake::{Refusal, Transport};
use crate::protocol::engineio::packet;
use crate::protocol::engineio::session::Step;
use crate::protocol::frame::Frame;
use crate::telemetry::labels::Attempt;
use crate::telemetry::metrics;
use crate::types::CloseReason;

impl Session {
    /// May a WebSocket with this session's id be opened?
    pub(super) fn begin_probe(self: &Rc<Self>) -> Result<(), Refusal> {
        let sessions = self.sessions.upgrade().ok_or(Refusal::SessionUnknown)?;
        self.tick(Instant::now());
        if !sessions.settings().allow_upgrades {
            return Err(Refusal::BadRequest);
        }
        self.machine
            .borrow_mut()
            .probe(&sessions.settings().timing, Instant::now())?;
        sessions.watch(self);
        Ok(())
    }

    /// Tests this connection as the session's next carrier.
    pub(super) fn start_probe(self: &Rc<Self>, stream: Stream) {
        // It may come so late that its time is over; nothing would end it then but the session.
        if !self.machine.borrow().is_probing() || self.probe.borrow().is_some() {
            return;
        }
        let socket = self.new_socket(stream);
        *self.probe.borrow_mut() = Some(Rc::clone(&socket));
        self.run_socket(socket);
    }

    pub(super) fn probe_packet(&self, socket: &Rc<WebSocket>, packet: (packet::Kind, &str)) {
        let step = self.machine.borrow_mut().probe_packet(packet);
        match step {
            Step::AnswerProbe => {
                socket.send_control(Frame::text(&["3probe"]));
                self.release(NOOP);
            }
            Step::Upgraded => self.upgraded(socket),
            _ => {
                metrics::ENGINEIO_UPGRADES.of(Attempt::Failed).add(1);
                self.close_probe();
            }
        }
    }

    pub(super) fn upgraded(&self, socket: &Rc<WebSocket>) {
        self.release(NOOP);
        *self.carrier.borrow_mut() = Carrier::WebSocket(Rc::clone(socket));
        self.probe.borrow_mut().take();
        metrics::ENGINEIO_UPGRADES.of(Attempt::Ok).add(1);
        metrics::CONNECTIONS_OPEN
            .of(label(Transport::Polling))
            .down();
        metrics::CONNECTIONS_OPEN
            .of(label(Transport::WebSocket))
            .up();
        socket.serve(Rc::clone(&self.outbox));
        socket.flush();
    }

    pub(super) fn close_probe(&self) {
        if let Some(probe) = self.probe.borrow_mut().take() {
            self.machine.borrow_mut().probe_closed();
            probe.close(CloseReason::TransportClose);
        }
    }
}
