//! Holds data against its row's schema; the answer is what the client reads.

use serde_json::value::RawValue;

use crate::events::catalogue::Row;
use crate::events::object::{ObjectError, pick, text};
use crate::events::schema::{Field, Rule};
use crate::types::{Code, Problem};

/// Checks an event's data. The problem names the first field that is wrong.
pub fn validate(row: &Row, data: &RawValue) -> Result<(), Problem> {
    let fields = row.schema.fields();
    let members = pick(data.get(), fields).map_err(|error| refusal(row, &error))?;
    for (field, member) in fields.iter().zip(members) {
        match member {
            Some(member) => check(field, member)?,
            None if field.is_required => {
                return Err(Problem::field(
                    &field.name,
                    format!("{} is missing", field.name),
                ));
            }
            None => {}
        }
    }
    Ok(())
}

fn refusal(row: &Row, error: &ObjectError) -> Problem {
    match error {
        ObjectError::Twice(name) => Problem::field(name, format!("{name} is given twice")),
        ObjectError::NotAnObject(_) => Problem::new(
            Code::Invalid,
            format!("the data of {} must be an object", row.name()),
        ),
    }
}

fn check(field: &Field, member: &RawValue) -> Result<(), Problem> {
    let name = &field.name;
    let wrong = |reason: String| Err(Problem::field(name, format!("{name} {reason}")));
    if field.rule == Rule::Integer {
        // What fits in a double without loss, which is what every client can read back.
        return match serde_json::from_str::<u64>(member.get()) {
            Ok(0..=9_007_199_254_740_991) => Ok(()),
            _ => wrong("must be a whole number from 0 to 9007199254740991".to_owned()),
        };
    }
    let Some(text) = text(member) else {
        return wrong("must be a string".to_owned());
    };
    match &field.rule {
        Rule::Text { bytes_max, .. } if text.len() > *bytes_max => Err(Problem {
            code: Code::TooLarge,
            ..Problem::field(
                name,
                format!("{name} is {} bytes, the limit is {bytes_max}", text.len()),
            )
        }),
        Rule::Text { bytes_min, .. } if text.len() < *bytes_min => match text.len() {
            0 => wrong("is empty".to_owned()),
            n => wrong(format!("is {n} bytes, at least {bytes_min} are needed")),
        },
        Rule::Id { bytes_max } if text.len() > *bytes_max => {
            wrong(format!("is {} bytes, the limit is {bytes_max}", text.len()))
        }
        Rule::Id { .. } if text.is_empty() => wrong("is empty".to_owned()),
        Rule::Id { .. } => match text.chars().find(|c| c.is_control()) {
            Some(c) => wrong(format!("holds the character {c:?}")),
            None => Ok(()),
        },
        Rule::OneOf(values) if values.iter().all(|value| *value != text) => {
            wrong(format!("must be one of {}", values.join(", ")))
        }
        Rule::Text { .. } | Rule::OneOf(_) | Rule::Integer => Ok(()),
    }
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
            room = "r:{userId}"
            server = "t"
            who = "anyone"
            durability = "ephemeral"
            view = ["userId"]
            [event.schema]
            id = { kind = "id", required = true, bytes_max = 8 }
            text = { kind = "text", bytes_min = 2, bytes_max = 4 }
            up_to = { kind = "integer" }
            colour = { kind = "one_of", values = ["red", "blue"] }
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
            (r#"{"id":"a","text":"éé","up_to":0,"colour":"red"}"#, Ok(())),
            ("{}", Err((Code::Invalid, "id"))),
            (r#"{"id":null}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":""}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"123456789"}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"a\u0000"}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":5}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"a","id":"b"}"#, Err((Code::Invalid, "id"))),
            (r#"{"id":"a","text":"é"}"#, Ok(())),
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
