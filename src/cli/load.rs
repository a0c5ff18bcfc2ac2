//! `vestibule load`: clients by the thousand against a running server.
//!
//! Prints a table, or one line of JSON with `--json`. Fails when the server lost, doubled,
//! misordered or refused anything, so that a script needs no second look.

use std::convert::Infallible;
use std::fmt::Display;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::loadgen::reads::{self, Reads};
use crate::loadgen::{self, Dialect, Pace, Plan, Scenario, Target, Times};
use crate::types::{ByteSize, Secret, Span};

/// Put a server under load and check what it delivers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Sockets(Scene),
    /// A mix of reads over REST, by users that are signed up for it: needs `limits.enabled = false`.
    Reads(Mix),
}

#[derive(Debug, Subcommand)]
enum Scene {
    /// Open sockets, join rooms and say nothing: the server's memory per connection.
    Idle(Sockets),
    /// Publish to rooms: what is delivered, how fast, and at what cost.
    Fanout(Traffic),
    /// Durable messages through a gateway: acknowledgements and deliveries.
    Durable(Traffic),
    /// Ask and be answered on every socket (relay dialect only).
    Echo(Questions),
}

#[derive(Debug, clap::Args)]
struct Mix {
    /// Accounts to sign up and read by.
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Conversations among them.
    #[arg(long, default_value_t = 100)]
    conversations: u32,
    /// Messages that each conversation begins with.
    #[arg(long, default_value_t = 60)]
    messages: u32,
    /// Connections that requests are spread over.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Reads in a second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Messages sent in a second, meanwhile.
    #[arg(long, default_value_t = 10.0)]
    sent: f64,
    /// The operations listener of each node, to read what its caches answered; may be given several times.
    #[arg(long)]
    operations: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Sockets {
    /// Sockets to open.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Rooms they are spread over.
    #[arg(long, default_value_t = 1)]
    rooms: u32,
}

#[derive(Debug, clap::Args)]
struct Traffic {
    #[command(flatten)]
    sockets: Sockets,
    /// Publishers in each room.
    #[arg(long, default_value_t = 1)]
    publishers: u32,
    /// Length of an event's content.
    #[arg(long, default_value = "200")]
    payload: ByteSize,
    /// Closed loop: events on their way in each room [default: one per publisher].
    #[arg(long, conflicts_with = "rate")]
    window: Option<u32>,
    /// Open loop: deliveries per second over all rooms.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Debug, clap::Args)]
struct Questions {
    /// Sockets to open.
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// Length of a question.
    #[arg(long, default_value = "64")]
    payload: ByteSize,
    /// Closed loop: open questions on each socket.
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    window: u32,
    /// Open loop: questions per second over all sockets.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The server: `ws://HOST:PORT` or `wss://HOST:PORT`.
    #[arg(long, global = true, default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// Trust this certificate authority (a PEM file); needed for `wss`.
    #[arg(long, global = true)]
    ca: Option<PathBuf>,
    /// The events the server knows.
    #[arg(long, global = true, value_enum, default_value_t = Words::Vestibule)]
    dialect: Words,
    /// Token that every socket sends; other users of this machine can see it, unlike a file.
    #[arg(long, global = true, conflicts_with = "token_file", value_parser = secret)]
    token: Option<Secret<String>>,
    /// File with that token, or with several, one in each line: sockets use them in turn.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
    /// Process of the server, for CPU and memory; may be given several times.
    #[arg(long = "pid", global = true)]
    pids: Vec<u32>,
    /// Handshakes under way at once.
    #[arg(long, global = true, default_value_t = 64)]
    opening: usize,
    /// Load before measuring.
    #[arg(long, global = true, default_value = "2s")]
    warm_up: Span,
    /// The measured part.
    #[arg(long, global = true, default_value = "10s")]
    duration: Span,
    /// Quiet between the last join and the load.
    #[arg(long, global = true, default_value = "3s")]
    settle: Span,
    /// Give an event up after this time; at the end it is also the longest wait.
    #[arg(long, global = true, default_value = "5s")]
    stall: Span,
    /// Print one line of JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// The events a server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Words {
    /// `join`, `publish`, `event`, `echo`.
    Relay,
    /// `join:conversation`, `message:send`, `message:new`.
    Vestibule,
}

/// Plays the run and prints its account.
///
/// # Errors
/// If it could not be played, or the server made a mistake under it.
pub fn run(args: Args) -> Result<(), anyhow::Error> {
    let Args { command, common } = args;
    let is_json = common.json;
    let failed = "the load run failed";
    let (text, faults) = match command {
        Command::Reads(mix) => {
            let account = reads::run(&mix.plan(common)).context(failed)?;
            (shown(&account, is_json)?, account.faults())
        }
        Command::Sockets(scene) => {
            let report = loadgen::run(&plan(scene, common)?).context(failed)?;
            (shown(&report, is_json)?, report.faults())
        }
    };
    stdout()
        .write_all(text.as_bytes())
        .context("the report could not be written")?;
    if !faults.is_empty() {
        bail!("{}", faults.join(", "));
    }
    Ok(())
}

fn shown<T: Serialize + Display>(report: &T, is_json: bool) -> Result<String, anyhow::Error> {
    if is_json {
        Ok(serde_json::to_string(report).context("the report is not JSON")? + "\n")
    } else {
        Ok(report.to_string())
    }
}

impl Mix {
    fn plan(self, common: Common) -> Reads {
        Reads {
            url: common.url.clone(),
            operations: self.operations,
            users: self.users,
            conversations: self.conversations,
            messages: self.messages,
            connections: self.connections,
            rate: self.rate,
            sent: self.sent,
            times: times(&common),
            pids: common.pids,
        }
    }
}

const fn times(common: &Common) -> Times {
    Times {
        warm_up: common.warm_up.get(),
        measured: common.duration.get(),
        settle: common.settle.get(),
        stall: common.stall.get(),
    }
}

fn plan(scene: Scene, common: Common) -> Result<Plan, anyhow::Error> {
    if matches!(scene, Scene::Durable(_)) && common.dialect != Words::Vestibule {
        bail!("only the vestibule dialect is durable");
    }
    let times = times(&common);
    let (Sockets { connections, rooms }, scenario) = scenario(scene);
    Ok(Plan {
        target: target(common)?,
        connections,
        rooms,
        scenario,
        times,
    })
}

fn scenario(scene: Scene) -> (Sockets, Scenario) {
    match scene {
        Scene::Idle(sockets) => (sockets, Scenario::Idle),
        Scene::Fanout(traffic) | Scene::Durable(traffic) => {
            let Traffic {
                sockets,
                publishers,
                payload,
                window,
                rate,
            } = traffic;
            let window = window.unwrap_or(publishers);
            let pace = rate.map_or(Pace::Window(window), Pace::Rate);
            let payload_bytes = payload.bytes();
            (
                sockets,
                Scenario::Fanout {
                    publishers,
                    payload_bytes,
                    pace,
                },
            )
        }
        Scene::Echo(Questions {
            connections,
            payload,
            window,
            rate,
        }) => {
            let pace = rate.map_or(Pace::Window(window), Pace::Rate);
            let payload_bytes = payload.bytes();
            (
                Sockets {
                    connections,
                    rooms: 1,
                },
                Scenario::Echo {
                    payload_bytes,
                    pace,
                },
            )
        }
    }
}

fn target(common: Common) -> Result<Target, anyhow::Error> {
    let tokens = match (common.token, &common.token_file) {
        (Some(token), _) => vec![token],
        (None, Some(file)) => read_tokens(file)?,
        (None, None) => Vec::new(),
    };
    Ok(Target {
        url: common.url,
        ca: common.ca,
        dialect: match common.dialect {
            Words::Relay => Dialect::Relay,
            Words::Vestibule => Dialect::Vestibule,
        },
        tokens,
        opening_max: common.opening,
        pids: common.pids,
    })
}

fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn read_tokens(file: &Path) -> Result<Vec<Secret<String>>, anyhow::Error> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("the token file {} cannot be read", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(|line| Secret::new(line.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        let Program { args } = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        match args.command {
            Command::Sockets(scene) => plan(scene, args.common).map_err(|error| error.to_string()),
            Command::Reads(_) => Err("reads have another plan".to_owned()),
        }
    }

    #[test]
    fn a_line_becomes_a_plan() {
        let plan = parse(
            "fanout --connections 1000 --publishers 4 --window 16 --dialect relay --pid 7 --pid 8",
        )
        .unwrap();
        let pace = Pace::Window(16);
        assert_eq!(
            plan.scenario,
            Scenario::Fanout {
                publishers: 4,
                payload_bytes: 200,
                pace
            }
        );
        assert_eq!(
            (plan.connections, plan.rooms, plan.target.pids),
            (1000, 1, vec![7, 8])
        );
        let plan = parse("durable --rate 5000 --duration 1m").unwrap();
        assert_eq!(plan.times.measured.as_secs(), 60);
        let plan = parse("echo").unwrap();
        assert_eq!(
            plan.scenario,
            Scenario::Echo {
                payload_bytes: 64,
                pace: Pace::Window(1)
            }
        );
    }

    #[test]
    fn a_token_is_not_shown() {
        let plan = parse("idle --token hunter2").unwrap();
        assert_eq!(plan.target.tokens[0].reveal(), "hunter2");
        assert!(!format!("{plan:?}").contains("hunter2"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse("fanout --window 1 --rate 5").is_err());
        assert!(parse("idle --token x --token-file y").is_err());
        assert!(
            parse("fanout --payload many")
                .unwrap_err()
                .contains("64KiB")
        );
        assert!(
            parse("durable --dialect relay")
                .unwrap_err()
                .contains("durable")
        );
    }
}
