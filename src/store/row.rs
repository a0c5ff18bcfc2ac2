//! Columns as the words of this program.

use serde_json::value::RawValue;

use super::Error;
use crate::backend::statement::Row;
use crate::types::{
    ConversationId, Epoch, EventId, IdError, Position, RoomName, Seq, Timestamp, UserId,
};

/// The arguments of a statement.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        [$($crate::backend::statement::Value::from($value)),*]
    };
}
pub(super) use args;

pub(super) fn user(row: &Row, index: usize) -> Result<UserId, Error> {
    id(row, index, UserId::parse)
}

pub(super) fn event(row: &Row, index: usize) -> Result<EventId, Error> {
    id(row, index, EventId::parse)
}

pub(super) fn room(row: &Row, index: usize) -> Result<RoomName, Error> {
    id(row, index, RoomName::parse)
}

pub(super) fn conversation(row: &Row, index: usize) -> Result<ConversationId, Error> {
    id(row, index, ConversationId::parse)
}

/// A time that is always there.
pub(super) fn time(row: &Row, index: usize) -> Timestamp {
    Timestamp::from_millis(row.integer(index))
}

/// A count.
pub(super) fn count(row: &Row, index: usize) -> u64 {
    u64::try_from(row.integer(index)).unwrap_or(0)
}

/// Two columns: epoch and seq.
pub(super) fn position(row: &Row, index: usize) -> Position {
    Position {
        epoch: Epoch(count(row, index)),
        seq: Seq(count(row, index + 1)),
    }
}

pub(super) fn json(row: &Row, index: usize) -> Result<Box<RawValue>, Error> {
    raw(row.text(index))
}

pub(super) fn json_or_null(row: &Row, index: usize) -> Result<Option<Box<RawValue>>, Error> {
    row.text_or_null(index).map(raw).transpose()
}

fn raw(text: &str) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text.to_owned()).map_err(|error| Error::Row(error.to_string()))
}

fn id<T>(row: &Row, index: usize, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, Error> {
    parse(row.text(index)).map_err(|error| Error::Row(error.to_string()))
}
