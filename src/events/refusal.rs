//! What a client is told of data that does not fit its schema: which field, and why, in our words.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;

use crate::events::schema::MAX_BYTES;
use crate::types::{Code, Problem};

/// The refusal. Never repeats what the client sent: it can be long.
pub(super) fn refusal(error: &ValidationError<'_>) -> Problem {
    let path = path(error.instance_path().as_str());
    let inside = |name: &str| match path.as_str() {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match error.kind() {
        Kind::Required { property } => {
            let field = inside(property.as_str().unwrap_or_default());
            let message = format!("{field} is missing");
            Problem::field(field, message)
        }
        Kind::AdditionalProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            let field = inside(&name.chars().take(64).collect::<String>());
            let message = format!("{field} is not known");
            Problem::field(field, message)
        }
        Kind::MinLength { limit: 1 } => {
            let message = format!("{path} is empty");
            Problem::field(path, message)
        }
        Kind::Format { format } if format == "id" => {
            let message =
                format!("{path} must be a text of 1 to 128 bytes without control characters");
            Problem::field(path, message)
        }
        Kind::Custom { keyword, message } => {
            let code = match keyword.as_str() {
                MAX_BYTES => Code::TooLarge,
                _ => Code::Invalid,
            };
            let message = format!("{path} {message}");
            Problem {
                code,
                ..Problem::field(path, message)
            }
        }
        _ => {
            let shown = if path.is_empty() { "data" } else { &path };
            let message = error.masked_with(shown.to_owned()).to_string();
            Problem::field(path, message)
        }
    }
}

/// `/author/names/0` as `author.names.0`.
fn path(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1);
    let parts: Vec<_> = parts
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    parts.join(".")
}
