//! The archive in the SQLite file of embedded mode.

use std::sync::{Arc, LazyLock};

use sqlx::AssertSqlSafe;

use super::lane::ArchiveLane;
use super::queue::Queue;
use super::read::Reader;
use super::{Error, Row, signed};
use crate::backend::sql::{self as database, Connection, Database};
use crate::backend::statement::Statement;

/// An archive in a SQLite file.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    reader: Reader,
}

impl Store {
    pub(super) fn open(database: &Database) -> Self {
        let queue = Arc::new(Queue::new(database.bell()));
        database.attach(Box::new(ArchiveLane::new(Arc::clone(&queue))));
        Self(Arc::new(Inner {
            queue,
            reader: Reader::new(database.into()),
        }))
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.0.reader
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
}

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
