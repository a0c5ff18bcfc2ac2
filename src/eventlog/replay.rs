//! Reading the log in commit order: from memory while it is there, else from the disk.

use std::time::Duration;

use super::embedded::Embedded;
use super::recent::{End, Entry, Look, Row};
use super::sql::Range;
use super::topics::TopicIndex;
use super::{Error, Record, kafka};
use crate::types::Timestamp;

/// A place in commit order, and which topics are read from there.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) log: Embedded,
    pub(super) topics: Vec<TopicIndex>,
    /// The next row to look at.
    pub(super) row: Row,
}

impl Scan {
    /// Up to `max` records from here on that are there already; may give none and still have moved
    /// on. Cancel-safe: moves on only when it returns.
    pub(super) async fn step(&mut self, max: usize) -> Result<Vec<(Row, Entry)>, Error> {
        let wanted = |topic| self.topics.contains(&topic);
        let (found, next) = match self.log.core().recent.look(self.row, max, wanted) {
            Look::Found(found, next) => (found, next),
            Look::Older(to) => match &self.log {
                Embedded::Sql(log) => {
                    log.read(
                        &self.topics,
                        Range {
                            from: self.row,
                            to,
                            max,
                        },
                    )
                    .await?
                }
                // Memory keeps everything, from row 1.
                Embedded::Memory(_) => (Vec::new(), to),
            },
        };
        self.row = next;
        Ok(found)
    }

    /// The row of the first record of a partition from an offset on, or the end.
    pub(super) async fn find(
        &self,
        (topic, partition): (TopicIndex, u32),
        offset: u64,
    ) -> Result<Row, Error> {
        let End { next, .. } = *self.log.core().recent.end().borrow();
        if let Embedded::Sql(log) = &self.log {
            return Ok(log.find((topic, partition), offset).await?.unwrap_or(next));
        }
        let Look::Found(found, _) = self.log.core().recent.look(1, usize::MAX, |t| t == topic)
        else {
            return Ok(1);
        };
        let is_it =
            |entry: &Entry| entry.record.partition == partition && entry.record.offset >= offset;
        Ok(found
            .into_iter()
            .find(|(_, entry)| is_it(entry))
            .map_or(next, |(row, _)| row))
    }

    /// The first record of any topic from a row on.
    async fn first_from(&self, row: Row) -> Result<Option<(Row, Timestamp)>, Error> {
        match &self.log {
            Embedded::Sql(log) => log.first_from(row).await,
            Embedded::Memory(log) => {
                let Look::Found(found, _) = log.core().recent.look(row.max(1), 1, |_| true) else {
                    return Ok(None);
                };
                Ok(found.first().map(|(row, entry)| (*row, entry.record.at)))
            }
        }
    }

    /// The first row whose record is not older than this, at most `high`. Times never fall, so
    /// halving finds it.
    async fn row_at(&self, at: Timestamp, high: Row) -> Result<Row, Error> {
        let (mut low, mut high) = (1, high);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle).await? {
                Some((row, found)) if found < at && row < high => low = row + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// One reading of a topic, up to where the log ended when it was begun.
#[derive(Debug)]
pub struct Replay(Source);

#[derive(Debug)]
enum Source {
    Local { scan: Scan, end: Row },
    Kafka(kafka::Replay),
}

impl Replay {
    pub(super) const fn of(replay: kafka::Replay) -> Self {
        Self(Source::Kafka(replay))
    }

    pub(super) async fn start(
        log: Embedded,
        topic: &str,
        groups: &[&str],
        lookback: Duration,
    ) -> Result<Self, Error> {
        let (topic, _) = log.core().topics.ensure(topic)?;
        let End { next: end, .. } = *log.core().recent.end().borrow();
        let low = log
            .core()
            .groups
            .low_of(groups)
            .unwrap_or(end)
            .clamp(1, end);
        let mut scan = Scan {
            log,
            topics: vec![topic],
            row: low,
        };
        let anchor = match scan.first_from(low).await? {
            Some(first) => Some(first),
            None => scan.first_from(end.saturating_sub(1)).await?,
        };
        if let Some((_, at)) = anchor {
            let lookback_ms = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX);
            let from = Timestamp::from_millis(at.as_millis().saturating_sub(lookback_ms));
            scan.row = scan.row_at(from, low).await?;
        }
        Ok(Self(Source::Local { scan, end }))
    }

    /// The next records, at most `max`; none when all have been read.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Record>, Error> {
        let (scan, end) = match &mut self.0 {
            Source::Local { scan, end } => (scan, *end),
            Source::Kafka(replay) => return replay.next(max).await,
        };
        while scan.row < end {
            let found = scan.step(max).await?;
            if !found.is_empty() {
                let found = found.into_iter().filter(|(row, _)| *row < end);
                return Ok(found.map(|(_, entry)| entry.record).collect());
            }
        }
        Ok(Vec::new())
    }
}
