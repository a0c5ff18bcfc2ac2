//! Holds data against its row's schema; the answer is what the client reads.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::events::catalogue::Row;
use crate::events::object::pick;
use crate::events::schema::without_nulls;
use crate::types::{Code, Problem};

/// Checks an event's data. The problem names the first field that is wrong.
pub fn validate(row: &Row, data: &RawValue) -> Result<(), Problem> {
    checked(row, data).map(drop)
}

/// Refuses what only the program may say about an event, in data that a client formed.
pub fn validate_own(row: &Row, data: &RawValue) -> Result<(), Problem> {
    let properties = row.schema.properties().iter();
    let kept: Vec<_> = properties
        .filter(|property| property.is_read_only)
        .map(|property| property.name.as_str())
        .collect();
    // What is no object is told by the schema.
    let found = pick(data.get(), &kept).unwrap_or_default();
    match kept.iter().zip(found).find(|(_, member)| member.is_some()) {
        Some((name, _)) => {
            let message = format!("{name} is not for clients to give");
            Err(Problem::field(*name, message))
        }
        None => Ok(()),
    }
}

/// Checks an event's data and gives it, read once. Members that are `null` are not there.
pub(super) fn checked(row: &Row, data: &RawValue) -> Result<Value, Problem> {
    let data = without_nulls(read(row, data)?);
    row.schema.check(&data)?;
    Ok(data)
}

fn read(row: &Row, data: &RawValue) -> Result<Map<String, Value>, Problem> {
    let no_object = || {
        let message = format!("the data of {} must be an object", row.name());
        Problem::new(Code::Invalid, message)
    };
    if !data.get().trim_start().starts_with('{') {
        return Err(no_object());
    }
    let mut reading = Reading::default();
    let mut from = serde_json::Deserializer::from_str(data.get());
    let read = Members(&mut reading).deserialize(&mut from);
    let read = read.and_then(|map| from.end().map(|()| map));
    match (read, reading) {
        (
            _,
            Reading {
                twice: Some(name), ..
            },
        ) => Err(Problem::field(&name, format!("{name} is given twice"))),
        (Ok(members), _) => Ok(members),
        // The text is JSON already; what is left is a lone surrogate, or too deep.
        (Err(_), Reading { at: Some(name), .. }) => {
            let message = format!("{name} holds half a character or is nested too deep");
            Err(Problem::field(&name, message))
        }
        (Err(_), _) => Err(no_object()),
    }
}

/// How far reading an object came.
#[derive(Default)]
struct Reading {
    /// The member being read.
    at: Option<String>,
    /// A name that came again: two readers could read two things.
    twice: Option<String>,
}

struct Members<'r>(&'r mut Reading);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                self.0.twice = Some(shorten(&name));
            }
            match map.next_value::<Value>() {
                Ok(value) => drop(members.insert(name, value)),
                Err(error) => {
                    self.0.at = Some(shorten(&name));
                    return Err(error);
                }
            }
        }
        Ok(members)
    }
}

/// A client's own text, cut for a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Catalogue;
    use proptest::prelude::*;

    fn check(client: &str, data: &str) -> Result<(), (Code, Option<String>)> {
        let catalogue = Catalogue::parse(
            r#"
            [[event]]
            type = "T"
            client = "t"
            room = "user:{userId}"
            server = "t"
            who = "anyone"
            durability = "ephemeral"
            view = ["userId"]
            [event.schema]
            required = ["id"]
            properties.id = { type = "string", format = "id" }
            properties.text = { type = "string", minLength = 2, maxBytes = 4 }
            properties.up_to = { type = "integer", minimum = 0, maximum = 9007199254740991 }
            properties.colour = { enum = ["red", "blue"] }
            properties.list = { type = "array", items = { type = "object", required = ["a"] } }
            "#,
        );
        let catalogue = if client == "t" {
            catalogue.unwrap()
        } else {
            Catalogue::builtin()
        };
        let data = RawValue::from_string(data.to_owned()).unwrap();
        validate(catalogue.by_client(client).unwrap(), &data)
            .map_err(|problem| (problem.code, problem.field))
    }

    #[test]
    fn each_rule_refuses_what_it_says_and_names_the_field() {
        let cases = [
            (r#"{"id":"a"}"#, Ok(())),
            (r#"{"id":"a","text":null,"more":{"x":[]}}"#, Ok(())),
            (
                r#"{"id":"a","more":1,"more":2}"#,
                Err((Code::Invalid, "more")),
            ),
            (r#"{"id":"a","text":"éé","up_to":0,"colour":"red"}"#, Ok(())),
            ("{}", Err((Code::Invalid, "id"))),
            (r#"{"id":null}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":""}"#, Err((Code::Invalid, "id"))),
            (
                r#"{"id":"a","list":[{"a":1},{}]}"#,
                Err((Code::Invalid, "list.1.a")),
            ),
            (r#"{"id":"a","list":[1]}"#, Err((Code::Invalid, "list.0"))),
            (r#"{"id":"a\u0000"}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":5}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"a","id":"b"}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"a","text":"é"}"#, Err((Code::Invalid, "text"))),
            (r#"{"id":"a","text":"x"}"#, Err((Code::Invalid, "text"))),
            (r#"{"id":"a","text":"ééx"}"#, Err((Code::TooLarge, "text"))),
            (r#"{"id":"a","text":["x"]}"#, Err((Code::Invalid, "text"))),
            (
                r#"{"id":"a","text":"\ud800"}"#,
                Err((Code::Invalid, "text")),
            ),
            (r#"{"id":"a","up_to":-1}"#, Err((Code::Invalid, "up_to"))),
            (r#"{"id":"a","up_to":1.5}"#, Err((Code::Invalid, "up_to"))),
            (
                r#"{"id":"a","up_to":9007199254740992}"#,
                Err((Code::Invalid, "up_to")),
            ),
            (r#"{"id":"a","up_to":"1"}"#, Err((Code::Invalid, "up_to"))),
            (
                r#"{"id":"a","colour":"green"}"#,
                Err((Code::Invalid, "colour")),
            ),
        ];
        for (data, expected) in cases {
            let expected = expected.map_err(|(code, field)| (code, Some(field.to_owned())));
            assert_eq!(check("t", data), expected, "{data}");
        }
        for data in ["[]", "null", "1", "\"x\""] {
            assert_eq!(check("t", data), Err((Code::Invalid, None)), "{data}");
        }
    }

    #[test]
    fn a_message_has_a_conversation_and_some_but_not_too_much_content() {
        let message = |id: &str, content: &str| {
            check(
                "message:send",
                &format!(r#"{{"conversationId":"{id}","content":"{content}"}}"#),
            )
        };
        let field = |code, name: &str| Err((code, Some(name.to_owned())));
        assert_eq!(message("42", "hi"), Ok(()));
        assert_eq!(message(&"4".repeat(128), &"x".repeat(16_384)), Ok(()));
        assert_eq!(
            message("42", &"x".repeat(16_385)),
            field(Code::TooLarge, "content")
        );
        assert_eq!(message("42", ""), field(Code::Invalid, "content"));
        assert_eq!(
            message(&"4".repeat(129), "hi"),
            field(Code::Invalid, "conversationId")
        );
        assert_eq!(message("", "hi"), field(Code::Invalid, "conversationId"));
        assert_eq!(
            check("typing:start", "{}"),
            field(Code::Invalid, "conversationId")
        );
    }

    proptest! {
        #[test]
        fn any_json_object_is_answered(text in r#"\{("id":("[a-z]{0,9}"|1|null),?){0,2}\}"#) {
            if let Ok(data) = RawValue::from_string(text) {
                drop(validate(Catalogue::builtin().by_client("message:send").unwrap(), &data));
            }
        }
    }
}
