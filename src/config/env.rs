//! Stages two and three: environment variables and flags, laid over the file.

use std::ffi::OsString;

use toml::Value as Toml;

use super::Flags;
use super::file::unknown;
use super::mistake::{Mistake, Source};
use super::reader::Reader;
use super::section::{Key, Table};
use super::value::Shape;

/// Every variable of the configuration begins with this.
const PREFIX: &str = "VESTIBULE__";

/// An environment variable: name and value.
pub type Variable = (String, OsString);

/// The variables of this process that belong to the configuration, in order of their names.
///
/// Nothing else in the program reads the environment.
#[must_use]
pub fn environment() -> Vec<Variable> {
    let mut found: Vec<Variable> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    found.sort();
    found
}

/// Lays the variables over the file: `VESTIBULE__EDGE__TLS__KEY` is `edge.tls.key`.
pub(super) fn overlay(environment: &[Variable], tables: &[Table], reader: &mut Reader) {
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let path = rest.to_ascii_lowercase().replace("__", ".");
        let source = Source::Environment(name.clone());
        let key = tables
            .iter()
            .flat_map(|table| &table.keys)
            .find(|key| key.path == path);
        let refusal = match (key, value.to_str()) {
            (Some(key), Some(text)) => {
                reader.set(path, understand(key, text), source);
                continue;
            }
            (Some(_), None) => "must be valid UTF-8".to_owned(),
            (None, _) => unknown(path.rsplit_once('.').map_or("", |(owner, _)| owner), tables),
        };
        reader.note_at(Mistake {
            key: path,
            value: None,
            allowed: refusal,
            source,
        });
    }
}

/// Lays the flags over everything else.
pub(super) fn overlay_flags(flags: &Flags, reader: &mut Reader) {
    let overrides = [
        ("edge.listen", "--listen", &flags.listen),
        ("edge.operations", "--operations", &flags.operations),
        ("edge.internal", "--internal", &flags.internal),
        ("data", "--data", &flags.data),
    ];
    for (path, flag, text) in overrides {
        if let Some(text) = text {
            reader.set(
                path.to_owned(),
                Toml::String(text.clone()),
                Source::Flag(flag),
            );
        }
    }
}

/// The text of a variable as the TOML value that its key expects. What makes no sense stays text,
/// which the key then refuses.
fn understand(key: &Key, text: &str) -> Toml {
    let as_written = || Toml::String(text.to_owned());
    match key.shape {
        Shape::Text if is_quoted(text) => toml_value(text).unwrap_or_else(as_written),
        Shape::Text => as_written(),
        Shape::Scalar => toml_value(text.trim()).unwrap_or_else(as_written),
        Shape::List if text.trim_start().starts_with('[') => {
            toml_value(text).unwrap_or_else(as_written)
        }
        Shape::List => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Toml::Array(items.map(|item| Toml::String(item.to_owned())).collect())
        }
    }
}

fn is_quoted(text: &str) -> bool {
    let is_between = |quote| text.len() >= 2 && text.starts_with(quote) && text.ends_with(quote);
    is_between('"') || is_between('\'')
}

fn toml_value(text: &str) -> Option<Toml> {
    // One value only: a line break could begin another key.
    if text.contains(['\n', '\r']) {
        return None;
    }
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()?
        .remove("value")
}
