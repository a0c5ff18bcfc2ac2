//! Reading a topic once, up to where it ended when the reading was begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cursor::{Bounds, Cursor, Queries, blocking};
use super::spot::Spot;
use super::{Error, Record};
use crate::types::Timestamp;

/// One reading of a topic.
#[derive(Debug)]
pub(in crate::eventlog) struct Replay {
    reading: Arc<Mutex<Reading>>,
}

#[derive(Debug)]
struct Reading {
    cursor: Cursor,
    /// Where each partition ended.
    ends: BTreeMap<u32, u64>,
}

impl Replay {
    pub(super) async fn start(
        queries: &Arc<Queries>,
        topic: &str,
        groups: &[&str],
        (lookback, after): (Duration, BTreeMap<u32, u64>),
    ) -> Result<Self, Error> {
        let queries = Arc::clone(queries);
        let topic = topic.to_owned();
        let groups: Vec<_> = groups.iter().map(|&group| group.to_owned()).collect();
        let reading =
            blocking(move || begin(&queries, &topic, &groups, (lookback, &after))).await?;
        Ok(Self {
            reading: Arc::new(Mutex::new(reading)),
        })
    }

    pub(in crate::eventlog) async fn next(&self, max: usize) -> Result<Vec<Record>, Error> {
        let reading = Arc::clone(&self.reading);
        blocking(move || {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            reading.next(max)
        })
        .await
    }
}

impl Reading {
    fn next(&mut self, max: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < max && bytes < BATCH_BYTES_MAX {
            let Some(record) = self.cursor.next()? else {
                break;
            };
            let end = self
                .ends
                .get(&record.partition)
                .copied()
                .unwrap_or_default();
            if record.offset + 1 >= end {
                self.cursor
                    .done(i32::try_from(record.partition).unwrap_or(i32::MAX));
            }
            if record.offset < end {
                bytes += super::handover::size(&record);
                records.push(record);
            }
        }
        Ok(records)
    }
}

fn begin(
    queries: &Queries,
    topic: &str,
    groups: &[String],
    (lookback, after): (Duration, &BTreeMap<u32, u64>),
) -> Result<Reading, Error> {
    let spots = queries.partitions(topic)?;
    let bounds = queries.bounds(&spots)?;
    let anchor = match oldest_open(queries, groups)? {
        Open::Everything => Timestamp::from_millis(0),
        Open::Since(at) => at,
        Open::Nothing => newest(queries, &bounds)?,
    };
    let lookback_ms = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX);
    let from = Timestamp::from_millis(anchor.as_millis().saturating_sub(lookback_ms).max(0));
    let partitions: Vec<u32> = spots.iter().map(|spot| spot.partition).collect();
    let starts = queries.offsets_at(topic, &partitions, from)?;
    let mut places = BTreeMap::new();
    for (spot, (_, start)) in spots.iter().zip(starts) {
        let (oldest, end) = bounds.get(spot).copied().unwrap_or_default();
        let start = match after.get(&spot.partition) {
            Some(after) => oldest.max(after + 1),
            None => start,
        };
        if start < end {
            places.insert(spot.clone(), start);
        }
    }
    let ends = bounds.iter().map(|(spot, (_, end))| (spot.partition, *end));
    Ok(Reading {
        cursor: queries.cursor(&places)?,
        ends: ends.collect(),
    })
}

/// What groups have still to commit.
enum Open {
    Nothing,
    Since(Timestamp),
    Everything,
}

/// The time of the oldest record that one of these groups has still to commit, in whatever topics it
/// has committed something of.
fn oldest_open(queries: &Queries, groups: &[String]) -> Result<Open, Error> {
    let mut spots = Vec::new();
    if !groups.is_empty() {
        for topic in queries.names.all() {
            spots.extend(queries.partitions(&topic.name)?);
        }
    }
    let bounds = queries.bounds(&spots)?;
    let mut open: BTreeMap<Spot, u64> = BTreeMap::new();
    for group in groups {
        let committed = queries.committed(group, &spots)?;
        if committed.is_empty() {
            return Ok(Open::Everything);
        }
        let is_read = |spot: &Spot| committed.keys().any(|other| other.topic == spot.topic);
        for (spot, (oldest, end)) in bounds.iter().filter(|(spot, _)| is_read(spot)) {
            let next = committed
                .get(spot)
                .copied()
                .unwrap_or_default()
                .max(*oldest);
            if next < *end {
                let at = open.entry(spot.clone()).or_insert(next);
                *at = next.min(*at);
            }
        }
    }
    let mut since: Option<Timestamp> = None;
    while let Some((first, _)) = open.first_key_value() {
        let topic = Arc::clone(&first.topic);
        let of_topic = open.extract_if(.., |spot, _| spot.topic == topic).collect();
        for at in times(queries, &of_topic)? {
            since = Some(since.map_or(at, |earlier| earlier.min(at)));
        }
    }
    Ok(since.map_or(Open::Nothing, Open::Since))
}

/// The time of the newest record.
fn newest(queries: &Queries, bounds: &Bounds) -> Result<Timestamp, Error> {
    let filled = bounds.iter().filter(|(_, (oldest, end))| oldest < end);
    let last = filled
        .map(|(spot, (_, end))| (spot.clone(), end - 1))
        .collect();
    let times = times(queries, &last)?;
    Ok(times.into_iter().max().unwrap_or_default())
}

/// The times of the records at these places of one topic, or of those behind them.
fn times(queries: &Queries, places: &BTreeMap<Spot, u64>) -> Result<Vec<Timestamp>, Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut cursor = queries.cursor(places)?;
    let mut times = Vec::new();
    while let Some(record) = cursor.next()? {
        if cursor.open.contains(&record.partition) {
            times.push(record.at);
        }
        cursor.done(i32::try_from(record.partition).unwrap_or(i32::MAX));
    }
    Ok(times)
}

/// So that a few large records do not come together.
const BATCH_BYTES_MAX: usize = 16 << 20;
