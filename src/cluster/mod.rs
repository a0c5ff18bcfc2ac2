//! What nodes, and the workers of a node, tell each other.

pub mod bus;
pub mod ring;

mod memory;
mod queue;
