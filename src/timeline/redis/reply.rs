//! What the functions answer, as values.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Value, from_redis_value};

use super::keys::parse_source;
use crate::timeline::entry::Entry;
use crate::timeline::{Range, Trimmed};
use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

/// An answer that is not what a function answers: another program wrote to our keys.
#[derive(Debug, thiserror::Error)]
#[error("the shard holds what this program did not write: {0}")]
pub(super) struct Strange(pub(super) &'static str);

pub(super) fn list(value: Value) -> Result<Vec<Value>, Strange> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(Strange("not a list")),
    }
}

pub(super) fn text(value: Option<&Value>) -> Result<String, Strange> {
    let value = value.cloned().ok_or(Strange("a part is missing"))?;
    from_redis_value(value).map_err(|_| Strange("not text"))
}

pub(super) fn number(value: Option<&Value>) -> Result<u64, Strange> {
    text(value)?.parse().map_err(|_| Strange("not a number"))
}

/// Whether a function says that the room is not here yet.
pub(super) fn is_absent(answer: &Value) -> bool {
    matches!(answer, Value::Array(parts) if matches!(&parts[..],
        [Value::BulkString(word)] if word == b"ABSENT"))
}

/// `EPOCH-SEQ`.
pub(super) fn place(text: &str) -> Result<Position, Strange> {
    text.parse().map_err(|_| Strange("not a place"))
}

/// A stream's entry.
pub(super) fn entry(value: Value, (room, shard): (&RoomName, ShardId)) -> Result<Entry, Strange> {
    let mut parts = list(value)?.into_iter();
    let position = place(&text(parts.next().as_ref())?)?;
    let fields = list(parts.next().ok_or(Strange("an entry without fields"))?)?;
    let mut fields = fields;
    // Written on another shard, from where the room came here.
    let home = match fields.len() {
        14 => {
            let home = number(fields.pop().as_ref())?;
            fields.pop();
            Some(ShardId(
                u16::try_from(home).map_err(|_| Strange("not a shard"))?,
            ))
        }
        _ => None,
    };
    let [_, q, _, s, _, o, _, i, _, a, _, p] =
        <[Value; 12]>::try_from(fields).map_err(|_| Strange("an entry with other fields"))?;
    let payload: Vec<u8> = from_redis_value(p).map_err(|_| Strange("a payload that is none"))?;
    let at: i64 = text(Some(&a))?.parse().map_err(|_| Strange("not a time"))?;
    Ok(Entry {
        room: room.clone(),
        shard: home.unwrap_or(shard),
        epoch: position.epoch,
        seq: position.seq,
        shard_seq: ShardSeq(number(Some(&q))?),
        source: parse_source(&text(Some(&s))?).ok_or(Strange("not a source"))?,
        offset: number(Some(&o))?,
        id: EventId::parse(&text(Some(&i))?).map_err(|_| Strange("not an event id"))?,
        at: Timestamp::from_millis(at),
        payload: Bytes::from(payload),
    })
}

/// What `vb1_range` answers: the shard's epoch, and the entries.
pub(super) fn range(
    value: Value,
    after: Position,
    at: (&RoomName, ShardId),
) -> Result<(Epoch, Range), Strange> {
    let mut parts = list(value)?;
    let entries = parts.pop().ok_or(Strange("no entries"))?;
    let entries = list(entries)?
        .into_iter()
        .map(|value| Ok(Arc::new(entry(value, at)?)));
    let entries = entries.collect::<Result<Vec<_>, Strange>>()?;
    let optional = |index: usize| {
        Ok::<_, Strange>(Some(text(parts.get(index))?).filter(|text| !text.is_empty()))
    };
    let parsed = |text: Option<String>| text.map(|text| place(&text)).transpose();
    let epoch = Epoch(number(parts.first())?);
    let top = match optional(2)? {
        None => Position { epoch, seq: Seq(0) },
        Some(_) => Position {
            epoch: Epoch(number(parts.get(1))?),
            seq: Seq(number(parts.get(2))?),
        },
    };
    let trimmed = match optional(3)? {
        None => None,
        Some(_) => Some(Trimmed {
            position: Position {
                epoch: Epoch(number(parts.get(3))?),
                seq: Seq(number(parts.get(4))?),
            },
            home: match optional(10)? {
                None => at.1,
                Some(_) => ShardId(
                    u16::try_from(number(parts.get(10))?).map_err(|_| Strange("not a shard"))?,
                ),
            },
            shard: match optional(5)? {
                // A room that was put back without its entries.
                None => None,
                Some(_) => Some(ShardPosition {
                    epoch: Epoch(number(parts.get(3))?),
                    shard_seq: ShardSeq(number(parts.get(5))?),
                }),
            },
        }),
    };
    let kept = Kept {
        top,
        first: parsed(optional(6)?)?,
        // Everything expired with its stream: what was kept last is the top.
        trimmed: match (trimmed, optional(6)?) {
            (trimmed, Some(_)) => trimmed,
            (trimmed, None) if top.seq.0 == 0 || trimmed.is_some_and(|t| t.position == top) => {
                trimmed
            }
            (_, None) => Some(Trimmed {
                position: top,
                home: at.1,
                shard: None,
            }),
        },
        has_after: number(parts.get(7))? > 0,
    };
    let range = Range {
        complete: kept.is_complete(after),
        top: match parsed(optional(8)?)? {
            Some(last) => last,
            None => kept.before_first(),
        },
        more: number(parts.get(9))? > 0,
        trimmed: kept.trimmed,
        entries,
    };
    Ok((epoch, range))
}

/// What a room keeps: one unbroken run from `first` to `top`, or nothing.
struct Kept {
    top: Position,
    first: Option<Position>,
    trimmed: Option<Trimmed>,
    /// Whether the place that was asked for is in the run.
    has_after: bool,
}

impl Kept {
    /// Whether `after` is a place in this room and everything after it is kept.
    fn is_complete(&self, after: Position) -> bool {
        if after.seq > self.top.seq || (after.epoch > self.top.epoch && after.seq.0 > 0) {
            return false;
        }
        // What is not settled stays when what is around it was lost: the run begins behind the mark.
        if self
            .trimmed
            .is_some_and(|mark| mark.position.seq > after.seq)
        {
            return false;
        }
        if after.epoch.0 > 0 && after.seq.0 > 0 && self.contradicts(after) {
            return false; // the client saw an order that was lost
        }
        let is_kept = self
            .first
            .is_some_and(|first| first.seq <= after.seq.next());
        is_kept || after.seq == self.top.seq
    }

    fn contradicts(&self, after: Position) -> bool {
        if after.seq == self.top.seq {
            return after.epoch != self.top.epoch;
        }
        if let Some(trimmed) = self
            .trimmed
            .filter(|trimmed| trimmed.position.seq == after.seq)
        {
            return after.epoch != trimmed.position.epoch;
        }
        self.first.is_some_and(|first| after.seq >= first.seq) && !self.has_after
    }

    /// The top, when nothing that is kept is to be counted.
    fn before_first(&self) -> Position {
        let Some(first) = self.first else {
            return self.top;
        };
        let before = Position {
            epoch: first.epoch,
            seq: Seq(first.seq.0.saturating_sub(1)),
        };
        self.trimmed.map_or(before, |trimmed| trimmed.position)
    }
}
