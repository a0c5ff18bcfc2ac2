//! The configuration: one section per part, with defaults that run.
//!
//! Three stages: a TOML file, then environment variables `VESTIBULE__SECTION__KEY`, then flags;
//! each overrides the one before. All of it is read to the end and every mistake is reported at
//! once ([`Mistakes`]), with the key, the value and what is allowed. A [`Config`] that exists has
//! been checked, also across sections. Parts get their own section by value, never the whole.
//!
//! This is the only place that reads the environment. Files that the configuration names (secrets,
//! keys, certificates) are read by the parts that use them.

mod check;
mod env;
mod file;
mod mistake;
mod print;
mod reader;
mod section;
mod sections;
mod value;

use std::path::PathBuf;

use crate::types::NodeId;
use reader::Reader;
use section::{Section, choice, section};

pub use env::{Variable, environment};
pub use mistake::{Mistake, Mistakes};
pub use print::example;
pub use sections::admission::Admission;
pub use sections::archive::Archive;
pub use sections::auth::{Algorithm, Auth, Authentication, Passwords};
pub use sections::caches::Caches;
pub use sections::catalogue::{Catalogue, Preset};
pub use sections::cluster::{Cluster, Emitter};
pub use sections::drain::Drain;
pub use sections::edge::{Edge, Origin, Tls};
pub use sections::eventlog::{EventLog, GroupCommit};
pub use sections::kafka::{Kafka, SaslMechanism};
pub use sections::limits::Limits;
pub use sections::postgres::Postgres;
pub use sections::presence::{Audience, Presence};
pub use sections::recovery::Recovery;
pub use sections::redis::{Redis, ShardSpec};
pub use sections::rooms::Rooms;
pub use sections::telemetry::{Canaries, LogFormat, Telemetry};
pub use sections::timeline::Timeline;
pub use sections::transport::{Transport, TransportKind};

/// The shortest secret for HS256, in bytes: as long as the hash, as RFC 7518 section 3.2 demands.
pub const SECRET_BYTES_MIN: usize = 32;

choice! {
    /// Where a node keeps what it must not lose.
    Mode {
        /// One node; log and archive in one SQLite file, everything else in memory.
        Embedded = "embedded",
        /// Many nodes on Redis, Kafka and PostgreSQL.
        Cluster = "cluster",
    }
}

section! {
    /// The configuration of one node.
    Config = "" {
        /// "embedded": one node that needs no other process. "cluster": many nodes on Redis, Kafka
        /// and PostgreSQL.
        mode: Mode = Mode::Embedded;
        /// The node's name in session ids, logs and metrics: letters, digits, "-", "_" and ".".
        /// Empty: a new random name at each start. Two nodes with one name break each other's
        /// sessions.
        node: Option<NodeId> = None;
        /// Folder of the log, the archive and the development secret; made when it is missing.
        /// Whoever deletes it deletes every message. Must be on a local disk: the promises to
        /// senders are no better than its fsync.
        data: PathBuf = PathBuf::from("./data");
    }
    contains {
        edge: Edge,
        transport: Transport,
        rooms: Rooms,
        limits: Limits,
        presence: Presence,
        recovery: Recovery,
        auth: Auth,
        eventlog: EventLog,
        timeline: Timeline,
        catalogue: Catalogue,
        archive: Archive,
        caches: Caches,
        cluster: Cluster,
        redis: Redis,
        kafka: Kafka,
        postgres: Postgres,
        telemetry: Telemetry,
        admission: Admission,
        drain: Drain,
    }
}

/// What the command line says; text, so that its mistakes are reported with all others.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`: the TOML file. None is read if this is not set.
    pub config: Option<PathBuf>,
    /// `--listen`: overrides `edge.listen`.
    pub listen: Option<String>,
    /// `--operations`: overrides `edge.operations`.
    pub operations: Option<String>,
    /// `--internal`: overrides `edge.internal`.
    pub internal: Option<String>,
    /// `--data`: overrides `data`.
    pub data: Option<String>,
}

impl Config {
    /// Reads the file, the environment and the flags, in this order.
    ///
    /// # Errors
    /// Every mistake found in any of them.
    pub fn load(flags: &Flags, environment: &[Variable]) -> Result<Self, Mistakes> {
        let mut tables = Vec::new();
        Self::describe(&mut tables);
        let mut reader = Reader::default();
        if let Some(path) = &flags.config {
            file::read(path, &tables, &mut reader);
        }
        env::overlay(environment, &tables, &mut reader);
        env::overlay_flags(flags, &mut reader);
        let config = Self::read(&mut reader);
        file::refuse_leftovers(&tables, &mut reader);
        check::check(&config, &mut reader);
        Mistakes::unless_none(reader.into_mistakes(), config)
    }
}

#[cfg(test)]
mod tests;
