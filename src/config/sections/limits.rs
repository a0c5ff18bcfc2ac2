//! `[limits]`: how often somebody may do something.

use crate::config::section::section;
use crate::types::{Rate, Span};

section! {
    /// How often somebody may do something. A rate "30/1m" lets 30 pass at once and then one every
    /// 2 s. The limits of client events (messages: 30/1m for each user) are the catalogue's limiters.
    Limits = "limits" {
        /// Whether anything is limited. Off is for benchmarks and tests: then one client can take
        /// all of a node.
        enabled: bool = true;
        /// REST requests of one user, or of one address where nobody is logged in.
        api: Rate = Rate::per_secs(1_000, 3_600);
        /// REST requests of one service: a user whose token has scopes. The limits of people, "api"
        /// and "other", are not for it.
        services: Rate = Rate::per_secs(10_000, 10);
        /// Logins from one address, right or wrong ones. Bounds the guessing of passwords; too
        /// small locks out offices behind one address.
        login: Rate = Rate::per_secs(5, 300);
        /// Sign-ups from one address.
        signup: Rate = Rate::per_secs(5, 86_400);
        /// Requests of one user to one endpoint or one client event that no other limit names.
        other: Rate = Rate::per_secs(100, 60);
        /// Events of one socket, of whatever kind; more are answered "rate_limited". Bounds what one
        /// client can cost in refusals, too.
        events_per_socket: Rate = Rate::per_secs(1_000, 10);
        /// Keys (a limit and a user or address) that are remembered at once, about 48 bytes each. A
        /// crowd beyond that makes the node forget some, which are then full again.
        keys_max: usize = 1_000_000, in 1_024 => 100_000_000;
        /// Cluster mode: how long a shard may take to count. While it takes longer each node counts
        /// alone, so a user has the limit once for each node. Every message waits for this answer.
        answer_within: Span = Span::from_millis(200), in Span::from_millis(10) => Span::from_secs(5);
    }
}
