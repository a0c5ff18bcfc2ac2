//! Hands out what the stages said, key by key, and remembers what was wrong.
//!
//! A wrong value is noted and its default is used in its place, so that reading always comes to the
//! end and finds every mistake.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::mistake::{Mistake, Source};
use super::value::Value;

/// Hands out the values of all stages by path, and notes what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    values: BTreeMap<String, (Toml, Source)>,
    sources: BTreeMap<String, Source>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Sets a value, over what an earlier stage said.
    pub(super) fn set(&mut self, path: String, value: Toml, source: Source) {
        self.values.insert(path, (value, source));
    }

    /// Takes the value of a key; `default` if it is not set or wrong.
    pub(super) fn take<T: Value>(&mut self, path: &str, default: T) -> T {
        self.take_if(path, default, |_| Ok(()))
    }

    /// Takes the value of a key that has limits; `default` if it is not set or wrong.
    pub(super) fn take_in<T: Value + PartialOrd>(
        &mut self,
        path: &str,
        default: T,
        limits: (T, T),
    ) -> T {
        self.take_if(path, default, |value| {
            let (low, high) = &limits;
            let fits = low <= value && value <= high;
            if fits {
                Ok(())
            } else {
                Err(format!("{} to {}", low.show(), high.show()))
            }
        })
    }

    fn take_if<T: Value>(
        &mut self,
        path: &str,
        default: T,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> T {
        let Some((raw, source)) = self.values.remove(path) else {
            return default;
        };
        self.sources.insert(path.to_owned(), source);
        let value = T::read(&raw).and_then(|value| check(&value).map(|()| value));
        value.unwrap_or_else(|allowed| {
            let shown = if T::IS_SECRET {
                "***".to_owned()
            } else {
                raw.to_string()
            };
            self.note(path, Some(shown), format!("must be {allowed}"));
            default
        })
    }

    /// Notes a mistake at a key.
    pub(super) fn note(&mut self, path: &str, value: Option<String>, allowed: String) {
        let source = self.sources.get(path).cloned().unwrap_or(Source::File);
        self.mistakes.push(Mistake {
            key: path.to_owned(),
            value,
            allowed,
            source,
        });
    }

    /// Notes a mistake that belongs to no key that was read.
    pub(super) fn note_at(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// True if a mistake was noted at a key, so that its value is only a stand-in.
    pub(super) fn is_wrong(&self, path: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key == path)
    }

    /// Everything that no section asked for.
    pub(super) fn leftovers(&mut self) -> Vec<(String, Source)> {
        std::mem::take(&mut self.values)
            .into_iter()
            .map(|(path, (_, source))| (path, source))
            .collect()
    }

    /// The mistakes found.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }
}
