//! Reads one row of the catalogue.

use std::collections::HashSet;
use std::sync::Arc;

use crate::events::catalogue::{Durability, Limiter, Member, Row, Who};
use crate::events::derived;
use crate::events::schema::Schema;
use crate::events::section::Section;
use crate::events::template::Template;

/// What a service's token must be allowed to do where the row does not say it.
const SCOPE: &str = "events:write";

/// The kinds of rooms there are. What a kind means is code: who may join is decided by it.
pub(super) const ROOM_KINDS: [&str; 6] = [
    "conversation",
    "user",
    "course",
    "building",
    "presence",
    "global",
];

/// Reads a row; where something is wrong it holds a stand-in, so that the rest is checked too.
pub(super) fn load(section: &mut Section, limiters: &[Limiter]) -> Option<Row> {
    let source = section.source();
    let kind = section.text("type");
    let schema = load_schema(section);
    let texts = texts(&schema);
    let durabilities = [
        ("durable", Durability::Durable),
        ("ephemeral", Durability::Ephemeral),
    ];
    let durability = section
        .word("durability", &durabilities)
        .unwrap_or(Durability::Durable);
    let (client, who) = load_client(section);
    let room = load_room(section, &texts);
    let key = section.text("key").unwrap_or_else(|| "{userId}".to_owned());
    let server = section.text("server").map(Arc::from);
    let is_kept_for_clients =
        durability == Durability::Durable && room.is_some() && server.is_some();
    let is_in_timeline = section.flag("timeline").unwrap_or(is_kept_for_clients);
    let (view, data_members) = load_view(section, &schema, durability);
    let row = Row {
        kind: Arc::from(kind.clone().unwrap_or_default()),
        client,
        is_coded: section.flag("code").unwrap_or(false),
        who,
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
        emits: derived::emits(section, &schema),
        effects: derived::effects(section, &texts),
        schema,
        source,
        view,
        data_members,
    };
    check(section, &row);
    if kind.is_none() {
        section.wrong("type is missing");
    }
    kind.map(|_| row)
}

/// The members of a schema that are texts, which templates may name.
fn texts(schema: &Schema) -> Vec<String> {
    let texts = schema.properties().iter().filter(|p| p.is_text);
    texts.map(|property| property.name.clone()).collect()
}

fn load_client(section: &mut Section) -> (Option<Arc<str>>, Who) {
    let whos = [
        ("members", Who::Members),
        ("anyone", Who::Anyone),
        ("services", Who::Services),
    ];
    let client = section.text("client").map(Arc::from);
    let who = section.word("who", &whos);
    if client.is_some() && who.is_none() {
        section.wrong("a client event needs who: members, anyone or services");
    }
    (client, who.unwrap_or(Who::Services))
}

fn load_room(section: &mut Section, texts: &[String]) -> Option<Template> {
    let source = section.text("room")?;
    let kind = source.split_once(':').map_or("", |(kind, _)| kind);
    if !ROOM_KINDS.contains(&kind) {
        section.wrong(format!(
            "room: there is no kind of room {kind:?}; known are {}, each with `:` and an id",
            ROOM_KINDS.join(", ")
        ));
    }
    template(section, &source, texts)
}

/// What must agree within a row.
fn check(section: &mut Section, row: &Row) {
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
        (
            row.who == Who::Members && row.room.is_none(),
            "who \"members\" needs a room",
        ),
        (
            !(is_durable || row.emits.is_empty() && row.effects.is_empty()),
            "an ephemeral event has no emit and no effect: they are read from the log",
        ),
        (
            row.kind.len() > KIND_BYTES_MAX,
            "type is longer than 64 bytes",
        ),
    ];
    for (_, mistake) in rules.into_iter().filter(|(is_broken, _)| *is_broken) {
        section.wrong(mistake);
    }
    if let Some(topic) = row.topic.as_deref().filter(|topic| !is_topic(topic)) {
        section.wrong(format!(
            "topic {topic:?} must be 1 to 200 letters, digits, \".\", \"_\" or \"-\""
        ));
    }
}

/// As long as an envelope's may be.
const KIND_BYTES_MAX: usize = 64;

/// Kafka's rule, with room for the name of its dead-letter topic.
fn is_topic(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=200).contains(&name.len()) && name.bytes().all(fits) && !matches!(name, "." | "..")
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
    let Some(table) = section.table("schema") else {
        section.wrong("schema is missing: what its data must look like, [event.schema]");
        return Schema::any();
    };
    Schema::compile(table).unwrap_or_else(|mistakes| {
        for mistake in mistakes {
            section.wrong(format!("schema: {mistake}"));
        }
        Schema::any()
    })
}

pub(super) const MEMBERS: [(&str, Member); 8] = [
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
) -> (Vec<Member>, Vec<(String, String)>) {
    let is_placed = durability == Durability::Durable;
    let Some(names) = section.texts("view") else {
        let members = MEMBERS.iter().map(|(_, member)| *member);
        let placed = |member: &Member| is_placed || !is_place(*member);
        return (members.filter(placed).collect(), Vec::new());
    };
    let (mut members, mut of_data, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for name in &names {
        // `shown=data.NAME` shows a member of the data under another name.
        let (shown, source) = match name.split_once('=') {
            Some((shown, source)) => (shown, source),
            None => (name.strip_prefix("data.").unwrap_or(name), name.as_str()),
        };
        let known = MEMBERS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, member)| *member);
        let data = source.strip_prefix("data.").filter(|n| schema.names(n));
        match (known, data) {
            (Some(member), _) if is_place(member) && !is_placed => {
                section.wrong(format!("view: an ephemeral event has no {name}"));
            }
            (Some(member), _) => members.push(member),
            (None, Some(data)) => {
                members.push(Member::OfData);
                of_data.push((shown.to_owned(), data.to_owned()));
            }
            (None, None) => section.wrong(format!(
                "view: unknown member {name:?}; known are {}, and data.NAME or OTHER=data.NAME for a \
                 NAME of the schema",
                MEMBERS.map(|(name, _)| name).join(", ")
            )),
        }
        if !seen.insert(shown) {
            section.wrong(format!("view: {shown:?} clashes with a member before it"));
        }
    }
    (members, of_data)
}

const fn is_place(member: Member) -> bool {
    matches!(member, Member::Epoch | Member::Seq)
}
