//! `[archive]`: the history of every room, for good.

use crate::config::section::section;
use crate::types::Span;

section! {
    /// The history of every room, for good.
    Archive = "archive" {
        /// Events written at once. Nobody waits for them but readers of history.
        batch_max: usize = 500, in 1 => 10_000;
        /// How long the first event of a batch waits for more.
        linger: Span = Span::from_millis(20), in Span::from_millis(0) => Span::from_secs(10);
        /// Events in one page of history, at most; what a request may ask for.
        page_max: usize = 200, in 1 => 1_000;
    }
}
