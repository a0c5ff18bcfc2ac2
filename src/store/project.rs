//! From an ordered event to what it changes in the store: pure, and the same however often and in
//! whichever order it is done.
//!
//! The archiver runs these statements in the transaction that archives the event.

use crate::archive::Row;
use crate::backend::statement::Statement;
use crate::events;

/// The statements that bring the store up to an event. `row` is the catalogue's row of its type.
#[must_use]
pub fn statements(row: Option<&events::Row>, event: &Row) -> Vec<Statement> {
    todo!("{row:?} {event:?}")
}
