//! Hearing `@socket.io/redis-emitter`: processes without sockets emit through a Redis channel, and every
//! node delivers to its own sockets.
//!
//! The wire format is the reference adapter's, as of version 8 of it and version 5 of the emitter: events as
//! msgpack on `PREFIX#/#` and `PREFIX#/#ROOM#`, requests as JSON on `PREFIX-request#/#`. What is lost while
//! the connection is down stays lost, as with the reference: durable events go through the log. Requests
//! that want an answer (nodes of the reference server ask each other such) are counted and left alone.

pub mod decode;
mod hear;

pub use hear::{Options, run};
