//! The composition root: the only place that knows which backend is behind a port.

pub mod front;
pub mod library;
