//! The archive in the SQLite file of embedded mode.

use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::lane::ArchiveLane;
use super::queue::Queue;
use super::{Error, Page, Row};
use crate::backend::sql::{self as database, Connection, Database, Readers};
use crate::backend::statement::Statement;
use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardPosition, ShardSeq, Timestamp, UserId,
};

/// An archive in a SQLite file.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    database: Database,
}

impl Store {
    pub(super) fn open(database: &Database) -> Self {
        let queue = Arc::new(Queue::new(database.bell()));
        database.attach(Box::new(ArchiveLane::new(Arc::clone(&queue))));
        Self(Arc::new(Inner {
            queue,
            database: database.clone(),
        }))
    }

    pub(super) async fn upsert(
        &self,
        rows: Vec<Row>,
        statements: Vec<Statement>,
    ) -> Result<(), Error> {
        if rows.is_empty() && statements.is_empty() {
            return Ok(());
        }
        self.0
            .queue
            .push(rows, statements)
            .await?
            .await
            .unwrap_or(Err(Error::Closed))
    }

    pub(super) async fn page(
        &self,
        room: &RoomName,
        page: Page,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let (from, statement) = match page {
            Page::Before(None) => (LAST, BEFORE),
            Page::Before(Some(position)) => (self.before(room, position).await?, BEFORE),
            Page::After(position) => (self.after(room, position).await?, AFTER),
        };
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(room.as_str().to_owned())
            .bind(signed(from.epoch.0))
            .bind(signed(from.seq.0))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(self.readers())
            .await
            .map_err(database::Error::from)?;
        let mut rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if matches!(page, Page::Before(_)) {
            rows.reverse();
        }
        Ok(rows)
    }

    pub(super) async fn top(&self, room: &RoomName) -> Result<Option<Position>, Error> {
        let top = sqlx::query(
            "SELECT epoch, seq FROM archive_event WHERE room = ?1
             ORDER BY epoch DESC, seq DESC LIMIT 1",
        );
        let top = top
            .bind(room.as_str().to_owned())
            .fetch_optional(self.readers())
            .await;
        top.map_err(database::Error::from)?
            .map(|row| position(&row, 0))
            .transpose()
    }

    /// One step through the index for each room, however many events it has.
    pub(super) async fn tops(&self) -> Result<Vec<(RoomName, Position)>, Error> {
        let tops = sqlx::query(
            "WITH RECURSIVE rooms (room) AS (
                 SELECT MIN(room) FROM archive_event
                 UNION ALL
                 SELECT (SELECT MIN(room) FROM archive_event WHERE room > rooms.room)
                 FROM rooms WHERE rooms.room IS NOT NULL)
             SELECT top.room, top.epoch, top.seq
             FROM rooms JOIN archive_event AS top ON top.id = (
                 SELECT id FROM archive_event WHERE room = rooms.room
                 ORDER BY epoch DESC, seq DESC LIMIT 1)",
        );
        let rows = tops
            .fetch_all(self.readers())
            .await
            .map_err(database::Error::from)?;
        rows.iter()
            .map(|row| Ok((parse(row, 0, RoomName::parse)?, position(row, 1)?)))
            .collect()
    }

    /// The whole position of one whose epoch may be missing: in the last epoch that has something
    /// before it.
    async fn before(&self, room: &RoomName, at: Position) -> Result<Position, Error> {
        if at.epoch.0 > 0 {
            return Ok(at);
        }
        let epoch = "SELECT MAX(epoch) FROM archive_event WHERE room = ?1 AND epoch < ?2";
        let first = "SELECT MIN(seq) FROM archive_event WHERE room = ?1 AND epoch = ?2";
        let mut found = self.number(epoch, room, i64::MAX).await?;
        while let Some(candidate) = found {
            let lowest = self
                .number(first, room, candidate)
                .await?
                .unwrap_or(i64::MAX);
            if lowest < signed(at.seq.0) {
                return Ok(Position {
                    epoch: Epoch(unsigned(candidate)),
                    seq: at.seq,
                });
            }
            found = self.number(epoch, room, candidate).await?;
        }
        Ok(Position::default())
    }

    /// The same, in the first epoch that has something after it.
    async fn after(&self, room: &RoomName, at: Position) -> Result<Position, Error> {
        if at.epoch.0 > 0 || at.seq.0 == 0 {
            return Ok(at);
        }
        let epoch = "SELECT MIN(epoch) FROM archive_event WHERE room = ?1 AND epoch > ?2";
        let last = "SELECT MAX(seq) FROM archive_event WHERE room = ?1 AND epoch = ?2";
        let mut found = self.number(epoch, room, 0).await?;
        while let Some(candidate) = found {
            let highest = self.number(last, room, candidate).await?.unwrap_or(0);
            if highest > signed(at.seq.0) {
                return Ok(Position {
                    epoch: Epoch(unsigned(candidate)),
                    seq: at.seq,
                });
            }
            found = self.number(epoch, room, candidate).await?;
        }
        Ok(LAST)
    }

    async fn number(
        &self,
        statement: &'static str,
        room: &RoomName,
        number: i64,
    ) -> Result<Option<i64>, Error> {
        let query = sqlx::query_scalar(statement)
            .bind(room.as_str().to_owned())
            .bind(number);
        Ok(query
            .fetch_one(self.readers())
            .await
            .map_err(database::Error::from)?)
    }

    fn readers(&self) -> &Readers {
        self.0.database.readers()
    }
}

/// After everything.
const LAST: Position = Position {
    epoch: Epoch(i64::MAX as u64),
    seq: Seq(i64::MAX as u64),
};

const BEFORE: &str =
    "SELECT room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload
    FROM archive_event WHERE room = ?1 AND (epoch, seq) < (?2, ?3)
    ORDER BY epoch DESC, seq DESC LIMIT ?4";
const AFTER: &str =
    "SELECT room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload
    FROM archive_event WHERE room = ?1 AND (epoch, seq) > (?2, ?3)
    ORDER BY epoch, seq LIMIT ?4";

/// Writes rows down.
pub(super) async fn upsert(
    connection: &mut Connection,
    rows: &[&Row],
) -> Result<(), database::Error> {
    let mut rest = rows;
    while !rest.is_empty() {
        let exponent = rest.len().ilog2().min(UPSERT_ROWS_LOG2_MAX);
        let (now, later) = rest.split_at(1 << exponent);
        let mut upsert = sqlx::query(AssertSqlSafe(UPSERTS[exponent as usize].as_str()));
        for row in now {
            upsert = upsert
                .bind(row.room.as_str().to_owned())
                .bind(signed(row.position.epoch.0))
                .bind(signed(row.position.seq.0))
                .bind(signed(row.shard.epoch.0))
                .bind(signed(row.shard.shard_seq.0))
                .bind(row.id.as_str().to_owned())
                .bind(row.kind.clone())
                .bind(row.user_id.as_str().to_owned())
                .bind(row.at.as_millis())
                .bind(row.payload.clone());
        }
        upsert.execute(&mut *connection).await?;
        rest = later;
    }
    Ok(())
}

const UPSERT_ROWS_LOG2_MAX: u32 = 6;

/// Upserts of 1, 2, 4 … 64 rows. A taken position wins over everything, so that what was once shown
/// in a place stays there; then the higher epoch of an event wins.
static UPSERTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let upsert = |exponent| {
        let rows = vec!["(?,?,?,?,?,?,?,?,?,?)"; 1_usize << exponent].join(",");
        format!(
            "INSERT INTO archive_event
                 (room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload)
             VALUES {rows}
             ON CONFLICT (room, epoch, seq) DO NOTHING
             ON CONFLICT (room, event_id) DO UPDATE SET
                 epoch = excluded.epoch, seq = excluded.seq,
                 shard_epoch = excluded.shard_epoch, shard_seq = excluded.shard_seq,
                 kind = excluded.kind, user_id = excluded.user_id,
                 at = excluded.at, payload = excluded.payload
             WHERE excluded.epoch > archive_event.epoch"
        )
    };
    (0..=UPSERT_ROWS_LOG2_MAX).map(upsert).collect()
});

fn read(row: &SqliteRow) -> Result<Row, Error> {
    Ok(Row {
        room: parse(row, 0, RoomName::parse)?,
        position: position(row, 1)?,
        shard: ShardPosition {
            epoch: Epoch(unsigned(column(row, 3)?)),
            shard_seq: ShardSeq(unsigned(column(row, 4)?)),
        },
        id: parse(row, 5, EventId::parse)?,
        kind: column(row, 6)?,
        user_id: parse(row, 7, UserId::parse)?,
        at: Timestamp::from_millis(column(row, 8)?),
        payload: column(row, 9)?,
    })
}

fn position(row: &SqliteRow, at: usize) -> Result<Position, Error> {
    let (epoch, seq) = (unsigned(column(row, at)?), unsigned(column(row, at + 1)?));
    Ok(Position {
        epoch: Epoch(epoch),
        seq: Seq(seq),
    })
}

fn parse<T, E: std::fmt::Display>(
    row: &SqliteRow,
    at: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Error> {
    parse(column(row, at)?).map_err(|error| Error::Row(error.to_string()))
}

fn column<'r, T>(row: &'r SqliteRow, at: usize) -> Result<T, Error>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(at)
        .map_err(|error| Error::Row(error.to_string()))
}

/// SQLite's integers are signed. Counters never come near the sign, but positions that clients
/// ask for may.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
