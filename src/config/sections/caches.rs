//! `[caches]`: how long what is read from the store is kept in memory.

use crate::config::section::section;
use crate::types::{ByteSize, Span};

section! {
    /// How long what is read from the store is kept in memory. A change is seen at once whatever
    /// these say, because it makes every node forget the old value.
    Caches = "caches" {
        /// Logins and revoked tokens.
        sessions: Span = Span::from_secs(86_400), in Span::from_secs(1) => Span::from_secs(7 * 86_400);
        /// Accounts.
        users: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Which account has an e-mail address.
        emails: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// When users were last seen.
        last_seen: Span = Span::from_secs(86_400), in Span::from_secs(1) => Span::from_secs(7 * 86_400);
        /// Until when users are banned.
        bans: Span = Span::from_secs(86_400), in Span::from_secs(1) => Span::from_secs(7 * 86_400);
        /// Conversations.
        conversations: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Conversations' members, to be told of what happens while they are away.
        members: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Users' lists of conversations, with the last message and what is unread.
        lists: Span = Span::from_secs(300), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Who is a member of which conversation, and in which role.
        roles: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Users' courses and buildings.
        groups: Span = Span::from_secs(1_800), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Who may see whether whom is online.
        visibility: Span = Span::from_secs(300), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Records of the operator's kinds, where the catalogue does not say otherwise.
        records: Span = Span::from_secs(900), in Span::from_secs(1) => Span::from_secs(86_400);
        /// How long it is remembered that there is no such thing.
        negative: Span = Span::from_secs(5), in Span::from_millis(0) => Span::from_secs(3_600);
        /// How much longer values are kept, to be served (marked stale) while the store does not
        /// answer. Long costs memory.
        grace: Span = Span::from_secs(3_600), in Span::from_millis(0) => Span::from_secs(86_400);
        /// How long the store may take before an expired value is served instead.
        answer_within: Span = Span::from_millis(500), in Span::from_millis(1) => Span::from_secs(60);
        /// Values kept by each cache. Beyond it the least used go; small makes for many misses.
        entries_max: usize = 50_000, in 16 => 10_000_000;
        /// Between two rounds in which the values of users who are here are read anew before they
        /// expire.
        warm_every: Span = Span::from_secs(240), in Span::from_secs(1) => Span::from_secs(86_400);
        /// Whether the nodes of a cluster share what they read from the store, in Redis. Off, each
        /// node reads for itself.
        shared: bool = true;
        /// How long a Redis shard may take to answer before the store is asked instead.
        shared_answer_within: Span = Span::from_millis(100), in Span::from_millis(1) => Span::from_secs(10);
        /// Shared values of more bytes are compressed. Small costs CPU, large costs memory of Redis.
        compress_over: ByteSize = ByteSize::new(4 << 10), in ByteSize::new(0) => ByteSize::new(1 << 20);
    }
}
