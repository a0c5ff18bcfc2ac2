//! What is asked of the archive, the same text for every database.

use super::{Error, Page, Row, signed};
use crate::backend::database::Database;
use crate::backend::statement::{self, Statement, Value};
use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardPosition, ShardSeq, Timestamp, UserId,
};

/// Reads from a database.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    database: Database,
}

impl Reader {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn page(
        &self,
        room: &RoomName,
        page: Page,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let (from, text) = match page {
            Page::Before(None) => (LAST, BEFORE),
            Page::Before(Some(position)) => (self.before(room, position).await?, BEFORE),
            Page::After(position) => (self.after(room, position).await?, AFTER),
        };
        let args = [
            room.into(),
            signed(from.epoch.0).into(),
            signed(from.seq.0).into(),
            limit.into(),
        ];
        let rows = self.database.read(Statement::new(text, args)).await?;
        let mut rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if matches!(page, Page::Before(_)) {
            rows.reverse();
        }
        Ok(rows)
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.database.read(Statement::new("SELECT 1", [])).await?;
        Ok(())
    }

    pub(super) async fn top(&self, room: &RoomName) -> Result<Option<Position>, Error> {
        let top = self.database.read(Statement::new(TOP, [room.into()]));
        Ok(top.await?.first().map(|row| position(row, 0)))
    }

    /// A few steps through the index for each room, however many events it has.
    pub(super) async fn tops(&self) -> Result<Vec<(RoomName, Position)>, Error> {
        let rows = self.database.read(Statement::new(TOPS, [])).await?;
        rows.iter()
            .map(|row| Ok((parse(row, 0, RoomName::parse)?, position(row, 1))))
            .collect()
    }

    /// The whole position of one whose epoch may be missing: in the last epoch that has something
    /// before it.
    async fn before(&self, room: &RoomName, at: Position) -> Result<Position, Error> {
        if at.epoch.0 > 0 {
            return Ok(at);
        }
        let epoch = "SELECT MAX(epoch) FROM archive_event WHERE room = $1 AND epoch < $2";
        let first = "SELECT MIN(seq) FROM archive_event WHERE room = $1 AND epoch = $2";
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
        let epoch = "SELECT MIN(epoch) FROM archive_event WHERE room = $1 AND epoch > $2";
        let last = "SELECT MAX(seq) FROM archive_event WHERE room = $1 AND epoch = $2";
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
        text: &'static str,
        room: &RoomName,
        number: i64,
    ) -> Result<Option<i64>, Error> {
        let statement = Statement::new(text, [room.into(), number.into()]);
        let rows = self.database.read(statement).await?;
        Ok(match rows.first().and_then(|row| row.0.first()) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        })
    }
}

/// After everything.
const LAST: Position = Position {
    epoch: Epoch(i64::MAX as u64),
    seq: Seq(i64::MAX as u64),
};

const BEFORE: &str =
    "SELECT room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload
    FROM archive_event WHERE room = $1 AND (epoch, seq) < ($2, $3)
    ORDER BY epoch DESC, seq DESC LIMIT $4";
const AFTER: &str =
    "SELECT room, epoch, seq, shard_epoch, shard_seq, event_id, kind, user_id, at, payload
    FROM archive_event WHERE room = $1 AND (epoch, seq) > ($2, $3)
    ORDER BY epoch, seq LIMIT $4";
const TOP: &str = "
    SELECT epoch, seq FROM archive_event WHERE room = $1 ORDER BY epoch DESC, seq DESC LIMIT 1";
const TOPS: &str = "
    WITH RECURSIVE rooms (room) AS (
        SELECT MIN(room) FROM archive_event
        UNION ALL
        SELECT (SELECT MIN(room) FROM archive_event WHERE room > rooms.room)
        FROM rooms WHERE rooms.room IS NOT NULL)
    SELECT room,
        (SELECT epoch FROM archive_event WHERE room = rooms.room
            ORDER BY epoch DESC, seq DESC LIMIT 1),
        (SELECT seq FROM archive_event WHERE room = rooms.room
            ORDER BY epoch DESC, seq DESC LIMIT 1)
    FROM rooms WHERE room IS NOT NULL";

fn read(row: &statement::Row) -> Result<Row, Error> {
    Ok(Row {
        room: parse(row, 0, RoomName::parse)?,
        position: position(row, 1),
        shard: ShardPosition {
            epoch: Epoch(unsigned(row.integer(3))),
            shard_seq: ShardSeq(unsigned(row.integer(4))),
        },
        id: parse(row, 5, EventId::parse)?,
        kind: row.text(6).to_owned(),
        user_id: parse(row, 7, UserId::parse)?,
        at: Timestamp::from_millis(row.integer(8)),
        payload: row.text(9).to_owned(),
    })
}

fn position(row: &statement::Row, at: usize) -> Position {
    Position {
        epoch: Epoch(unsigned(row.integer(at))),
        seq: Seq(unsigned(row.integer(at + 1))),
    }
}

fn parse<T, E: std::fmt::Display>(
    row: &statement::Row,
    at: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Error> {
    parse(row.text(at)).map_err(|error| Error::Row(error.to_string()))
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
