//! JSON that is not of the shape that was expected: which member is wrong.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::types::{Code, Problem};

/// The refusal of a text that could not be read, naming the member where that can be told.
pub(super) fn misfit(text: &str, error: &serde_json::Error) -> Problem {
    let told = error.to_string();
    let reason = told.split(" at line ").next().unwrap_or(&told);
    if let Some(name) = quoted(reason, "missing field `") {
        return Problem::field(name, format!("{name} is missing"));
    }
    match member_before(text, offset(text, error)) {
        Some(name) => {
            let message = format!("{name}: {reason}");
            Problem::field(name, message)
        }
        None => Problem::new(Code::Invalid, told),
    }
}

fn quoted<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.split('`').next()
}

/// Where reading stopped: right after what was wrong, or one byte later.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().max(1) - 1);
    lines.map(str::len).sum::<usize>() + error.column()
}

/// The last member whose value begins up to this place.
fn member_before(text: &str, place: usize) -> Option<String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let begins = |value: &RawValue| value.get().as_ptr().addr() - text.as_ptr().addr();
    members
        .into_iter()
        .filter(|(_, value)| begins(value) <= place)
        .max_by_key(|(_, value)| begins(value))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is read, which is all")]
    struct Shape {
        name: String,
        count: Option<u32>,
        of: Option<Vec<u8>>,
    }

    fn refused(text: &str) -> (Option<String>, String) {
        let error = serde_json::from_str::<Shape>(text).unwrap_err();
        let Problem { field, message, .. } = misfit(text, &error);
        (field, message)
    }

    #[test]
    fn the_member_that_is_wrong_is_named() {
        for (text, field) in [
            ("{}", "name"),
            (r#"{"count":1}"#, "name"),
            (r#"{"name":7,"count":1}"#, "name"),
            (r#"{"name":"x", "count":"7" , "of":[]}"#, "count"),
            ("{\n \"name\": \"x\",\n \"count\": -1\n}", "count"),
            (r#"{"count":1,"of":[1,"x"],"name":"x"}"#, "of"),
            (r#"{"name":"x","other":{"name":7},"count":{}}"#, "count"),
        ] {
            let (found, message) = refused(text);
            assert_eq!(found.as_deref(), Some(field), "{text}: {message}");
            assert!(!message.contains(" at line "), "{message}");
        }
        assert_eq!(refused("{}").1, "name is missing");
    }

    #[test]
    fn what_is_no_json_has_no_member() {
        assert_eq!(refused(r#"{"name":"#).0, None);
    }
}
