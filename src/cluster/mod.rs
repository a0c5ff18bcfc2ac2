//! What nodes, and the workers of a node, tell each other.

pub mod bus;

mod memory;
mod queue;
