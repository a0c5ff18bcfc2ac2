//! Whole nodes, real sockets: each test starts the built program and speaks to it over the network.
//!
//! [`support`] has the node as a process and clients that are small enough to send anything. The
//! other modules are named after what they are about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(
    clippy::large_futures,
    clippy::or_fun_call,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "tables are long, seeds are printed, and a test's future lives once"
)]

mod accounts;
mod admission;
mod anynode;
mod chaos;
mod cli;
mod clients;
mod cluster;
mod conformance;
mod conversations;
mod degraded;
mod drain;
mod durability;
mod emitter;
mod hostile;
mod jwks;
mod limits;
mod presence;
mod proxy;
mod readme;
mod records;
#[path = "../servers/mod.rs"]
mod servers;
mod slow_reader;
mod support;
mod tls;
mod trace;
