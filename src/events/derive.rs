//! What follows from an event: other events, records, memberships. Data of the catalogue's rows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::value::RawValue;

use crate::events::envelope::Envelope;
use crate::events::id::derived_id;
use crate::events::object::text;
use crate::events::template::{Template, member};
use crate::types::{Timestamp, UserId};

/// An event that follows from one.
#[derive(Debug, Clone)]
pub struct Emit {
    /// Its type.
    pub kind: Arc<str>,
    /// Only then.
    pub when: Option<When>,
    /// For whom: one event for each.
    pub each: Each,
    /// Members of its data, each a template over the event, with `{recipient}` for the user it is for.
    /// The envelope's `userId` is the recipient, its `conversationId` the event's.
    pub data: Vec<(String, Template)>,
}

/// For whom an event follows.
#[derive(Debug, Clone)]
pub enum Each {
    /// Once, as the event's own user.
    Once,
    /// These users, each once; templates that fill to nothing are left out.
    Users(Vec<Template>),
    /// The members of the event's conversation, the sender left out.
    Members,
    /// Those of them who are not online.
    MembersAway,
    /// Those of them whom the member `content` of the data mentions as `@id`.
    Mentions,
}

/// A condition over the event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// The member.
    pub field: String,
    /// What it must be; `None`: it must be there.
    pub equals: Option<String>,
}

/// What an event does to stored things.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Its data becomes (or is merged into) a record.
    Upsert {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
        /// How long caches keep it.
        ttl: Option<Duration>,
    },
    /// The record is deleted.
    Delete {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
    },
    /// Caches forget the record.
    Invalidate {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
    },
    /// A user becomes a member of a course or building; live sockets join its room.
    Join {
        /// The room.
        room: Template,
        /// The user.
        user: Template,
    },
    /// A user ceases to be one.
    Leave {
        /// The room.
        room: Template,
        /// The user.
        user: Template,
    },
}

/// The event that follows from another, for one recipient. Its id follows from the parent's, its type
/// and the recipient, so that it is the same event however often it is derived. Members of the data
/// whose template has no value are left out.
#[must_use]
pub fn envelope(parent: &Envelope, emit: &Emit, recipient: &UserId, at: Timestamp) -> Envelope {
    Envelope {
        id: derived_id(&[parent.id.as_str(), &emit.kind, recipient.as_str()]),
        kind: emit.kind.to_string(),
        user_id: recipient.clone(),
        conversation_id: parent.conversation_id.clone(),
        timestamp: at,
        data: data(parent, emit, recipient),
    }
}

fn data(parent: &Envelope, emit: &Emit, recipient: &UserId) -> Box<RawValue> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut write = || {
        let mut map = serializer.serialize_map(None)?;
        for (name, template) in &emit.data {
            if let Ok(value) = template.value_for(parent, recipient) {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    };
    write().expect("its members are JSON already");
    let json = String::from_utf8(json).expect("JSON is UTF-8");
    RawValue::from_string(json).expect("it was just written as JSON")
}

impl Emit {
    /// Whether the event follows from this one at all.
    #[must_use]
    pub fn follows(&self, parent: &Envelope) -> bool {
        self.when.as_ref().is_none_or(|when| when.holds(parent))
    }
}

impl Each {
    /// The users that the event itself names, each once: its own user, or those of the templates.
    /// None for members, who are stored.
    #[must_use]
    pub fn named(&self, parent: &Envelope) -> Vec<UserId> {
        match self {
            Self::Once => vec![parent.user_id.clone()],
            Self::Users(templates) => {
                let filled = templates.iter().filter_map(|t| t.fill(parent).ok());
                once(filled.filter_map(|user| UserId::parse(&user).ok()))
            }
            Self::Members | Self::MembersAway | Self::Mentions => Vec::new(),
        }
    }
}

impl When {
    /// Whether it holds of an event.
    #[must_use]
    pub fn holds(&self, event: &Envelope) -> bool {
        let Some(value) = member(event, &self.field) else {
            return false;
        };
        let Some(expected) = &self.equals else {
            return true;
        };
        // Numbers and booleans are compared by their text.
        text(value).map_or_else(|| value.get() == expected, |text| text == *expected)
    }
}

/// The users whom the member `content` of the data mentions as `@id`, each once. Whether there are
/// such users, and in the conversation, is the caller's question.
#[must_use]
pub fn mentions(event: &Envelope) -> Vec<UserId> {
    let content = member(event, "content").and_then(text).unwrap_or_default();
    let mut before = ' ';
    let mut found = Vec::new();
    for (at, c) in content.char_indices() {
        // "ann@example.org" mentions nobody.
        if c == '@' && !before.is_alphanumeric() {
            let rest = &content[at + 1..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
            let name = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            found.extend(UserId::parse(name).ok());
        }
        before = c;
    }
    once(found.into_iter())
        .into_iter()
        .take(MENTIONS_MAX)
        .collect()
}

/// A message to everybody in the room by name is not what mentions are for.
const MENTIONS_MAX: usize = 50;

fn once(users: impl Iterator<Item = UserId>) -> Vec<UserId> {
    let mut seen = HashSet::new();
    users.filter(|user| seen.insert(user.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Envelope {
        let json = format!(
            r#"{{"id":"e1","type":"T","userId":"ann","conversationId":"42","timestamp":"2026-01-31T12:00:00Z","data":{data}}}"#
        );
        Envelope::parse(json.as_bytes()).unwrap()
    }

    fn template(source: &str) -> Template {
        Template::parse_derived(source, &["to", "n", "gone"].map(str::to_owned)).unwrap()
    }

    #[test]
    fn a_derived_event_is_the_same_however_often_it_is_derived() {
        let data = [
            "{recipient}",
            "{userId}: {data.to}",
            "{data.n}",
            "{data.gone}",
        ];
        let emit = Emit {
            kind: Arc::from("D"),
            when: None,
            each: Each::Once,
            data: data
                .map(|t| (t.replace(['{', '}'], ""), template(t)))
                .into(),
        };
        let (parent, at) = (
            event(r#"{"to":"b\"b","n":[1.0]}"#),
            Timestamp::from_millis(0),
        );
        let derive = |user: &str| envelope(&parent, &emit, &UserId::parse(user).unwrap(), at);
        let one = derive("bob");
        assert_eq!(
            one.data.get(),
            r#"{"recipient":"bob","userId: data.to":"ann: b\"b","data.n":[1.0]}"#
        );
        assert_eq!((&*one.kind, one.user_id.as_str()), ("D", "bob"));
        assert_eq!(one.conversation_id, parent.conversation_id);
        assert_eq!(one.id, derive("bob").id);
        assert_ne!(one.id, derive("cid").id);
    }

    #[test]
    fn conditions_look_at_the_data() {
        let when = |field: &str, equals: Option<&str>| When {
            field: field.to_owned(),
            equals: equals.map(str::to_owned),
        };
        let event = event(r#"{"a":"x","n":1,"b":true,"z":null}"#);
        assert!(when("a", None).holds(&event) && when("a", Some("x")).holds(&event));
        assert!(when("n", Some("1")).holds(&event) && when("b", Some("true")).holds(&event));
        for (field, equals) in [("z", None), ("c", None), ("a", Some("y")), ("n", Some("2"))] {
            assert!(!when(field, equals).holds(&event), "{field}");
        }
    }

    #[test]
    fn users_are_named_once_and_holes_without_value_name_nobody() {
        let each = Each::Users(
            ["{userId}", "{data.to}", "{data.to}", "{data.gone}"]
                .map(template)
                .into(),
        );
        let users: Vec<_> = each
            .named(&event(r#"{"to":"bob"}"#))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(users, ["ann", "bob"]);
        assert!(Each::Members.named(&event("{}")).is_empty());
    }

    #[test]
    fn a_mention_is_a_user_id_after_an_at_sign() {
        let found = |content: &str| {
            let content = serde_json::to_string(content).unwrap();
            let users = mentions(&event(&format!(r#"{{"content":{content}}}"#)));
            users.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found("@bob, @bob and (@cid-2_x.) @Ünal."),
            ["bob", "cid-2_x", "Ünal"]
        );
        assert!(found("ann@example.org @ @. no").is_empty());
        let many: String = (0..60).map(|n| format!("@u{n} ")).collect();
        assert_eq!(found(&many).len(), MENTIONS_MAX);
    }
}
