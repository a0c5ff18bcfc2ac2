//! Texts with holes, filled from an envelope: `conversation:{conversationId}`.

use std::fmt;

use serde_json::value::RawValue;

use crate::events::envelope::Envelope;
use crate::events::object::{pick, text};
use crate::types::UserId;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Timestamp,
    UserId,
    /// Who a derived event is for.
    Recipient,
    ConversationId,
    Kind,
    /// A string member of the data.
    Data(String),
}

/// An envelope has no value for a hole, so the event has no room or key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event has no {0}")]
pub struct TemplateError(pub String);

impl Template {
    /// Parses a template. Holes are `{userId}`, `{conversationId}`, `{type}`, `{id}`, `{timestamp}`,
    /// and `{data.NAME}` for the names given. The error lists every mistake.
    pub(super) fn parse(source: &str, names: &[String]) -> Result<Self, Vec<String>> {
        Self::read(source, names, false)
    }

    /// The same for a derived event's data, where `{recipient}` is a hole too.
    pub(super) fn parse_derived(source: &str, names: &[String]) -> Result<Self, Vec<String>> {
        Self::read(source, names, true)
    }

    fn read(source: &str, names: &[String], is_derived: bool) -> Result<Self, Vec<String>> {
        let (mut parts, mut mistakes) = (Vec::new(), Vec::new());
        let mut rest = source;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((hole, tail)) = after.split_once('}') else {
                mistakes.push(format!("template {source:?} has an open brace"));
                return Err(mistakes);
            };
            rest = tail;
            match Part::hole(hole, names, is_derived) {
                Some(part) => parts.push(part),
                None => mistakes.push(format!(
                    "template {source:?} has the unknown field {hole:?}; known are userId, \
                     conversationId, type, id, timestamp{} and data.NAME for a text of the schema",
                    if is_derived { ", recipient" } else { "" }
                )),
            }
        }
        if rest.contains('}') {
            mistakes.push(format!("template {source:?} has a closing brace too many"));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() && mistakes.is_empty() {
            mistakes.push("template is empty".to_owned());
        }
        if mistakes.is_empty() {
            Ok(Self { parts })
        } else {
            Err(mistakes)
        }
    }

    /// Fills the holes.
    pub fn fill(&self, envelope: &Envelope) -> Result<String, TemplateError> {
        self.fill_for(envelope, &envelope.user_id)
    }

    /// Fills the holes, `{recipient}` with this user.
    pub fn fill_for(
        &self,
        envelope: &Envelope,
        recipient: &UserId,
    ) -> Result<String, TemplateError> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Id => filled.push_str(envelope.id.as_str()),
                Part::Timestamp => filled.push_str(&envelope.timestamp.to_string()),
                Part::UserId => filled.push_str(envelope.user_id.as_str()),
                Part::Recipient => filled.push_str(recipient.as_str()),
                Part::Kind => filled.push_str(&envelope.kind),
                Part::ConversationId => {
                    let id = envelope.conversation_id.as_ref();
                    filled.push_str(id.ok_or_else(|| missing("conversationId"))?.as_str());
                }
                Part::Data(name) => {
                    let member = member(envelope, name).ok_or_else(|| missing(name))?;
                    filled.push_str(&text(member).ok_or_else(|| missing(name))?);
                }
            }
        }
        Ok(filled)
    }

    /// As a JSON value: a template that is nothing but `{data.NAME}` is that member as it is, any
    /// other is a string.
    pub(super) fn value_for(
        &self,
        envelope: &Envelope,
        recipient: &UserId,
    ) -> Result<Box<RawValue>, TemplateError> {
        if let [Part::Data(name)] = self.parts.as_slice() {
            let member = member(envelope, name).ok_or_else(|| missing(name))?;
            return Ok(member.to_owned());
        }
        let filled = self.fill_for(envelope, recipient)?;
        Ok(serde_json::value::to_raw_value(&filled).expect("a string is JSON"))
    }
}

impl Part {
    fn hole(hole: &str, names: &[String], is_derived: bool) -> Option<Self> {
        Some(match hole {
            "id" => Self::Id,
            "timestamp" => Self::Timestamp,
            "userId" => Self::UserId,
            "conversationId" => Self::ConversationId,
            "type" => Self::Kind,
            "recipient" if is_derived => Self::Recipient,
            _ => {
                let name = hole.strip_prefix("data.")?;
                Self::Data(names.iter().find(|known| *known == name)?.clone())
            }
        })
    }
}

/// A member of the data; `None` if it is not there or the data is no object.
pub(super) fn member<'a>(envelope: &'a Envelope, name: &str) -> Option<&'a RawValue> {
    let members = pick(envelope.data.get(), &[name]).ok()?;
    members.first().copied().flatten()
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Id => f.write_str("{id}"),
            Part::Timestamp => f.write_str("{timestamp}"),
            Part::Recipient => f.write_str("{recipient}"),
            Part::UserId => f.write_str("{userId}"),
            Part::ConversationId => f.write_str("{conversationId}"),
            Part::Kind => f.write_str("{type}"),
            Part::Data(name) => write!(f, "{{data.{name}}}"),
        })
    }
}

fn missing(name: &str) -> TemplateError {
    TemplateError(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"id":"e","type":"T","userId":"ann","timestamp":"2026-01-31T12:00:00Z","data":{"to":"b\u00f6b","n":1}}"#;

    #[test]
    fn holes_are_filled_from_the_envelope() {
        let envelope = Envelope::parse(ENVELOPE.as_bytes()).unwrap();
        let cases = [
            ("{userId}", Ok("ann".to_owned())),
            ("a{type}-{data.to}:c", Ok("aT-böb:c".to_owned())),
            ("plain", Ok("plain".to_owned())),
            (
                "{id}@{timestamp}",
                Ok("e@2026-01-31T12:00:00.000Z".to_owned()),
            ),
            ("c:{conversationId}", Err(missing("conversationId"))),
            ("{data.n}", Err(missing("n"))),
            ("{data.gone}", Err(missing("gone"))),
        ];
        for (source, filled) in cases {
            let template =
                Template::parse(source, &["to", "n", "gone"].map(str::to_owned)).unwrap();
            assert_eq!(template.fill(&envelope), filled, "{source}");
            assert_eq!(template.to_string(), source);
        }
    }

    #[test]
    fn every_mistake_in_a_template_is_told() {
        let cases = [
            ("{room} {data.x}", 2),
            ("{recipient}", 1),
            ("{userId", 1),
            ("a}", 1),
            ("", 1),
            ("{}", 1),
        ];
        for (source, n) in cases {
            assert_eq!(
                Template::parse(source, &[]).unwrap_err().len(),
                n,
                "{source}"
            );
        }
    }
}
