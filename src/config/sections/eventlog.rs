//! `[eventlog]`: the durable log.

use crate::config::section::section;
use crate::types::{ByteSize, Span};

section! {
    /// The durable log.
    EventLog = "eventlog" {
        /// Partitions of each topic. One user's events are in one of them. Fixed when the data
        /// folder is made: another number would move users between partitions and break order.
        partitions: u32 = 12, in 1 => 1_024;
        /// Partitions of topic `timeline` in cluster mode, out of which the archive is written. One room's entries
        /// are in one of them. Every one costs the brokers requests of its own, and bounds by how many nodes
        /// the archive can be written.
        timeline_partitions: u32 = 6, in 1 => 1_024;
        /// Records that may wait to become durable; then senders are told that the node is
        /// overloaded and may try again.
        in_flight_records: usize = 10_000, in 1 => 10_000_000;
        /// Bytes that may wait to become durable; the same holds.
        in_flight_bytes: ByteSize = ByteSize::new(64 << 20),
            in ByteSize::new(1 << 20) => ByteSize::new(16 << 30);
        /// How long records are kept. The archive keeps events for good; what is gone here can not
        /// be applied again after a loss.
        retention: Span = Span::from_secs(7 * 86_400),
            in Span::from_secs(60) => Span::from_secs(3_650 * 86_400);
    }
    contains { group_commit: GroupCommit }
}

section! {
    /// How records are gathered for one write to disk.
    GroupCommit = "eventlog.group_commit" {
        /// Records of one write. One costs a write to disk each; many make the first wait.
        max_batch: usize = 1_024, in 1 => 65_536;
        /// How long the first record of a write waits for more. What comes while a write is under
        /// way is gathered in any case, so that zero serves load too.
        linger: Span = Span::from_millis(0), in Span::from_millis(0) => Span::from_secs(1);
    }
}
