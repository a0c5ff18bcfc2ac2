//! SQL as data: one text for every database, so that what is stored is written down once.
//!
//! A batch of statements is one transaction. Placeholders are `$1`, `$2`, …; what a statement
//! answers is the rows of its `RETURNING` or `SELECT`. A statement that *must* answer a row takes
//! the whole batch back when it answers none: conditions are written in SQL, not between two
//! questions. Times are whole milliseconds since 1970, booleans 0 and 1, JSON text.

use crate::types::{ConversationId, EventId, RoomName, Timestamp, UserId};

/// A value that a statement takes or answers. Their order is only an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// A whole number, a time or a boolean.
    Integer(i64),
    /// UTF-8.
    Text(String),
}

/// One statement with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, the same for all databases.
    pub sql: &'static str,
    /// For `$1`, `$2`, ….
    pub args: Vec<Value>,
    /// Whether the batch is taken back when it answers no row.
    pub is_must: bool,
}

impl Statement {
    /// A statement.
    #[must_use]
    pub fn new(sql: &'static str, args: impl IntoIterator<Item = Value>) -> Self {
        Self {
            sql,
            args: args.into_iter().collect(),
            is_must: false,
        }
    }

    /// It must answer a row.
    #[must_use]
    pub const fn must(mut self) -> Self {
        self.is_must = true;
        self
    }
}

/// A row that a statement answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// Column `index` as a number; 0 where it holds none.
    #[must_use]
    pub fn integer(&self, index: usize) -> i64 {
        match self.0.get(index) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// Column `index` as text; empty where it holds none.
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        match self.0.get(index) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Column `index` as text, if it holds any.
    #[must_use]
    pub fn text_or_null(&self, index: usize) -> Option<&str> {
        match self.0.get(index) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Column `index` as a time, if it holds one.
    #[must_use]
    pub fn time(&self, index: usize) -> Option<Timestamp> {
        match self.0.get(index) {
            Some(Value::Integer(ms)) => Some(Timestamp::from_millis(*ms)),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Integer(i64::from(is))
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Integer(at.as_millis())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from_ids {
    ($($id:ty)*) => {
        $(impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Self::Text(id.as_str().to_owned())
            }
        })*
    };
}

from_ids! { UserId ConversationId EventId RoomName }
