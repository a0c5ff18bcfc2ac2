//! `vestibule ring`: which shards share the rooms, and changing that.

use std::path::PathBuf;

use super::Failure;
use crate::app::ring::OpenRing;
use crate::config::{self, Config, Flags};

/// What to do with the ring of a cluster's shards.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the shards, their shares of the rooms, and whether rooms are moving.
    Show(Args),
    /// Make the ring the one that redis.shards says; rooms move while clients go on. Every node has to
    /// know all shards first.
    Apply(Applied),
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file of a node (TOML) [default: none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The same, for what changes something.
#[derive(Debug, clap::Args)]
pub(super) struct Applied {
    #[command(flatten)]
    args: Args,
    /// Return when every room is at its place.
    #[arg(long)]
    wait: bool,
}

/// Does it; gives what there is to print.
pub(super) async fn run(command: Command) -> Result<String, Failure> {
    let (args, applied) = match command {
        Command::Show(args) => (args, None),
        Command::Apply(Applied { args, wait }) => (args, Some(wait)),
    };
    let flags = Flags {
        config: args.config,
        ..Flags::default()
    };
    let config = Config::load(&flags, &config::environment())?;
    let failed = |cause| Failure::new("the ring cannot be used", cause);
    let ring = OpenRing::open(&config).await.map_err(failed)?;
    if let Some(wait) = applied {
        let is_cluster = config.redis.cluster.is_some();
        let failed = |cause| Failure::new("the ring cannot be changed", cause);
        ring.apply(is_cluster).await.map_err(failed)?;
        if wait {
            ring.settled().await.map_err(failed)?;
        }
    }
    Ok(ring.show())
}
