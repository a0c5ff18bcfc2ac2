//! One file per section: its keys, their meaning, defaults and limits.

pub(super) mod admission;
pub(super) mod archive;
pub(super) mod auth;
pub(super) mod caches;
pub(super) mod catalogue;
pub(super) mod cluster;
pub(super) mod drain;
pub(super) mod edge;
pub(super) mod eventlog;
pub(super) mod kafka;
pub(super) mod limits;
pub(super) mod postgres;
pub(super) mod presence;
pub(super) mod recovery;
pub(super) mod redis;
pub(super) mod rooms;
pub(super) mod telemetry;
pub(super) mod timeline;
pub(super) mod transport;
