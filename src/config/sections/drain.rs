//! `[drain]`: how a node stops.

use crate::config::section::section;
use crate::types::Span;

section! {
    /// How a node stops after SIGTERM, phase by phase. A second signal ends it at once.
    Drain = "drain" {
        /// How long the node goes on accepting while it already answers "not ready", so that a
        /// balancer can look away. Zero where there is none.
        unready: Span = Span::from_millis(0), in Span::from_millis(0) => Span::from_secs(300);
        /// The time over which sockets are told to reconnect elsewhere. Short makes all of them
        /// come to the other nodes at once.
        parting: Span = Span::from_secs(10), in Span::from_millis(0) => Span::from_secs(600);
        /// The time for work that is under way: handlers, the log, the archive.
        flushing: Span = Span::from_secs(10), in Span::from_millis(100) => Span::from_secs(600);
    }
}
