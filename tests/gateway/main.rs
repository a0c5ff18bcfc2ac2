//! Whole nodes, real sockets.
