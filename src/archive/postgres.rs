//! The archive in PostgreSQL: several nodes write at once, and one row may come from two of them.
//!
//! What is there already is passed over by the database itself; only what was passed over is then
//! looked at again, for events that moved to a higher epoch. All take their rows in one order, that
//! of (room, id), so that they wait for each other and not in a circle.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::read::Reader;
use super::{Error, Row, signed};
use crate::backend::error as database;
use crate::backend::postgres::{Connection, Database, Query, Work, Working, storable};
use crate::backend::statement::Statement;
use crate::telemetry::metrics;
use crate::types::{EventId, Position, RoomName};

/// An archive in PostgreSQL.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    reader: Reader,
    /// For the rows of calls under way.
    room: Arc<Semaphore>,
}

impl Store {
    pub(super) fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
            reader: Reader::new(database.into()),
            room: Arc::new(Semaphore::new(ROWS_MAX as usize)),
        }
    }

    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(super) async fn upsert(
        &self,
        rows: Vec<Row>,
        mut statements: Vec<Statement>,
    ) -> Result<(), Error> {
        if rows.is_empty() && statements.is_empty() {
            return Ok(());
        }
        // A call with more rows than there is ever room for waits until it is alone.
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).min(ROWS_MAX);
        let _room = self.room.acquire_many(count).await;
        // The first arguments are the key of the row that a statement changes.
        statements.sort_unstable_by(|a, b| (&a.args, a.sql).cmp(&(&b.args, b.sql)));
        let count = rows.len() as u64;
        let upsert = Upsert {
            rounds: rounds(rows),
            statements,
        };
        self.database.transact(&upsert).await?;
        metrics::ARCHIVE_ROWS.add(count);
        Ok(())
    }
}

/// Rows so that in none of the rounds two are about the same position or the same event: those are
/// kept one after the other, as they came.
fn rounds(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut positions: HashMap<(RoomName, Position), usize> = HashMap::with_capacity(rows.len());
    let mut ids: HashMap<(RoomName, EventId), usize> = HashMap::with_capacity(rows.len());
    let mut rounds: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let position = positions
            .entry((row.room.clone(), row.position))
            .or_default();
        let id = ids.entry((row.room.clone(), row.id.clone())).or_default();
        let round = (*position).max(*id);
        (*position, *id) = (round + 1, round + 1);
        if round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[round].push(row);
    }
    for round in &mut rounds {
        round.sort_unstable_by(|a, b| (&a.room, &a.id).cmp(&(&b.room, &b.id)));
    }
    rounds
}

struct Upsert {
    rounds: Vec<Vec<Row>>,
    statements: Vec<Statement>,
}

impl Work for Upsert {
    type Answer = ();

    fn run<'a>(&'a self, connection: &'a mut Connection) -> Working<'a, ()> {
        Box::pin(async {
            for part in self.rounds.iter().flat_map(|round| parts(round)) {
                let inserted = connection.execute(bound(INSERT, part)).await?;
                if inserted < part.len() as u64 {
                    connection.execute(bound(MOVE, part)).await.map_err(taken)?;
                }
            }
            self.project(connection).await
        })
    }
}

impl Upsert {
    /// Runs what follows from the rows. After a refusal each statement stands alone: repeating a
    /// refused one would fail again, and hold back every row behind it for ever.
    async fn project(&self, connection: &mut Connection) -> Result<(), database::Error> {
        if self.statements.is_empty() {
            return Ok(());
        }
        connection.command("SAVEPOINT projection").await?;
        let mut is_refused = false;
        for statement in &self.statements {
            match connection.run(statement).await {
                Ok(_) => {}
                Err(error) if error.is_of_statement() => {
                    is_refused = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !is_refused {
            return Ok(());
        }
        connection.command("ROLLBACK TO projection").await?;
        for statement in &self.statements {
            connection.command("SAVEPOINT statement").await?;
            match connection.run(statement).await {
                Ok(_) => connection.command("RELEASE statement").await?,
                Err(error) if error.is_of_statement() => {
                    tracing::error!(%error, sql = statement.sql, "an event was not projected");
                    connection.command("ROLLBACK TO statement").await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Another archiver took the position between the question and the move: the next attempt sees it.
fn taken(error: database::Error) -> database::Error {
    match error {
        database::Error::Unique(text) => database::Error::Conflict(text),
        error => error,
    }
}

/// Rows as statements take them: not too many, and not too large.
fn parts(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.payload.len();
            bytes <= PART_BYTES
        };
        let count = rest.iter().take(PART_ROWS).take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        Some(now)
    })
}

fn bound<'a>(text: &'static str, rows: &'a [Row]) -> Query<'a> {
    fn all<'a, T>(rows: &'a [Row], of: impl Fn(&'a Row) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    sqlx::query(text)
        .bind(all(rows, |row| row.room.as_str()))
        .bind(all(rows, |row| signed(row.position.epoch.0)))
        .bind(all(rows, |row| signed(row.position.seq.0)))
        .bind(all(rows, |row| signed(row.shard.epoch.0)))
        .bind(all(rows, |row| signed(row.shard.shard_seq.0)))
        .bind(all(rows, |row| row.id.as_str()))
        .bind(all(rows, |row| storable(&row.kind)))
        .bind(all(rows, |row| row.user_id.as_str()))
        .bind(all(rows, |row| row.at.as_millis()))
        .bind(all(rows, |row| storable(&row.payload)))
}

/// Passes over a row whose position is taken, and a row whose event is there.
const INSERT: &str = "
    INSERT INTO archive_event
        (room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload)
    SELECT * FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[],
        $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::BIGINT[], $10::TEXT[])
    ON CONFLICT DO NOTHING";
/// Of an event that is there the higher epoch wins, unless its position is taken: what was once shown
/// in a place stays there.
const MOVE: &str = "
    UPDATE archive_event AS kept SET
        epoch = later.epoch, seq = later.seq,
        shard_epoch = later.shard_epoch, shard_seq = later.shard_seq,
        kind = later.kind, user_id = later.user_id, at = later.at, payload = later.payload
    FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[],
        $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::BIGINT[], $10::TEXT[])
        AS later (room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload)
    WHERE kept.event_id = later.event_id AND kept.room = later.room
        AND kept.epoch < later.epoch
        AND NOT EXISTS (
            SELECT 1 FROM archive_event taken
            WHERE taken.room = later.room AND taken.epoch = later.epoch
                AND taken.seq = later.seq)";

/// Rows of calls under way: as in embedded mode.
const ROWS_MAX: u32 = 4_096;

/// Rows and bytes of one statement.
const PART_ROWS: usize = 512;
const PART_BYTES: usize = 4 * 1024 * 1024;
