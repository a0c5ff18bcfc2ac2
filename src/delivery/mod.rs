//! What happens to events between clients, log, rooms and archive.

pub mod fanout;
pub mod history;
pub mod publish;
