//! The members of what a client sent, each refused by its name.

use serde_json::{Map, Value};

use super::reply;
use crate::server::Event;
use crate::types::{IdError, Problem};

/// A JSON object from a client.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// An event's argument.
    pub(super) fn of(event: &Event) -> Result<Self, Problem> {
        let data = reply::payload(event)?;
        reply::read(data.get()).map(Self)
    }

    /// Whether a member is there; `null` is not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A member that is an id.
    pub(super) fn id<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<T, Problem> {
        if !self.has(name) {
            return Err(Problem::field(name, format!("{name} is missing")));
        }
        one(name, self.0.get(name), parse)
    }

    /// A member that is a list of ids, at most so many, each of them once.
    pub(super) fn ids<T: PartialEq>(
        &self,
        name: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, IdError>,
    ) -> Result<Vec<T>, Problem> {
        let Some(Value::Array(values)) = self.0.get(name) else {
            return Err(Problem::field(
                name,
                format!("{name} must be a list of ids"),
            ));
        };
        if values.is_empty() || values.len() > max {
            let message = format!("{name} holds {} ids, allowed are 1 to {max}", values.len());
            return Err(Problem::field(name, message));
        }
        let mut ids = Vec::with_capacity(values.len());
        for value in values {
            let id = one(name, Some(value), &parse)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

fn one<T>(
    name: &str,
    value: Option<&Value>,
    parse: impl FnOnce(&str) -> Result<T, IdError>,
) -> Result<T, Problem> {
    let text = value.and_then(Value::as_str);
    let text = text.ok_or_else(|| Problem::field(name, format!("{name} must be a text")))?;
    parse(text).map_err(|error| Problem::field(name, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserId;

    fn fields(json: &str) -> Fields {
        Fields(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            ("{}", "missing"),
            (r#"{"userId":null}"#, "missing"),
            (r#"{"userId":7}"#, "a text"),
            (r#"{"userId":""}"#, "empty"),
        ] {
            let problem = fields(json).id("userId", UserId::parse).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("userId"), "{json}");
            assert!(problem.message.contains(part), "{}", problem.message);
        }
        for json in [
            "{}",
            r#"{"ids":"x"}"#,
            r#"{"ids":[]}"#,
            r#"{"ids":["a","b","c"]}"#,
            r#"{"ids":[7]}"#,
        ] {
            let problem = fields(json).ids("ids", 2, UserId::parse).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("ids"), "{json}");
        }
    }

    #[test]
    fn an_id_that_is_named_twice_is_one() {
        let ids = fields(r#"{"ids":["a","a"]}"#).ids("ids", 2, UserId::parse);
        assert_eq!(ids.unwrap(), [UserId::parse("a").unwrap()]);
    }
}
