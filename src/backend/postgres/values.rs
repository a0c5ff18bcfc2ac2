//! Arguments and columns as [`Value`]s.

use std::borrow::Cow;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::{AssertSqlSafe, Encode, Postgres, Row as _, Type, TypeInfo as _, ValueRef as _};

use crate::backend::statement::{Row, Statement, Value};

/// A query with its arguments.
pub type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// A NULL whose type the server finds by its place: a text is compiled once, whatever its first
/// arguments were.
struct Nothing;

impl Type<Postgres> for Nothing {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Nothing {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

pub(super) fn query(statement: &Statement) -> Query<'_> {
    let query = sqlx::query(AssertSqlSafe(statement.sql));
    statement
        .args
        .iter()
        .fold(query, |query, value| match value {
            Value::Null => query.bind(Nothing),
            Value::Integer(number) => query.bind(*number),
            Value::Text(text) => query.bind(storable(text)),
        })
}

/// A text as PostgreSQL can hold it: it knows no U+0000, and one in a client's words must not stop
/// the archive.
#[must_use]
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

pub(super) fn values(row: &PgRow) -> Result<Row, sqlx::Error> {
    let value = |index| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        Ok(match raw.type_info().name() {
            "INT8" => Value::Integer(row.try_get_unchecked(index)?),
            "INT4" => Value::Integer(i64::from(row.try_get_unchecked::<i32, _>(index)?)),
            _ => Value::Text(row.try_get_unchecked(index)?),
        })
    };
    (0..row.len()).map(value).collect::<Result<_, _>>().map(Row)
}
