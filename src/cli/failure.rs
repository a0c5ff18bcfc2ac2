//! How a command fails: what is told, and the exit code.

use std::fmt;
use std::process::ExitCode;

use crate::config::Mistakes;

/// Why a command failed. Shown, it is the whole chain of causes.
#[derive(Debug)]
pub struct Failure {
    cause: anyhow::Error,
    is_usage: bool,
}

/// `EX_USAGE` of sysexits.h: the command was used wrongly.
const USAGE: u8 = 64;

impl Failure {
    /// Something went wrong, because of something else.
    pub fn new(
        what: impl fmt::Display + Send + Sync + 'static,
        cause: impl Into<anyhow::Error>,
    ) -> Self {
        Self {
            cause: cause.into().context(what),
            is_usage: false,
        }
    }

    /// Wrong arguments, as the parser reports them.
    pub(super) fn usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        let text = text
            .strip_prefix("error: ")
            .unwrap_or(&text)
            .trim_end()
            .to_owned();
        Self::refused(text)
    }

    /// Wrong arguments.
    pub(super) fn refused(text: String) -> Self {
        Self {
            cause: anyhow::Error::msg(text),
            is_usage: true,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_usage {
            ExitCode::from(USAGE)
        } else {
            ExitCode::FAILURE
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self {
            cause,
            is_usage: false,
        }
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self {
            cause: mistakes.into(),
            is_usage: true,
        }
    }
}
