//! The command line: what is asked for, and how the answer ends.
//!
//! One file per command; each returns a [`Failure`] that knows its exit code. Mistakes in flags and
//! in the configuration end with 64 (`EX_USAGE`), everything else that goes wrong with 1. Results
//! go to standard output, everything else to standard error.

mod check_config;
mod dead_letters;
mod failure;
mod flags;
mod health;
pub mod load;
mod ring;
mod serve;
mod token;

use std::ffi::OsString;
use std::io::Write as _;

use clap::{Parser, Subcommand};

use crate::config;
use flags::NodeFlags;

pub use failure::Failure;
pub use serve::serve;

/// A real-time gateway that speaks Socket.IO: ordered, durable rooms.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until told to stop (the default).
    Serve(NodeFlags),
    /// Check the configuration and the files it names, and serve nothing.
    CheckConfig(NodeFlags),
    /// Print every key of the configuration with its meaning and default.
    DefaultConfig,
    /// Print a token that a node in development mode on the same data folder accepts.
    Token(token::Args),
    /// Ask a node whether it is ready; print its reasons when it is not.
    Health(health::Args),
    /// List, put back or drop the records that could never be applied.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Show which shards share the rooms, or change it.
    #[command(subcommand)]
    Ring(ring::Command),
    /// Put a server under load and check what it delivers.
    Load(load::Args),
}

/// Does what the arguments ask for. The first one is the program's name.
///
/// # Errors
/// What went wrong, with the exit code it ends in.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let Arguments { node, command } = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::usage(&error)),
        Err(help) => return print(&help.to_string()),
    };
    match command.unwrap_or(Command::Serve(node)) {
        Command::Serve(flags) => runtime()?.block_on(Box::pin(serve(flags.load()?))),
        Command::CheckConfig(flags) => print(check_config::run(flags)?),
        Command::DefaultConfig => print(&config::example()),
        Command::Token(args) => print(&format!("{}\n", token::run(args)?)),
        Command::Health(args) => print(&runtime()?.block_on(health::run(args))?),
        Command::DeadLetters(command) => print(&runtime()?.block_on(dead_letters::run(command))?),
        Command::Ring(command) => print(&runtime()?.block_on(ring::run(command))?),
        Command::Load(args) => Ok(load::run(args)?),
    }
}

/// Runs what is not a socket's: those have workers of their own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(SERVICE_THREADS)
        .thread_name("service")
        .enable_all();
    builder
        .build()
        .map_err(|error| Failure::new("cannot start threads", error))
}

/// One can wait for the disk while the other serves the operations listener.
const SERVICE_THREADS: usize = 2;

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Failure::new("cannot write to standard output", error))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_with_the_same_flags() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap();
        let short = parse("vestibule --listen 127.0.0.1:0 --data d");
        assert!(short.command.is_none());
        let Some(Command::Serve(long)) =
            parse("vestibule serve --listen 127.0.0.1:0 --data d").command
        else {
            panic!("not the command serve");
        };
        assert_eq!(short.node, long);
    }
}
