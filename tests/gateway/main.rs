//! Whole nodes, real sockets.

mod cli;
