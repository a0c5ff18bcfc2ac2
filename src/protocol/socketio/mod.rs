//! Socket.IO v5: packets inside Engine.IO messages.

pub mod attachments;
pub mod decode;
pub mod encode;
