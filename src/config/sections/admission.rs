//! `[admission]`: how many clients are let in at once.

use crate::config::section::section;
use crate::types::Span;

section! {
    /// How many clients are let in at once, and sending some to nodes that have fewer.
    Admission = "admission" {
        /// Clients on their way in, from the handshake until CONNECT is answered. Beyond them a handshake
        /// is answered 503 with Retry-After. Small turns clients away that could be served, large has them wait.
        opening_max: usize = 4_096, in 1 => 1_000_000;
        /// CONNECTs worked on at once; others wait, clients that come back to a socket first. Large slows
        /// those down who are connected, while many come.
        connects_at_once: usize = 256, in 1 => 100_000;
        /// CONNECTs that may wait; beyond them the newest are sent away, to come again.
        connects_waiting: usize = 4_096, in 0 => 1_000_000;
        /// Whether a node that has more connections than the others sends clients away for some minutes
        /// after another node has joined the cluster. They come back by themselves, to whichever node the balancer chooses.
        shed: bool = true;
        /// How long after a node has joined it begins: nodes that start one after the other should all be there.
        shed_after: Span = Span::from_secs(30), in Span::from_millis(0) => Span::from_secs(3_600);
        /// Clients sent away in a second at most, for that.
        shed_per_second: u32 = 50, in 1 => 10_000;
    }
}
