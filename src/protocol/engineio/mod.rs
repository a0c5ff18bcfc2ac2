//! Engine.IO v4: sessions over long-polling and WebSocket.

pub mod handshake;
pub mod heartbeat;
pub mod packet;
pub mod payload;
pub mod session;
