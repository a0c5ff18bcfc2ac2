//! What nodes, and the workers of a node, tell each other.

pub mod bus;
pub mod control;
pub mod emitter;
pub mod internal;
pub mod membership;
pub mod nodes;
pub mod presence;
pub mod recovery;
pub mod redis;

mod memory;
mod queue;
