//! `vestibule dead-letters`: the records that could never be applied, and what becomes of them.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Failure;
use crate::app::catalogue;
use crate::app::log::OpenLog;
use crate::config::{self, Config, Flags};
use crate::delivery::TIMELINE_TOPIC;
use crate::eventlog::{EventLog, Letter};

/// What to do with dead letters. In embedded mode the node must be stopped first.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show those that nobody has dealt with, one a line: topic, place of the letter, time, class of the
    /// error, key, event id, reason.
    List(Args),
    /// Put them back into the topic they came from, byte for byte and under the same key.
    Replay(Chosen),
    /// Mark them as done without putting them back.
    Drop(Chosen),
}

/// Where to look, and for what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file of the node (TOML) [default: none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of the node [default: ./data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Topic they came from; may be repeated [default: every topic of the catalogue].
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Only those with this class of error.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only those with this key, which is usually the sender.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only the one of this event.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only the letter at this place of its dead-letter topic, as the list shows it.
    #[arg(long, value_name = "PARTITION:OFFSET")]
    at: Option<String>,
}

/// The same, for what changes something.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    #[command(flatten)]
    args: Args,
    /// All of them, when nothing narrows the choice.
    #[arg(long)]
    all: bool,
}

/// Does it; gives what there is to print.
pub(super) async fn run(command: Command) -> Result<String, Failure> {
    let (args, action) = match command {
        Command::List(args) => (args, Action::List),
        Command::Replay(chosen) => (chosen.checked()?, Action::Replay),
        Command::Drop(chosen) => (chosen.checked()?, Action::Drop),
    };
    let flags = Flags {
        config: args.config.clone(),
        data: args.data.clone(),
        ..Flags::default()
    };
    let config = Config::load(&flags, &config::environment())?;
    let topics = topics(&args, &config)?;
    let failed = |cause| Failure::new("the dead letters cannot be read", cause);
    let open = OpenLog::open(&config).await.map_err(failed)?;
    let done = act(&open.log, &topics, &args, action).await;
    open.close().await;
    done
}

#[derive(Debug, Clone, Copy)]
enum Action {
    List,
    Replay,
    Drop,
}

impl Chosen {
    fn checked(self) -> Result<Args, Failure> {
        let Args {
            topic,
            class,
            key,
            id,
            at,
            ..
        } = &self.args;
        let is_narrow = [class, key, id, at].iter().any(|filter| filter.is_some());
        if self.all || is_narrow || !topic.is_empty() {
            return Ok(self.args);
        }
        let text = "say which: --topic, --class, --key, --id or --at; or --all";
        Err(Failure::refused(text.to_owned()))
    }
}

impl Args {
    fn wants(&self, letter: &Letter) -> bool {
        let about = &letter.about;
        let is = |filter: &Option<String>, value: Option<&str>| {
            filter.as_deref().is_none_or(|filter| value == Some(filter))
        };
        is(&self.class, Some(&about.error_class))
            && is(&self.key, Some(&about.key))
            && is(&self.id, about.id.as_deref())
            && is(&self.at, Some(&place(letter)))
    }
}

fn topics(args: &Args, config: &Config) -> Result<Vec<String>, Failure> {
    if !args.topic.is_empty() {
        return Ok(args.topic.clone());
    }
    let catalogue = catalogue::load(&config.catalogue)
        .map_err(|error| Failure::new("the catalogue cannot be used", error))?;
    let mut topics: Vec<_> = catalogue.topics().iter().map(|t| t.to_string()).collect();
    topics.push(TIMELINE_TOPIC.to_owned());
    Ok(topics)
}

async fn act(
    log: &EventLog,
    topics: &[String],
    args: &Args,
    action: Action,
) -> Result<String, Failure> {
    let mut text = String::new();
    let mut count = 0;
    for topic in topics {
        let failed = |cause| Failure::new("the dead letters cannot be read", cause);
        let found = log.dead_letters(topic, LETTERS_MAX).await.map_err(failed)?;
        for letter in found.letters.iter().filter(|letter| args.wants(letter)) {
            let failed = |cause| {
                let place = place(letter);
                Failure::new(
                    format!("the dead letter {place} of {topic} stays open"),
                    cause,
                )
            };
            match action {
                Action::List => line(&mut text, topic, letter),
                Action::Replay if !log.replay_letter(letter).await.map_err(failed)? => {
                    let place = place(letter);
                    writeln!(text, "{topic} {place} was too large to be kept and stays").ok();
                    continue;
                }
                Action::Replay => {}
                Action::Drop => log.drop_letter(letter).await.map_err(failed)?,
            }
            count += 1;
        }
        if found.more > 0 {
            writeln!(text, "{topic} has {} more; do this again", found.more).ok();
        }
    }
    match action {
        Action::List => writeln!(text, "{count} open"),
        Action::Replay => writeln!(text, "{count} put back"),
        Action::Drop => writeln!(text, "{count} dropped"),
    }
    .ok();
    Ok(text)
}

fn line(text: &mut String, topic: &str, letter: &Letter) {
    let about = &letter.about;
    let id = about.id.as_deref().unwrap_or("-");
    writeln!(
        text,
        "{topic}\t{}\t{}\t{}\t{}\t{id}\t{}",
        place(letter),
        about.timestamp,
        about.error_class,
        // It came from outside: nothing of it may move a terminal's cursor.
        about.key.escape_debug(),
        about.error_message.escape_debug()
    )
    .ok();
}

fn place(letter: &Letter) -> String {
    format!("{}:{}", letter.partition, letter.offset)
}

/// At a KiB each and more: what is beyond is told, and comes when these are dealt with.
const LETTERS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::eventlog::Cause;
    use crate::types::NodeId;

    fn args(folder: &std::path::Path) -> Args {
        Args {
            config: None,
            data: Some(folder.display().to_string()),
            topic: Vec::new(),
            class: None,
            key: None,
            id: None,
            at: None,
        }
    }

    fn chosen(args: Args, all: bool) -> Command {
        Command::Replay(Chosen { args, all })
    }

    #[tokio::test]
    async fn letters_are_listed_put_back_and_dropped_while_no_node_runs() {
        let folder = tempfile::tempdir().unwrap();
        let flags = Flags {
            data: Some(folder.path().display().to_string()),
            ..Flags::default()
        };
        let config = Config::load(&flags, &config::environment()).unwrap();
        let open = OpenLog::open(&config).await.unwrap();
        let node = NodeId::parse("n1").unwrap();
        let mut consumer = open.log.consumer("g", &["messages"]).await.unwrap();
        for key in ["ann", "bob"] {
            let value = Bytes::from_static(b"{\x1b");
            open.log
                .append("messages", key, value)
                .unwrap()
                .await
                .unwrap();
            let record = consumer.poll(1).await.unwrap().into_records().remove(0);
            let cause = Cause {
                class: "undecodable",
                message: "no\x1b[2J".to_owned(),
                attempts: 1,
                node: &node,
                id: None,
            };
            open.log
                .dead_letter(&record, &cause)
                .unwrap()
                .await
                .unwrap();
        }
        let refused = run(Command::List(args(folder.path()))).await.unwrap_err();
        assert!(refused.to_string().contains("must be stopped"), "{refused}");
        drop(consumer);
        open.close().await;

        let text = run(Command::List(args(folder.path()))).await.unwrap();
        assert!(
            text.ends_with("2 open\n") && !text.contains('\x1b'),
            "{text}"
        );
        let all = run(chosen(args(folder.path()), false)).await;
        assert!(all.is_err(), "nothing says which");
        let bob = Args {
            key: Some("bob".to_owned()),
            ..args(folder.path())
        };
        let text = run(chosen(bob, false)).await.unwrap();
        assert_eq!(text, "1 put back\n");
        let all = Chosen {
            args: args(folder.path()),
            all: true,
        };
        assert_eq!(run(Command::Drop(all)).await.unwrap(), "1 dropped\n");
        let text = run(Command::List(args(folder.path()))).await.unwrap();
        assert_eq!(text, "0 open\n");
        let open = OpenLog::open(&config).await.unwrap();
        let mut consumer = open.log.consumer("h", &["messages"]).await.unwrap();
        let records = consumer.poll(9).await.unwrap().into_records();
        assert_eq!(records.len(), 3);
        assert_eq!(
            (&*records[2].key, &records[2].value[..]),
            ("bob", &b"{\x1b"[..])
        );
        open.close().await;
    }
}
