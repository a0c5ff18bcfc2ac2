//! Reads what follows from a row: emits and effects.

use std::sync::Arc;

use toml::{Table, Value};

use crate::events::derive::{Each, Effect, Emit, When};
use crate::events::schema::Schema;
use crate::events::section::Section;
use crate::events::template::Template;

/// The tables `[[event.emit]]`.
pub(super) fn emits(section: &mut Section, schema: &Schema) -> Vec<Emit> {
    let properties = schema.properties();
    let texts = properties.iter().filter(|p| p.is_text);
    let texts: Vec<_> = texts.map(|property| property.name.clone()).collect();
    let names: Vec<_> = properties.iter().map(|p| p.name.clone()).collect();
    let tables = section.tables("emit");
    tables
        .into_iter()
        .filter_map(|table| {
            let mut child = inside(section, "emit", "type", table);
            let emit = emit(&mut child, &texts, &names);
            section.take_over(child);
            emit
        })
        .collect()
}

/// The tables `[[event.effect]]`.
pub(super) fn effects(section: &mut Section, texts: &[String]) -> Vec<Effect> {
    let tables = section.tables("effect");
    tables
        .into_iter()
        .filter_map(|table| {
            let mut child = inside(section, "effect", "action", table);
            let effect = effect(&mut child, texts);
            section.take_over(child);
            effect
        })
        .collect()
}

fn inside(section: &Section, what: &str, name: &str, table: Table) -> Section {
    let name = table.get(name).and_then(Value::as_str).unwrap_or("?");
    let place = format!("{}: {what} {name}", section.place());
    Section::new(place, table)
}

fn emit(section: &mut Section, texts: &[String], names: &[String]) -> Option<Emit> {
    let kind = section.text("type");
    if kind.is_none() {
        section.wrong("type is missing");
    }
    let when = section.table("when").map(|table| when(section, table));
    let each = each(section, texts);
    let data = section.table("data").unwrap_or_default();
    let data = data
        .into_iter()
        .filter_map(|(name, value)| Some((name, datum(section, value, (texts, names))?)))
        .collect();
    Some(Emit {
        kind: Arc::from(kind?),
        when: when.flatten(),
        each,
        data,
    })
}

fn when(section: &mut Section, mut table: Table) -> Option<When> {
    let field = table.remove("field");
    let field = field.and_then(|field| Some(field.as_str()?.to_owned()));
    let equals = table.remove("equals").map(|value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    });
    if field.is_none() {
        section.wrong("when needs field, the name of a member of the data");
    }
    for key in table.keys() {
        section.wrong(format!(
            "when: unknown key {key:?}; known are field, equals"
        ));
    }
    Some(When {
        field: field?,
        equals,
    })
}

fn each(section: &mut Section, texts: &[String]) -> Each {
    match section.value("each") {
        None => Each::Once,
        Some(Value::Array(users)) if users.iter().all(Value::is_str) => {
            let users = users.iter().filter_map(Value::as_str);
            let users: Vec<_> = users
                .filter_map(|source| note(section, Template::parse(source, texts)))
                .collect();
            Each::Users(users)
        }
        Some(Value::String(word)) if word == "once" => Each::Once,
        Some(Value::String(word)) if word == "members" => Each::Members,
        Some(Value::String(word)) if word == "members-away" => Each::MembersAway,
        Some(Value::String(word)) if word == "mentions" => Each::Mentions,
        Some(_) => {
            section.wrong(
                "each must be \"once\", \"members\", \"members-away\", \"mentions\" or a list of users",
            );
            Each::Once
        }
    }
}

/// A member of a derived event's data: a template, or a number or flag as it is. A template that is
/// one member of the data and nothing else may name any; it is copied as it is.
fn datum(
    section: &mut Section,
    value: Value,
    (texts, names): (&[String], &[String]),
) -> Option<Template> {
    match value {
        Value::String(source) => {
            let is_copy = source.starts_with("{data.")
                && source.find('}') == Some(source.len() - 1)
                && !source.contains(':');
            let names = if is_copy { names } else { texts };
            note(section, Template::parse_derived(&source, names))
        }
        Value::Integer(_) | Value::Boolean(_) => Some(Template::json(value.to_string())),
        _ => {
            section.wrong("data must hold texts, numbers and flags");
            None
        }
    }
}

fn effect(section: &mut Section, texts: &[String]) -> Option<Effect> {
    #[derive(Clone, Copy)]
    enum Action {
        Upsert,
        Delete,
        Invalidate,
        Join,
        Leave,
    }
    let actions = [
        ("upsert", Action::Upsert),
        ("delete", Action::Delete),
        ("invalidate", Action::Invalidate),
        ("join", Action::Join),
        ("leave", Action::Leave),
    ];
    let action = section.word("action", &actions);
    let Some(action) = action else {
        section.wrong("action is needed: upsert, delete, invalidate, join or leave");
        return None;
    };
    if let Action::Join | Action::Leave = action {
        let room = needed(section, "room", texts);
        let user = needed(section, "user", texts);
        let kind = room.as_ref().map(ToString::to_string).unwrap_or_default();
        if !(kind.starts_with("course:") || kind.starts_with("building:")) {
            section.wrong("room must be a course or a building: course:… or building:…");
        }
        let (room, user) = (room?, user?);
        return Some(match action {
            Action::Join => Effect::Join { room, user },
            _ => Effect::Leave { room, user },
        });
    }
    let ttl = match action {
        Action::Upsert => section.span("ttl"),
        _ => None,
    };
    let kind = section.text("kind").map(Arc::from);
    if kind.is_none() {
        section.wrong("kind is missing");
    }
    let (id, kind) = (needed(section, "id", texts)?, kind?);
    Some(match action {
        Action::Upsert => Effect::Upsert { kind, id, ttl },
        Action::Delete => Effect::Delete { kind, id },
        _ => Effect::Invalidate { kind, id },
    })
}

fn needed(section: &mut Section, key: &'static str, texts: &[String]) -> Option<Template> {
    let source = section.text(key);
    if source.is_none() {
        section.wrong(format!("{key} is missing"));
    }
    note(section, Template::parse(&source?, texts))
}

fn note(section: &mut Section, parsed: Result<Template, Vec<String>>) -> Option<Template> {
    for mistake in parsed.as_ref().err().into_iter().flatten() {
        section.wrong(mistake);
    }
    parsed.ok()
}
