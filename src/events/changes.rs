//! What a reloaded catalogue changes.

use std::fmt;
use std::sync::Arc;

use crate::events::catalogue::{Catalogue, Row};
use crate::events::load::Mistakes;

/// What one catalogue changes about another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Types that are new.
    pub added: Vec<Arc<str>>,
    /// Types that are gone.
    pub removed: Vec<Arc<str>>,
    /// Types about which the files say something else, or whose limiter is another.
    pub changed: Vec<Arc<str>>,
}

impl Changes {
    pub(super) fn between(old: &Catalogue, new: &Catalogue) -> Result<Self, Mistakes> {
        let topics = new.topics();
        let gone = old.topics().into_iter().filter(|t| !topics.contains(t));
        let mistakes: Vec<_> = gone
            .map(|topic| format!("topic {topic:?} is gone; restart the node to take it away"))
            .collect();
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let lacks = |catalogue: &Catalogue, row: &Row| catalogue.by_type(&row.kind).is_none();
        let differs = |row: &Row| {
            let old = old.by_type(&row.kind);
            old.is_some_and(|old| old.source != row.source || old.limiter != row.limiter)
        };
        Ok(Self {
            added: types(new, |row| lacks(old, row)),
            removed: types(old, |row| lacks(new, row)),
            changed: types(new, differs),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn types(catalogue: &Catalogue, pick: impl Fn(&Row) -> bool) -> Vec<Arc<str>> {
    let rows = catalogue.rows().iter().filter(|row| pick(row));
    rows.map(|row| Arc::clone(&row.kind)).collect()
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &self.changed),
        ];
        let told: Vec<_> = lists
            .iter()
            .filter(|(_, types)| !types.is_empty())
            .map(|(what, types)| format!("{what} {}", types.join(", ")))
            .collect();
        f.write_str(&told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[limiter.l]\ncount = 1\nper = \"1s\"\nby = \"user\"\n\
        [[event]]\ntype = \"A\"\ntopic = \"t\"\nschema = {}\n\
        [[event]]\ntype = \"B\"\ntopic = \"t\"\nlimiter = \"l\"\nschema = {}\n\
        [[event]]\ntype = \"C\"\ntopic = \"u\"\nschema = {}";

    fn since(new: &str) -> Result<Changes, Mistakes> {
        let old = Catalogue::parse(OLD).unwrap();
        Catalogue::parse(new).unwrap().changes_since(&old)
    }

    #[test]
    fn what_changed_is_told_by_type() {
        assert!(since(OLD).unwrap().is_empty());
        let new = OLD
            .replace("count = 1", "count = 2")
            .replace("type = \"A\"", "type = \"D\"")
            .replace("topic = \"u\"", "topic = \"u\"\nkey = \"{id}\"");
        let changes = since(&new).unwrap();
        assert_eq!(changes.to_string(), "added D; removed A; changed B, C");
    }

    #[test]
    fn a_topic_comes_but_does_not_go() {
        assert!(
            since(&OLD.replace("type = \"A\"\ntopic = \"t\"", "type = \"A\"\ntopic = \"v\""))
                .is_ok()
        );
        let gone = since(&OLD.replace("\"u\"", "\"w\"")).unwrap_err();
        assert_eq!(
            gone.0,
            ["topic \"u\" is gone; restart the node to take it away"]
        );
    }
}
