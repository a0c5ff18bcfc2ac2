//! Bytes in, routed request out: listening, TLS, PROXY protocol, client addresses, origins.
//!
//! A connection passes [`listener`] → [`intake`] → (on a worker) [`proxy`] → [`tls`] → [`http`].

pub mod certificate;
pub mod client_addr;
pub mod http;
pub mod intake;
pub mod internal;
pub mod listener;
pub mod origin;
pub mod proxy;
pub mod tls;
