//! `[timeline]`: the recent events of each room.

use crate::config::section::section;
use crate::types::Span;

section! {
    /// The recent events of each room, from which reconnecting clients are served.
    Timeline = "timeline" {
        /// Events kept per room. Few sends reconnecting clients to the archive, many costs memory
        /// for each active room.
        entries_max: usize = 1_000, in 1 => 1_000_000;
        /// How long events are kept.
        ttl: Span = Span::from_secs(3_600), in Span::from_secs(1) => Span::from_secs(30 * 86_400);
        /// Events kept per room in any case, however old. Not more than entries_max.
        keep_min: usize = 50, in 0 => 100_000;
        /// How long a client's message id is remembered, so that a retry is the same message.
        /// Shorter than a client's longest retry and a message can appear twice.
        dedup_window: Span = Span::from_secs(20 * 60),
            in Span::from_secs(1) => Span::from_secs(86_400);
    }
}
