//! Vestibule: a horizontally scaled real-time gateway that speaks Socket.IO.
//!
//! The order of the modules below is the path of the data:
//!
//! ```text
//!  in    edge::listener → edge::proxy → edge::tls → edge::http → transport::{websocket, request}
//!        → protocol::engineio → protocol::socketio → server (namespaces, sockets, acks)
//!        → handlers (auth, checks) → delivery::publish → eventlog → ack to the sender
//!  pump  eventlog → delivery::pump → timeline (the room's next place) → cluster::bus
//!        → eventlog (topic `timeline`) → the offset is stored
//!  out   cluster::bus → delivery::fanout → rooms (hub, outbox) → transport → sockets
//!  past  eventlog (topic `timeline`) → delivery::archive → archive; delivery::history reads both
//! ```
//!
//! What holds everywhere:
//! - A part imports only from lower layers, and each heavy library has one door (`tests/tidy.rs`).
//! - `types`, `protocol` and `events` are pure: time, randomness and bytes are arguments.
//! - A socket lives on one worker thread, which owns it without locks; what others want of it comes
//!   through that worker's queue.
//! - A frame is encoded once for each worker and shared by all receivers; every queue is bounded.
//! - An event is acknowledged when the log has it, and has its place when the timeline gave it one.
//!
//! `docs/ARCHITECTURE.md` tells the rest.

pub mod archive;
pub mod cluster;
pub mod delivery;
pub mod edge;
pub mod eventlog;
pub mod events;
pub mod handlers;
pub mod protocol;
pub mod rooms;
pub mod server;
pub mod timeline;
pub mod transport;

pub mod accounts;
pub mod api;
pub mod auth;
pub mod directory;
pub mod limits;
pub mod store;
pub mod web;

pub mod backend;
pub mod config;
pub mod lifecycle;
pub mod placement;
pub mod telemetry;
pub mod types;

pub mod app;
pub mod cli;
pub mod loadgen;
