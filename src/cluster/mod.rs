//! What nodes, and the workers of a node, tell each other.

pub mod bus;
pub mod control;
pub mod presence;

mod memory;
mod queue;
