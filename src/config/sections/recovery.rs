//! `[recovery]`: clients that come back as if they had not been away.

use crate::config::section::section;
use crate::types::Span;

section! {
    /// Clients that come back as if they had not been away: Socket.IO's connection state recovery.
    Recovery = "recovery" {
        /// Whether clients are given what they need for it: a private id, and an offset behind the arguments
        /// of each event.
        enabled: bool = true;
        /// How long a client may be away. Long keeps more sockets in memory.
        window: Span = Span::from_secs(120), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Sockets of one node that clients can come back to, in embedded mode those included that are away.
        /// Others work as usual and begin anew.
        sessions_max: usize = 200_000, in 0 => 10_000_000;
        /// Events that a client may have missed; who missed more begins anew. They are held in memory
        /// while they are sent.
        events_max: usize = 10_000, in 1 => 1_000_000;
    }
}
