//! Where things belong: rooms and per-user keys on shards, once-only duties on nodes.
//!
//! Pure, so that any part can ask it.

mod ring;
mod rings;

pub use ring::{NODES_MAX, Ring, RingError, TARGETS_MAX, Target, WEIGHT_MAX};
pub use rings::{Plan, PlanError, Rings, Shares, View};
