//! What is told to a client when something is refused: one table of codes for REST and Socket.IO.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The code of a refusal, the same over REST (problem+json) and in Socket.IO acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No valid token.
    Unauthenticated,
    /// A valid token that does not allow this.
    Forbidden,
    /// No such thing, or not visible to this user.
    NotFound,
    /// The input is wrong; `field` names where.
    Invalid,
    /// The input is larger than the limit.
    TooLarge,
    /// Too many requests; `retryAfterMs` says how long to wait.
    RateLimited,
    /// The node has no room for more work right now; retry.
    Overloaded,
    /// Something this needs does not answer right now; retry.
    Unavailable,
    /// The request contradicts what is stored.
    Conflict,
    /// A defect on our side.
    Internal,
}

/// Whose fault an error is, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller's.
    Client,
    /// A dependency's, or load; trying again can help.
    Unavailable,
    /// Ours.
    Internal,
}

impl Kind {
    /// The value of the metric label `kind`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Invalid,
        Self::TooLarge,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::Conflict,
        Self::Internal,
    ];

    /// The text on the wire.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of the same refusal over REST.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Invalid => 400,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable => 503,
            Self::Conflict => 409,
            Self::Internal => 500,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Overloaded | Self::Unavailable | Self::RateLimited => Kind::Unavailable,
            Self::Internal => Kind::Internal,
            _ => Kind::Client,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A refusal as the client reads it: `{code, message, field?, retryAfterMs?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What class of refusal.
    pub code: Code,
    /// What was wrong and what to do, for a person.
    pub message: String,
    /// The input field that is wrong.
    pub field: Option<String>,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A refusal with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            retry_after: None,
        }
    }

    /// A wrong input field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(Code::Invalid, message)
        }
    }

    /// The same, with a time to wait.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Milliseconds to wait, when there is a time to wait.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Problem {}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.text())?;
        map.serialize_entry("message", &self.message)?;
        if let Some(field) = &self.field {
            map.serialize_entry("field", field)?;
        }
        if let Some(ms) = self.retry_after_ms() {
            map.serialize_entry("retryAfterMs", &ms)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_serialises_as_clients_read_it() {
        let problem =
            Problem::field("content", "content is empty").retry_after(Duration::from_millis(1500));
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"code":"invalid","message":"content is empty","field":"content","retryAfterMs":1500}"#
        );
        assert_eq!(
            Problem::new(Code::Forbidden, "no").to_string(),
            "forbidden: no"
        );
    }
}
