//! What every backend of a port has to do, one suite per port, run on each backend.
//!
//! A claim tests the contract alone: nothing in it may depend on how a backend keeps its promise.
//! What only embedded mode promises (one total order, the file surviving a kill) stands apart.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod archive;
mod brokers;
mod bus;
mod bus_redis;
mod caches;
mod crash;
mod eventlog;
mod fanout;
mod kafka;
mod limits;
mod membership;
mod moves;
mod outage;
mod owners;
mod postgres;
mod presence;
mod raise;
mod recovery;
mod returning;
#[path = "../servers/mod.rs"]
mod servers;
mod shared;
mod speed;
mod sqlite;
mod store;
mod takeover;
mod timeline;
