//! What happens to an event between its sender and its room: into the log, from the log into its
//! place, out to the members, and into the archive.
//!
//! ```text
//! publish: envelope -> log -> acknowledgement
//! pump:    log -> timeline (order) -> bus (members) -> log's topic `timeline` -> settled -> commit
//! archive: topic `timeline` -> archive -> commit
//! effects: log -> derived events in the log, records, memberships -> commit
//! presence: who came and went -> log; crowds in batches -> bus
//! catchup: timeline and archive -> what a client that comes back has missed
//! fanout:  bus -> the outboxes of one worker
//! history: timeline and archive as one
//! canary:  an event of the node's own through all of it -> how long that took
//! degraded: what does not work -> the sockets of this node
//! takeover: the pump, of partitions whose node is dead, until the group has noticed
//! raise:   topic `timeline` -> a shard whose server is another process than before
//! restore: archive's tops and topic `timeline` -> timeline, before the pump starts
//! ```
//!
//! Every step may be repeated: each has an answer to what it has seen before. So a crash anywhere
//! costs repetition, never an event. Transient faults are waited out in place; only what can never
//! be applied is put aside, as a dead letter, and only when that is durable does its partition go on.

pub mod archive;
pub mod canary;
pub mod catchup;
pub mod crowd;
pub mod degraded;
pub mod effects;
pub mod emitter;
pub mod fanout;
pub mod history;
pub mod moving;
pub mod presence;
pub mod publish;
pub mod pump;
pub mod raise;
pub mod restore;
pub mod sockets;
pub mod takeover;
pub mod whereabouts;

mod apply;
mod backoff;
mod bury;
mod chain;
mod claims;
mod lanes;
mod meter;
mod progress;
mod route;
mod settle;
mod topics;
mod turn;
mod waits;

#[cfg(test)]
mod tests;

/// The topic of events in their places, keyed by room.
pub const TIMELINE_TOPIC: &str = "timeline";
