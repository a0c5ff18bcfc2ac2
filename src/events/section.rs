//! One table of a TOML file, read key by key; what is wrong or left over is noted, not thrown.

use std::time::Duration;

use toml::{Table, Value};

use crate::types::Span;

/// A table being read. Every key must be asked for before [`Section::end`].
pub(super) struct Section {
    place: String,
    table: Table,
    mistakes: Vec<String>,
    known: Vec<&'static str>,
}

impl Section {
    pub(super) fn new(place: impl Into<String>, table: Table) -> Self {
        Self {
            place: place.into(),
            table,
            mistakes: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Notes a mistake in this table.
    pub(super) fn wrong(&mut self, what: impl AsRef<str>) {
        self.mistakes
            .push(format!("{}: {}", self.place, what.as_ref()));
    }

    /// Where it is, for mistakes.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// What is in it, as TOML with its keys in order.
    pub(super) fn source(&self) -> String {
        self.table.to_string()
    }

    /// Takes over the mistakes of a table inside this one.
    pub(super) fn take_over(&mut self, inside: Self) {
        self.mistakes.extend(inside.end());
    }

    /// Whatever is there.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.take(key, "", Some)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.take(key, "a text", |value| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", |value| value.as_bool())
    }

    pub(super) fn number(&mut self, key: &'static str) -> Option<u32> {
        self.take(key, "a whole number", |value| {
            value.as_integer()?.try_into().ok()
        })
    }

    pub(super) fn span(&mut self, key: &'static str) -> Option<Duration> {
        let expected = "a duration like \"20m\"";
        self.take(key, expected, |value| {
            Some(value.as_str()?.parse::<Span>().ok()?.get())
        })
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.take(key, "a list of texts", |value| {
            let Value::Array(values) = value else {
                return None;
            };
            values
                .into_iter()
                .map(|value| Some(value.as_str()?.to_owned()))
                .collect()
        })
    }

    /// A text that is one of these words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!(
                "{key} {text:?} is not one of {}",
                allowed.join(", ")
            ));
        }
        found
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table> {
        self.take(key, "a table", |value| match value {
            Value::Table(table) => Some(table),
            _ => None,
        })
    }

    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table> {
        let tables = self.take(key, "a list of tables", |value| {
            let Value::Array(values) = value else {
                return None;
            };
            let table = |value| {
                if let Value::Table(table) = value {
                    Some(table)
                } else {
                    None
                }
            };
            values.into_iter().map(table).collect()
        });
        tables.unwrap_or_default()
    }

    /// Takes every key that is left as a section of its own.
    pub(super) fn children(&mut self) -> Vec<(String, Self)> {
        let mut children = Vec::new();
        for (name, value) in std::mem::take(&mut self.table) {
            match value {
                Value::Table(table) => {
                    let place = format!("{}.{name}", self.place);
                    children.push((name, Self::new(place, table)));
                }
                _ => self.wrong(format!("{name} must be a table")),
            }
        }
        children
    }

    /// Everything that is wrong with the table, keys nobody asked for included.
    pub(super) fn end(mut self) -> Vec<String> {
        let left: Vec<_> = self.table.keys().cloned().collect();
        for key in left {
            let known = self.known.join(", ");
            self.wrong(format!("unknown key {key:?}; known are {known}"));
        }
        self.mistakes
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let read = read(value);
        if read.is_none() {
            self.wrong(format!("{key} must be {expected}"));
        }
        read
    }
}
