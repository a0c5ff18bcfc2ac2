//! The flags that say what node is meant; they override the file and the environment.

use std::path::PathBuf;

use super::Failure;
use crate::config::{self, Config, Flags};

/// Which node.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct NodeFlags {
    /// Configuration file (TOML) [default: none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address for clients; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address for health, readiness and metrics [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDR")]
    operations: Option<String>,
    /// Address for the other nodes of a cluster [default: 127.0.0.1:7946].
    #[arg(long, value_name = "ADDR")]
    internal: Option<String>,
    /// Folder for what must not be lost [default: ./data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

impl NodeFlags {
    /// The checked configuration of file, environment and these flags.
    pub(super) fn load(self) -> Result<Config, Failure> {
        let Self {
            config,
            listen,
            operations,
            internal,
            data,
        } = self;
        let flags = Flags {
            config,
            listen,
            operations,
            internal,
            data,
        };
        Ok(Config::load(&flags, &config::environment())?)
    }
}
