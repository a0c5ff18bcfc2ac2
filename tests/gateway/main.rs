//! Whole nodes, real sockets: each test starts the built program and speaks to it over the network.
//!
//! [`support`] has the node as a process and clients that are small enough to send anything. The
//! other modules are named after what they are about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(
    clippy::large_futures,
    reason = "a test's future lives once, on its own stack"
)]

mod cli;
mod clients;
mod conformance;
mod drain;
mod durability;
mod hostile;
mod jwks;
mod proxy;
mod readme;
mod slow_reader;
mod support;
mod tls;
