//! The wire: Engine.IO v4 and Socket.IO v5, as pure code.
//!
//! No sockets, no clock, no randomness: bytes and time come in as arguments, decisions go out as
//! values. The reference is the behaviour of the npm packages `engine.io` 6.6 and `socket.io` 4.8,
//! and the texts `engine.io-protocol` and `socket.io-protocol` where those agree with it.

pub mod engineio;
pub mod exercise;
pub mod frame;
pub mod socketio;

use std::fmt;

/// A peer broke the protocol; its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(
    /// Which rule.
    pub &'static str,
);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Violation {}
