//! A socket in the place of another, and the end of the other.

use super::{Socket, State};
use crate::types::{CloseReason, PrivateId, SocketId};

impl Socket {
    /// Lets a socket that is about to enter take the place of one that is over, as
    /// [`admit`](Self::admit) does.
    pub fn resume(&self, id: SocketId) -> bool {
        if self.state() == State::Connecting {
            self.0.member.resume(id);
        }
        self.admit()
    }

    /// What its client is told to come back by; before it has entered, and once.
    pub fn set_private_id(&self, id: PrivateId) {
        self.0.private_id.get_or_init(|| id);
    }

    pub(in crate::server) fn private_id(&self) -> Option<&str> {
        self.0.private_id.get().map(PrivateId::as_str)
    }

    pub(in crate::server) fn begins_anew(&self, reason: Option<&'static str>) {
        self.0.not_resumed.set(reason);
    }

    /// Why it does not take the place of the socket that its client asked for.
    #[must_use]
    pub fn not_resumed(&self) -> Option<&'static str> {
        self.0.not_resumed.get()
    }

    /// Another connection took its place: it ends at once, whatever its transport still has to say.
    pub fn taken_over(&self) {
        self.end(CloseReason::TakenOver);
        if let Some(client) = self.0.client.upgrade() {
            client.forget(self);
            client.disconnect_all(CloseReason::TakenOver);
        }
    }
}
