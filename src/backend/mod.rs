//! Connections to what is outside the process: opened, watched and closed here.
//!
//! No business words: what is written and read is decided by the parts that own it.

mod batches;
pub mod cache;
pub mod database;
pub mod error;
mod folder;
pub mod kafka;
pub mod postgres;
pub mod redis;
pub mod sql;
pub mod statement;
pub mod writer;
