//! Where the log goes and how it looks: text for people, JSON for machines, both on standard error.
//!
//! Standard output stays free for what a command prints. Colour only when a person looks: never when
//! standard error is not a terminal. Libraries that log through the `log` crate are included.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Time, level, place, message and fields, for people.
    #[default]
    Text,
    /// One JSON object a line, fields at the top level.
    Json,
}

/// The log could not be set up.
#[derive(Debug, Error)]
pub enum Error {
    /// The level is not a filter.
    #[error(
        "log level {level:?} is not a level or filter like \"info\" or \"info,vestibule::rooms=debug\""
    )]
    Level {
        /// What was given.
        level: String,
        /// Why it is not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another log is in place.
    #[error("the log is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Reads a level or filter (`info`, `info,vestibule::rooms=debug`) without using it, to check it.
pub fn check_level(level: &str) -> Result<(), Error> {
    filter(level).map(drop)
}

/// Sets up the log of this process, once.
pub fn init(format: Format, level: &str) -> Result<(), Error> {
    let colour = io::stderr().is_terminal();
    match format {
        Format::Text => text(filter(level)?, colour, io::stderr).try_init()?,
        Format::Json => json(filter(level)?, io::stderr).try_init()?,
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    // An empty filter would silence the log, errors included.
    let level = level.trim();
    let parsed = EnvFilter::builder().parse(if level.is_empty() { "?" } else { level });
    parsed.map_err(|source| Error::Level {
        level: level.to_owned(),
        source,
    })
}

fn text<W>(filter: EnvFilter, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(writer)
        .finish()
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, subscriber};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn written(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn text_without_a_terminal_has_no_colour() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = text(filter("info").unwrap(), false, move || writer.clone());
        subscriber::with_default(log, || {
            info!(room = "conversation:1", "joined");
            debug!("not shown");
        });
        let written = lines.written();
        assert!(
            written.contains("joined room=\"conversation:1\""),
            "{written}"
        );
        assert!(
            !written.contains('\u{1b}') && !written.contains("not shown"),
            "{written}"
        );
    }

    #[test]
    fn json_has_fields_at_the_top_and_one_line_an_event() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = json(filter("info").unwrap(), move || writer.clone());
        subscriber::with_default(log, || info!(room = "a\nb", n = 3, "joined"));
        let written = lines.written();
        assert_eq!(written.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(line["message"], "joined");
        assert_eq!(line["room"], "a\nb");
        assert_eq!(line["n"], 3);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_level_is_checked_before_it_is_used() {
        for good in ["info", "WARN", "info,vestibule::rooms=debug", "off"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "info,=debug", "vestibule=loud"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
