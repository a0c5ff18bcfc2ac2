//! Engine.IO over real connections: WebSocket, long-polling, and the move from one to the other.
//!
//! [`Sessions`] owns the sessions of one worker. A request finds the worker that owns its session by
//! the session id, whichever connection it came by. What a packet or a deadline means is decided by
//! the state machine in `protocol::engineio::session`; what a message does, by `server`.

pub mod activity;
mod answers;
mod forward;
mod polling;
mod reader;
mod request;
mod session;
mod sessions;
pub mod stream;
mod upgrade;
mod websocket;
mod wheel;

pub use forward::{Note, TARGET};
pub use request::Caller;
pub use sessions::{Sessions, Settings, WORKERS_MAX, shed_here};
