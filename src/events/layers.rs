//! Catalogue files on top of each other, as TOML: what a later one says about a type replaces what
//! an earlier one said, key by key.

use toml::{Table, Value};

use crate::events::load::Mistakes;

/// One catalogue file.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// What mistakes in it are reported under.
    pub name: &'a str,
    /// Its TOML.
    pub text: &'a str,
}

/// All files as one.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The limiters' tables, by name.
    pub(super) limiters: Table,
    /// The rows' tables and the name of the file that spoke of each last.
    pub(super) events: Vec<(String, Table)>,
    /// What is wrong with the files as such.
    pub(super) mistakes: Vec<String>,
}

/// Lays the files on top of each other, the first lowest.
pub(super) fn merge(layers: &[Layer<'_>]) -> Result<Merged, Mistakes> {
    let (mut merged, mut mistakes) = (Merged::default(), Vec::new());
    for layer in layers {
        match layer.text.parse::<Table>() {
            Ok(table) => merged.lay(layer.name, table),
            Err(error) => {
                let error = error.to_string();
                mistakes.push(format!("{}: not TOML: {}", layer.name, error.trim()));
            }
        }
    }
    if mistakes.is_empty() {
        Ok(merged)
    } else {
        Err(Mistakes(mistakes))
    }
}

impl Merged {
    fn lay(&mut self, name: &str, mut table: Table) {
        match table.remove("replace") {
            Some(Value::Boolean(true)) => {
                self.limiters.clear();
                self.events.clear();
            }
            None | Some(Value::Boolean(false)) => {}
            Some(_) => self.wrong(name, "replace must be true or false"),
        }
        match table.remove("limiter") {
            Some(Value::Table(limiters)) => {
                for (limiter, value) in limiters {
                    match (self.limiters.get_mut(&limiter), value) {
                        (Some(Value::Table(known)), Value::Table(new)) => override_with(known, new),
                        (_, value) => drop(self.limiters.insert(limiter, value)),
                    }
                }
            }
            None => {}
            Some(_) => self.wrong(name, "limiter must be tables [limiter.NAME]"),
        }
        match table.remove("event") {
            Some(Value::Array(events)) => self.lay_events(name, events),
            None => {}
            Some(_) => self.wrong(name, "event must be tables [[event]]"),
        }
        for key in table.keys() {
            let message = format!("unknown key {key:?}; known are replace, limiter, event");
            self.wrong(name, &message);
        }
    }

    fn lay_events(&mut self, name: &str, events: Vec<Value>) {
        let mut seen = Vec::new();
        for event in events {
            let Value::Table(mut event) = event else {
                self.wrong(name, "event must be tables [[event]]");
                continue;
            };
            let kind = event.get("type").and_then(Value::as_str).map(str::to_owned);
            if kind.is_some() && seen.contains(&kind) {
                let kind = kind.as_deref().unwrap_or_default();
                self.wrong(name, &format!("type {kind:?} is there twice"));
                continue;
            }
            let known = self.events.iter().position(|(_, known)| {
                kind.is_some() && known.get("type").and_then(Value::as_str) == kind.as_deref()
            });
            let removes = event.remove("remove");
            match (removes, known) {
                (Some(Value::Boolean(true)), Some(at)) => drop(self.events.remove(at)),
                (Some(Value::Boolean(true)), None) => {
                    let kind = kind.as_deref().unwrap_or_default();
                    self.wrong(name, &format!("there is no type {kind:?} to remove"));
                }
                (Some(_), _) => self.wrong(name, "remove must be true"),
                (None, Some(at)) => {
                    let (by, known) = &mut self.events[at];
                    name.clone_into(by);
                    override_with(known, event);
                }
                (None, None) => self.events.push((name.to_owned(), event)),
            }
            seen.push(kind);
        }
    }

    fn wrong(&mut self, name: &str, what: &str) {
        self.mistakes.push(format!("{name}: {what}"));
    }
}

/// Keys that are flags; for all others `false` takes back what an earlier file said.
const FLAGS: [&str; 3] = ["timeline", "history", "code"];

fn override_with(known: &mut Table, new: Table) {
    for (key, value) in new {
        if value == Value::Boolean(false) && !FLAGS.contains(&key.as_str()) {
            known.remove(&key);
        } else {
            known.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Layer<'_> {
        Layer { name: "f", text }
    }

    #[test]
    fn later_files_override_key_by_key_add_and_remove() {
        let merged = merge(&[
            layer(
                "[limiter.a]\ncount = 1\nper = \"1m\"\n[[event]]\ntype = \"A\"\ntopic = \"t\"\nroom = \"r\"\n\
                 [event.schema]\nrequired = [\"x\"]\n[[event]]\ntype = \"B\"\n[[event]]\ntype = \"C\"",
            ),
            layer(
                "[limiter.a]\ncount = 2\n[[event]]\ntype = \"A\"\ntopic = \"u\"\nroom = false\ntimeline = false\n\
                 [event.schema]\nminProperties = 1\n[[event]]\ntype = \"B\"\nremove = true\n[[event]]\ntype = \"D\"",
            ),
        ])
        .unwrap();
        assert_eq!(merged.mistakes, Vec::<String>::new());
        assert_eq!(
            merged.limiters.to_string(),
            "[a]\ncount = 2\nper = \"1m\"\n"
        );
        let events: Vec<_> = merged.events.iter().map(|(_, t)| t.to_string()).collect();
        let first =
            "timeline = false\ntopic = \"u\"\ntype = \"A\"\n\n[schema]\nminProperties = 1\n";
        assert_eq!(events, [first, "type = \"C\"\n", "type = \"D\"\n"]);
    }

    #[test]
    fn a_file_that_replaces_starts_from_nothing() {
        let merged = merge(&[
            layer("[limiter.a]\n[[event]]\ntype = \"A\""),
            layer("replace = true\n[[event]]\ntype = \"B\""),
        ])
        .unwrap();
        assert!(merged.limiters.is_empty() && merged.events.len() == 1);
    }

    #[test]
    fn mistakes_name_their_file() {
        assert_eq!(merge(&[layer("= 3"), layer("= 4")]).unwrap_err().0.len(), 2);
        let bad = "colour = 1\nreplace = 1\nlimiter = 1\nevent = [1, {type = \"A\"}, {type = \"A\"}, \
                   {type = \"B\", remove = true}, {type = \"C\", remove = 1}]";
        let found = merge(&[layer(bad)]).unwrap().mistakes;
        assert_eq!(found.len(), 7, "{found:#?}");
        assert!(found.iter().all(|mistake| mistake.starts_with("f: ")));
    }
}
