//! What is wrong with a configuration: all of it at once, each with key, value and what is allowed.

use std::fmt;

/// Where a value came from, later ones override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The TOML file (or nowhere, for a missing key).
    File,
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, by name.
    Flag(&'static str),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key's full path, for example `transport.ping_interval`.
    pub key: String,
    /// The value as written; secrets are masked. `None` where a key is missing or unknown.
    pub value: Option<String>,
    /// What is allowed instead.
    pub allowed: String,
    pub(super) source: Source,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.source {
            Source::File => {}
            Source::Environment(name) => write!(f, " (from {name})")?,
            Source::Flag(name) => write!(f, " (from {name})")?,
        }
        write!(f, ": {}", self.allowed)
    }
}

/// Every mistake of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// `Err` with the mistakes when there are some, else `value`.
    pub(super) fn unless_none<T>(mistakes: Vec<Mistake>, value: T) -> Result<T, Self> {
        if mistakes.is_empty() {
            Ok(value)
        } else {
            Err(Self(mistakes))
        }
    }

    /// The mistakes, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 {
            "mistake"
        } else {
            "mistakes"
        };
        write!(f, "the configuration has {} {plural}:", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
