//! Reads a catalogue and reports every mistake in it at once.

use std::fmt;
use std::sync::Arc;

use toml::Table;

use crate::events::agree;
use crate::events::catalogue::{Catalogue, Limiter, LimiterScope};
use crate::events::layers::{Layer, merge};
use crate::events::row;
use crate::events::section::Section;

/// What is wrong with a catalogue: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "the catalogue has {count} mistake{plural}:")?;
        self.0
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

/// Reads files on top of each other, the first lowest.
pub(super) fn load(layers: &[Layer<'_>]) -> Result<Catalogue, Mistakes> {
    let merged = merge(layers)?;
    let mut mistakes = merged.mistakes;
    let limiters = load_limiters(merged.limiters, &mut mistakes);
    let mut drafts = Vec::new();
    for (file, table) in merged.events {
        let kind = table.get("type").and_then(|kind| kind.as_str());
        let place = format!("{file}: event {}", kind.unwrap_or("without a type"));
        let mut section = Section::new(place, table);
        drafts.extend(row::load(&mut section, &limiters));
        mistakes.extend(section.end());
    }
    mistakes.extend(agree::check(&drafts));
    if mistakes.is_empty() {
        Ok(Catalogue::of(drafts, limiters))
    } else {
        Err(Mistakes(mistakes))
    }
}

fn load_limiters(table: Table, mistakes: &mut Vec<String>) -> Vec<Limiter> {
    let mut parent = Section::new("limiter", table);
    let mut limiters = Vec::new();
    for (name, mut section) in parent.children() {
        let count = section.number("count").filter(|count| *count > 0);
        let per = section.span("per").filter(|per| !per.is_zero());
        let scopes = [
            ("user", LimiterScope::User),
            ("address", LimiterScope::Address),
        ];
        let scope = section.word("by", &scopes);
        if count.is_none() || per.is_none() || scope.is_none() {
            section.wrong("needs count and per above 0, and by");
        }
        limiters.push(Limiter {
            name: Arc::from(name),
            count: count.unwrap_or(1),
            per: per.unwrap_or_default(),
            scope: scope.unwrap_or(LimiterScope::User),
        });
        mistakes.extend(section.end());
    }
    mistakes.extend(parent.end());
    limiters
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = r#"
colour = "red"
[limiter.fast]
count = 0
per = "1m"
by = "user"
[limiter.slow]
count = 1
per = "soon"
by = "moon"
[[event]]
type = "A"
client = "a"
topic = "t"
room = "user:{roomId}:{data.n}:{data.s}"
server = "a"
limiter = "none"
sharpness = 3
view = ["id", "id", "title", "data.n", "data.x", "seq=epoch", "x=data.s"]
[event.schema]
required = ["n", "gone"]
properties.n = { type = "integer" }
properties.s = { type = "string", maxbytes = 3 }
[[event]]
type = "B"
client = "a"
who = "nobody"
durability = "ephemeral"
topic = "t"
timeline = true
room = "secret:{userId}"
view = ["seq"]
schema.properties.t = { type = "word" }
[[event]]
topic = 5
timeline = true
schema = {}
[[event]]
type = "C"
client = "join:conversation"
who = "members"
topic = "t"
history = true
[[event.emit]]
type = "D"
each = "nobody"
[[event.emit]]
type = "E"
when = { equals = "x" }
data = { a = "{data.none}", c = 1 }
[[event.effect]]
action = "upsert"
kind = "thing"
[[event.effect]]
action = "join"
room = "conversation:1"
user = "{recipient}"
[[event]]
type = "E"
topic = "t"
schema = { required = ["b"], properties.b = {}, properties.a = {} }
emit = [{ type = "F", each = ["{userId}"] }]
[[event]]
type = "F"
topic = "t"
schema = {}
emit = [{ type = "E", data = { b = "x" } }]
    "#;

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let layer = Layer {
            name: "f",
            text: BAD,
        };
        let found = load(&[layer]).unwrap_err();
        let expected = [
            "f: unknown key \"colour\"",
            "limiter.fast: needs count and per above 0",
            "limiter.slow: per must be a duration",
            "limiter.slow: by \"moon\" is not one of user, address",
            "f: event A: schema: required: \"gone\" is not among the properties",
            "f: event A: schema: properties.s.maxbytes is no keyword",
            "f: event A: a client event needs who",
            "f: event A: template \"user:{roomId}:{data.n}:{data.s}\" has the unknown field \"roomId\"",
            "f: event A: view: \"id\" clashes",
            "f: event A: view: unknown member \"title\"",
            "f: event A: view: unknown member \"seq=epoch\"",
            "f: event A: limiter \"none\" is not defined",
            "f: event A: unknown key \"sharpness\"",
            "f: event B: schema: properties.t",
            "f: event B: who \"nobody\" is not one of",
            "f: event B: view: an ephemeral event has no seq",
            "f: event B: an ephemeral event has no place",
            "f: event B: an ephemeral event needs room and server",
            "f: event B: room: there is no kind of room \"secret\"",
            "f: event without a type: topic must be a text",
            "f: event without a type: type is missing",
            "f: event without a type: a durable event needs topic",
            "f: event without a type: an event in the timeline needs room and server",
            "client event \"a\" is there twice",
            "f: event C: schema is missing",
            "f: event C: who \"members\" needs a room",
            "f: event C: an event of the history needs a place",
            "client event \"join:conversation\" is handled by the program itself",
            "f: event C: emit D: each must be",
            "f: event C: emit E: when needs field",
            "f: event C: emit E: template \"{data.none}\" has the unknown field",
            "f: event C: effect upsert: id is missing",
            "f: event C: effect join: room must be a course or a building",
            "f: event C: effect join: template \"{recipient}\" has the unknown field",
            "event C emits \"D\", which is not in the catalogue",
            "event C emits E with data.c, which its schema does not name",
            "event C emits E without data.b, which its schema requires",
            "events emit each other in a circle: E, F, E",
        ];
        for mistake in expected {
            assert!(
                found.0.iter().any(|f| f.starts_with(mistake)),
                "{mistake} not in {:#?}",
                found.0
            );
        }
    }
}
