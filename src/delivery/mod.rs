//! What happens to events between clients, log, rooms and archive.

pub mod archive;
pub mod fanout;
pub mod history;
pub mod publish;
pub mod pump;
pub mod restore;
