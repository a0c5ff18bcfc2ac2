//! Takes some members out of a JSON object, unparsed, and skips the rest.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a text gave no members.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    NotAnObject(#[from] serde_json::Error),
    /// A member that was asked for is there twice, so two readers could read two things.
    #[error("`{0}` is given twice")]
    Twice(String),
}

/// The members of these names, in their order. `null` counts as absent.
pub(super) fn pick<'a, S: AsRef<str>>(
    json: &'a str,
    names: &[S],
) -> Result<Vec<Option<&'a RawValue>>, ObjectError> {
    let mut from = serde_json::Deserializer::from_str(json);
    let picked = Pick(names).deserialize(&mut from)?;
    from.end()?;
    if let Some(name) = picked.twice {
        return Err(ObjectError::Twice(name));
    }
    Ok(picked.members)
}

/// A member as text, if it is a string.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(raw.get()).ok().map(|Text(text)| text)
}

struct Pick<'n, S>(&'n [S]);

struct Picked<'de> {
    members: Vec<Option<&'de RawValue>>,
    twice: Option<String>,
}

impl<'de, S: AsRef<str>> DeserializeSeed<'de> for Pick<'_, S> {
    type Value = Picked<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, S: AsRef<str>> Visitor<'de> for Pick<'_, S> {
    type Value = Picked<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = vec![false; self.0.len()];
        let mut picked = Picked {
            members: vec![None; self.0.len()],
            twice: None,
        };
        while let Some(index) = map.next_key_seed(Index(self.0))? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let member: &RawValue = map.next_value()?;
            if std::mem::replace(&mut seen[index], true) {
                picked.twice = Some(self.0[index].as_ref().to_owned());
            }
            picked.members[index] = Some(member).filter(|member| member.get() != "null");
        }
        Ok(picked)
    }
}

/// Reads a key as its place among the names.
struct Index<'n, S>(&'n [S]);

impl<'de, S: AsRef<str>> DeserializeSeed<'de> for Index<'_, S> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<S: AsRef<str>> Visitor<'_> for Index<'_, S> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_ref() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_unparsed_in_the_order_asked_for() {
        let json = r#" {"a" : [1, 2.0],"x":{"a":7},"\u0062":"t","c":null} "#;
        let picked = pick(json, &["b", "a", "c", "d"]).unwrap();
        let picked: Vec<_> = picked
            .iter()
            .map(|member| member.map(RawValue::get))
            .collect();
        assert_eq!(picked, [Some(r#""t""#), Some("[1, 2.0]"), None, None]);
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for bad in ["", "[]", "1", "{", "{} {}", r#"{"a":}"#, "\"a\"", "null"] {
            assert!(
                matches!(pick(bad, &["a"]), Err(ObjectError::NotAnObject(_))),
                "{bad}"
            );
        }
        let twice = pick(r#"{"a":1,"b":1,"b":2,"a":null}"#, &["a"]).unwrap_err();
        assert_eq!(twice.to_string(), "`a` is given twice");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(pick(&deep, &["b"]).is_ok() && pick(&deep, &["a"]).is_ok());
    }
}
