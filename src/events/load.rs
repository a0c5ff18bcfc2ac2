//! Reads a catalogue and reports every mistake in it at once.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use toml::Table;

use crate::events::catalogue::{Catalogue, Durability, Limiter, LimiterScope, Member, Row, Who};
use crate::events::schema::{Field, Rule, Schema};
use crate::events::section::Section;
use crate::events::template::Template;

/// What is wrong with a catalogue: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the catalogue has {} mistakes: {}",
            self.0.len(),
            self.0.join("; ")
        )
    }
}

impl std::error::Error for Mistakes {}

pub(super) fn load(toml: &str) -> Result<Catalogue, Mistakes> {
    let table: Table = toml.parse().map_err(|error: toml::de::Error| {
        Mistakes(vec![format!("not TOML: {}", error.to_string().trim())])
    })?;
    let mut root = Section::new("catalogue", table);
    let limiters = root.table("limiter").unwrap_or_default();
    let events = root.tables("event");
    let mut mistakes = root.end();
    let limiters = load_limiters(limiters, &mut mistakes);
    let mut rows = Vec::new();
    for (n, table) in events.into_iter().enumerate() {
        let name = table
            .get("type")
            .and_then(|name| name.as_str())
            .unwrap_or("without a type");
        let mut section = Section::new(format!("event {} ({name})", n + 1), table);
        rows.extend(load_row(&mut section, &limiters));
        mistakes.extend(section.end());
    }
    mistakes.extend(clashes(&rows));
    if mistakes.is_empty() {
        Ok(Catalogue::of(rows, limiters))
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

/// Reads a row; where something is wrong it holds a stand-in, so that the rest is checked too.
fn load_row(section: &mut Section, limiters: &[Limiter]) -> Option<Row> {
    let kind = section.text("type");
    let schema = load_schema(section);
    let fields = schema.fields().iter();
    let texts: Vec<_> = fields
        .filter(|f| f.rule != Rule::Integer)
        .map(|f| f.name.clone())
        .collect();
    let durabilities = [
        ("durable", Durability::Durable),
        ("ephemeral", Durability::Ephemeral),
    ];
    let durability = section
        .word("durability", &durabilities)
        .unwrap_or(Durability::Durable);
    let whos = [
        ("members", Who::Members),
        ("anyone", Who::Anyone),
        ("services", Who::Services),
    ];
    let client = section.text("client");
    let who = section.word("who", &whos);
    if client.is_some() && who.is_none() {
        section.wrong("a client event needs who: members, anyone or services");
    }
    let room = section
        .text("room")
        .and_then(|source| template(section, &source, &texts));
    let key = section.text("key").unwrap_or_else(|| "{userId}".to_owned());
    let server = section.text("server").map(Arc::from);
    let is_kept_for_clients =
        durability == Durability::Durable && room.is_some() && server.is_some();
    let is_in_timeline = section.flag("timeline").unwrap_or(is_kept_for_clients);
    let (view, data_members) = load_view(section, &schema, durability);
    let row = Row {
        kind: Arc::from(kind.clone().unwrap_or_default()),
        client: client.map(Arc::from),
        who: who.unwrap_or(Who::Services),
        scope: Arc::from(section.text("scope").as_deref().unwrap_or(SCOPE)),
        limiter: load_limiter(section, limiters),
        durability,
        topic: section.text("topic").map(Arc::from),
        key: template(section, &key, &texts).or_else(|| Template::parse("-", &[]).ok())?,
        is_in_timeline,
        is_in_history: section.flag("history").unwrap_or(false),
        room,
        server,
        dedup_window: section.span("dedup_window"),
        emits: Vec::new(),
        effects: Vec::new(),
        schema,
        view,
        data_members,
    };
    check_row(section, &row);
    if kind.is_none() {
        section.wrong("type is missing");
    }
    kind.map(|_| row)
}

/// What a service's token must be allowed to do where the row does not say it.
const SCOPE: &str = "events:write";

/// What must agree within a row.
fn check_row(section: &mut Section, row: &Row) {
    let is_durable = row.durability == Durability::Durable;
    let is_shown = row.room.is_some() && row.server.is_some();
    let rules = [
        (
            is_durable && row.topic.is_none(),
            "a durable event needs topic",
        ),
        (
            !is_durable && row.is_in_timeline,
            "an ephemeral event has no place in the timeline",
        ),
        (
            !is_durable && !is_shown,
            "an ephemeral event needs room and server to be seen at all",
        ),
        (
            row.is_in_timeline && !is_shown,
            "an event in the timeline needs room and server",
        ),
        (
            row.server.is_some() && row.room.is_none(),
            "a server event needs room",
        ),
        (
            row.is_in_history && !row.is_in_timeline,
            "an event of the history needs a place in the timeline",
        ),
    ];
    for (_, mistake) in rules.into_iter().filter(|(is_broken, _)| *is_broken) {
        section.wrong(mistake);
    }
}

fn load_limiter(section: &mut Section, limiters: &[Limiter]) -> Option<Limiter> {
    let name = section.text("limiter")?;
    let limiter = limiters.iter().find(|known| *known.name == *name).cloned();
    if limiter.is_none() {
        section.wrong(format!("limiter {name:?} is not defined"));
    }
    limiter
}

fn template(section: &mut Section, source: &str, names: &[String]) -> Option<Template> {
    let parsed = Template::parse(source, names);
    for mistake in parsed.as_ref().err().into_iter().flatten() {
        section.wrong(mistake);
    }
    parsed.ok()
}

fn load_schema(section: &mut Section) -> Schema {
    let table = section.table("schema").unwrap_or_default();
    let mut parent = Section::new("schema", table);
    let mut fields = Vec::new();
    for (name, mut child) in parent.children() {
        let is_required = child.flag("required").unwrap_or(false);
        let rule = load_rule(&mut child);
        child
            .end()
            .iter()
            .for_each(|mistake| section.wrong(mistake));
        fields.extend(rule.map(|rule| Field {
            name,
            is_required,
            rule,
        }));
    }
    parent
        .end()
        .iter()
        .for_each(|mistake| section.wrong(mistake));
    Schema::Fields(fields)
}

fn load_rule(section: &mut Section) -> Option<Rule> {
    let kinds = [("text", 0), ("id", 1), ("integer", 2), ("one_of", 3)];
    let Some(kind) = section.word("kind", &kinds) else {
        section.wrong("kind is needed: text, id, integer or one_of");
        return None;
    };
    let bytes_max = |section: &mut Section| {
        let bytes = section.number("bytes_max").filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            section.wrong("bytes_max above 0 is needed");
        }
        usize::try_from(bytes?).ok()
    };
    match kind {
        0 => {
            let bytes_min = usize::try_from(section.number("bytes_min").unwrap_or(0)).ok()?;
            let bytes_max = bytes_max(section)?;
            if bytes_min > bytes_max {
                section.wrong("bytes_min is more than bytes_max");
            }
            Some(Rule::Text {
                bytes_min,
                bytes_max,
            })
        }
        1 => Some(Rule::Id {
            bytes_max: bytes_max(section)?,
        }),
        2 => Some(Rule::Integer),
        _ => {
            let values = section.texts("values").filter(|values| !values.is_empty());
            if values.is_none() {
                section.wrong("values are needed");
            }
            Some(Rule::OneOf(values?))
        }
    }
}

const MEMBERS: [(&str, Member); 8] = [
    ("id", Member::Id),
    ("type", Member::Kind),
    ("userId", Member::UserId),
    ("conversationId", Member::ConversationId),
    ("timestamp", Member::Timestamp),
    ("data", Member::Data),
    ("epoch", Member::Epoch),
    ("seq", Member::Seq),
];

/// The members of the view; without a list, the whole envelope and its place.
fn load_view(
    section: &mut Section,
    schema: &Schema,
    durability: Durability,
) -> (Vec<Member>, Vec<String>) {
    let is_placed = durability == Durability::Durable;
    let Some(names) = section.texts("view") else {
        let members = MEMBERS.iter().map(|(_, member)| *member);
        let placed = |member: &Member| is_placed || !is_place(*member);
        return (members.filter(placed).collect(), Vec::new());
    };
    let (mut members, mut of_data, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for name in &names {
        let known = MEMBERS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, member)| *member);
        let data = name.strip_prefix("data.").filter(|name| schema.names(name));
        match (known, data) {
            (Some(member), _) if is_place(member) && !is_placed => {
                section.wrong(format!("view: an ephemeral event has no {name}"));
            }
            (Some(member), _) => members.push(member),
            (None, Some(data)) => {
                members.push(Member::OfData);
                of_data.push(data.to_owned());
            }
            (None, None) => section.wrong(format!(
                "view: unknown member {name:?}; known are {} and data.NAME for a NAME of the schema",
                MEMBERS.map(|(name, _)| name).join(", ")
            )),
        }
        if !seen.insert(name.strip_prefix("data.").unwrap_or(name)) {
            section.wrong(format!("view: {name:?} clashes with a member before it"));
        }
    }
    (members, of_data)
}

const fn is_place(member: Member) -> bool {
    matches!(member, Member::Epoch | Member::Seq)
}

/// Names that two rows claim.
fn clashes(rows: &[Row]) -> Vec<String> {
    let (mut kinds, mut clients, mut clashes) = (HashSet::new(), HashSet::new(), Vec::new());
    for row in rows {
        if !kinds.insert(&row.kind) {
            clashes.push(format!("type {:?} is there twice", row.kind));
        }
        if let Some(client) = &row.client
            && !clients.insert(client)
        {
            clashes.push(format!("client event {client:?} is there twice"));
        }
    }
    clashes
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
room = "r:{roomId}:{data.n}:{data.s}"
server = "a"
limiter = "none"
sharpness = 3
view = ["id", "id", "title", "data.n", "data.x"]
[event.schema]
n = { kind = "integer", required = "yes" }
s = { kind = "text" }
t = { kind = "word" }
v = 1
[[event]]
type = "A"
client = "a"
who = "nobody"
durability = "ephemeral"
topic = "t"
timeline = true
view = ["seq"]
[[event]]
topic = 5
timeline = true
    "#;

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let found = load(BAD).unwrap_err();
        let expected = [
            "catalogue: unknown key \"colour\"",
            "limiter.fast: needs count and per above 0",
            "limiter.slow: per must be a duration",
            "limiter.slow: by \"moon\" is not one of user, address",
            "event 1 (A): schema.n: required must be true or false",
            "event 1 (A): schema.s: bytes_max above 0 is needed",
            "event 1 (A): schema.t: kind \"word\" is not one of text, id, integer, one_of",
            "event 1 (A): schema: v must be a table",
            "event 1 (A): a client event needs who",
            "event 1 (A): template \"r:{roomId}:{data.n}:{data.s}\" has the unknown field \"roomId\"",
            "event 1 (A): template \"r:{roomId}:{data.n}:{data.s}\" has the unknown field \"data.n\"",
            "event 1 (A): view: \"id\" clashes",
            "event 1 (A): view: unknown member \"title\"",
            "event 1 (A): view: unknown member \"data.x\"",
            "event 1 (A): limiter \"none\" is not defined",
            "event 1 (A): unknown key \"sharpness\"",
            "event 2 (A): who \"nobody\" is not one of",
            "event 2 (A): view: an ephemeral event has no seq",
            "event 2 (A): an ephemeral event has no place",
            "event 2 (A): an ephemeral event needs room and server",
            "event 3 (without a type): topic must be a text",
            "event 3 (without a type): type is missing",
            "event 3 (without a type): a durable event needs topic",
            "event 3 (without a type): an event in the timeline needs room and server",
            "type \"A\" is there twice",
            "client event \"a\" is there twice",
        ];
        for mistake in expected {
            assert!(
                found.0.iter().any(|f| f.starts_with(mistake)),
                "{mistake} not in {found:#?}"
            );
        }
    }

    #[test]
    fn what_is_not_toml_is_one_mistake() {
        assert_eq!(load("= 3").unwrap_err().0.len(), 1);
    }
}
