//! What an event's data must look like: a JSON schema, compiled once.
//!
//! The schema is draft 2020-12, written as TOML, with two words of our own: the keyword `maxBytes`
//! (bytes of UTF-8; what is longer is `too_large`, not `invalid`) and the format `id` (1 to 128 bytes
//! without control characters, as all ids are).

use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::{Map, Value};

use crate::events::refusal::refusal;
use crate::types::{Problem, UserId};

/// The rules for the data of one event type. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    source: Value,
    validator: Validator,
    properties: Vec<Property>,
}

/// A member that the schema names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Whether it must be there; `null` is not there.
    pub is_required: bool,
    /// Whether it is a string.
    pub is_text: bool,
    /// Whether only the program gives it, never a client.
    pub is_read_only: bool,
}

/// The keyword for a string's length in bytes.
pub(super) const MAX_BYTES: &str = "maxBytes";

/// The keyword for what clients may not give.
const READ_ONLY: &str = "readOnly";

/// What may stand in a schema. A word that is not here is a mistake: JSON schema would ignore it.
const KEYWORDS: &[&str] = &[
    "type",
    "title",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "minProperties",
    "maxProperties",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "enum",
    "const",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "examples",
    "default",
    READ_ONLY,
    MAX_BYTES,
];

impl Schema {
    /// Compiles a schema. The error lists every mistake.
    pub(super) fn compile(table: toml::Table) -> Result<Self, Vec<String>> {
        let mut source = serde_json::to_value(table).map_err(|e| vec![e.to_string()])?;
        let mut mistakes = Vec::new();
        let root = source.as_object_mut();
        let kind = root.map(|root| root.entry("type").or_insert_with(|| "object".into()));
        if kind.is_some_and(|kind| kind != "object") {
            mistakes.push("type must be \"object\": data is an object".to_owned());
        }
        check_keywords("", &source, &mut mistakes);
        let properties = properties(&source, &mut mistakes);
        let compiled = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_format("id", |text: &str| UserId::parse(text).is_ok())
            .with_keyword(MAX_BYTES, |_, value, _| max_bytes(value))
            .build(&source);
        match compiled {
            Ok(validator) if mistakes.is_empty() => Ok(Self(Arc::new(Inner {
                source,
                validator,
                properties,
            }))),
            Ok(_) => Err(mistakes),
            Err(error) => {
                let at = error.instance_path().as_str().trim_start_matches('/');
                let at = at.replace('/', ".");
                let dot = if at.is_empty() { "" } else { ": " };
                mistakes.push(format!("{at}{dot}{error}"));
                Err(mistakes)
            }
        }
    }

    /// A schema that lets every object pass.
    pub(super) fn any() -> Self {
        Self::compile(toml::Table::new()).expect("an empty schema is valid")
    }

    /// The schema itself, as JSON.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.0.source
    }

    /// The members that it names.
    #[must_use]
    pub fn properties(&self) -> &[Property] {
        &self.0.properties
    }

    /// Whether it names a member.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// Whether a member of this name must be there.
    #[must_use]
    pub fn requires(&self, name: &str) -> bool {
        self.property(name).is_some_and(|p| p.is_required)
    }

    fn property(&self, name: &str) -> Option<&Property> {
        self.0.properties.iter().find(|known| known.name == name)
    }

    /// Holds data against the schema. The problem names the first field that is wrong.
    pub(super) fn check(&self, data: &Value) -> Result<(), Problem> {
        self.0.validator.validate(data).map_err(|e| refusal(&e))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(self.source()).finish()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

fn properties(schema: &Value, mistakes: &mut Vec<String>) -> Vec<Property> {
    let required = schema.get("required").and_then(Value::as_array);
    let required: Vec<_> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let named = schema.get("properties").and_then(Value::as_object);
    let properties: Vec<_> = named
        .into_iter()
        .flatten()
        .map(|(name, rule)| Property {
            name: name.clone(),
            is_required: required.contains(&name.as_str()),
            is_read_only: rule.get(READ_ONLY).is_some_and(|flag| flag == true),
            is_text: rule.get("type").is_some_and(|kind| kind == "string"),
        })
        .collect();
    for name in required {
        if !properties.iter().any(|property| property.name == name) {
            mistakes.push(format!("required: {name:?} is not among the properties"));
        }
    }
    properties
}

fn check_keywords(place: &str, schema: &Value, mistakes: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        return;
    };
    for (word, value) in schema {
        let inside = format!("{place}{word}.");
        match word.as_str() {
            "properties" => {
                for (name, rule) in value.as_object().into_iter().flatten() {
                    check_keywords(&format!("{inside}{name}."), rule, mistakes);
                }
            }
            "items" | "not" | "additionalProperties" => check_keywords(&inside, value, mistakes),
            "anyOf" | "oneOf" | "allOf" => {
                for rule in value.as_array().into_iter().flatten() {
                    check_keywords(&inside, rule, mistakes);
                }
            }
            word if KEYWORDS.contains(&word) => {}
            _ => mistakes.push(format!("{place}{word} is no keyword of a schema")),
        }
    }
}

struct MaxBytes(usize);

type Factory<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

fn max_bytes<'a>(value: &'a Value) -> Factory<'a> {
    let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| ValidationError::schema("maxBytes must be above 0"))?;
    Ok(Box::new(MaxBytes(limit)))
}

impl<'i> Keyword<'i> for MaxBytes {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match value.as_str().map(str::len) {
            Some(bytes) if bytes > self.0 => Err(ValidationError::custom(format!(
                "is {bytes} bytes, the limit is {}",
                self.0
            ))),
            _ => Ok(()),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        value.as_str().is_none_or(|text| text.len() <= self.0)
    }
}

/// The data as the schema sees it: members that are `null` are not there.
pub(super) fn without_nulls(mut data: Map<String, Value>) -> Value {
    data.retain(|_, value| !value.is_null());
    Value::Object(data)
}
