//! Labels of a durable event's path: where its time goes.

use super::Label;

label! {
    /// How an append waits for the log.
    AppendLane = "lane" {
        /// Given up when the log does not take it in time: what senders wait for.
        Ordinary = "ordinary",
        /// Never given up: what this program itself has to make durable.
        Patient = "patient",
    }
}

label! {
    /// A part of a durable event's path.
    Stage = "stage" {
        /// From the log's time of the record until the pump has it.
        Fetched = "fetched",
        /// From there until it is sent to its shard.
        Queued = "queued",
        /// The shard's round trip, of the batch that it was in.
        Applied = "applied",
        /// From the shard's answer until its entry is durable in topic `timeline` and the shard knows.
        Settled = "settled",
        /// A commit of the pump, with the wait for replicas.
        Committed = "committed",
        /// From the entry's time in topic `timeline` until the archive has it.
        Archived = "archived",
    }
}
