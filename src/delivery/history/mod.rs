//! A room's past: its timeline where that reaches, the archive beyond.
//!
//! Completeness is proved, not assumed: a room's `seq` has no holes, so a page is complete when its
//! numbers are consecutive from the position that was asked for.

mod fold;
mod message;
mod pages;
mod recent;
#[cfg(test)]
mod scenes;

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::archive::{self, Archive, Row};
use crate::events::{Envelope, ViewError, Vocabulary, view};
use crate::store::Store;
use crate::timeline::{self, Timeline};
use crate::types::{
    Code, Epoch, Position, Problem, RoomName, Seq, ShardId, ShardPosition, ShardSeq,
};

pub use pages::Page;
pub use recent::Recent;

/// Reads a room's past. Cheap to clone.
#[derive(Clone)]
pub struct History {
    timeline: Timeline,
    archive: Archive,
    store: Store,
    vocabulary: Vocabulary,
    recent: Recent,
}

/// What a history is read from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Rooms' recent events.
    pub timeline: Timeline,
    /// Rooms' past.
    pub archive: Archive,
    /// What became of messages.
    pub store: Store,
    /// What events mean.
    pub vocabulary: Vocabulary,
    /// Where the messages of this moment went: the publisher's.
    pub recent: Recent,
}

/// An event as a client is shown it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The server event's name.
    pub event: Arc<str>,
    /// Its one argument.
    pub data: Box<RawValue>,
    /// Where it stands in its room.
    #[serde(skip)]
    pub position: Position,
}

/// What a socket missed.
#[derive(Debug, Default)]
pub struct Missed {
    /// The room's top at the moment of the join.
    pub top: Position,
    /// In order.
    pub events: Vec<Shown>,
    /// Why this is not everything, when it is not.
    pub reason: Option<&'static str>,
    /// Where the next page starts, when there is one.
    pub next: Option<Position>,
}

/// Events of one answer. As large as Centrifugo's recovery page.
pub const PAGE_MAX: usize = 300;
/// Bytes of the events of one answer to a join, which waits in an outbox as one frame.
const PAGE_BYTES: usize = 256 * 1024;
/// Everything the shard has, whatever its epoch.
const ALL: ShardPosition = ShardPosition {
    epoch: Epoch(u64::MAX),
    shard_seq: ShardSeq(u64::MAX),
};

/// After everything: asks for the room's top alone.
const NOWHERE: Position = Position {
    epoch: Epoch(u64::MAX),
    seq: Seq(0),
};

struct Item {
    position: Position,
    payload: Payload,
}

enum Payload {
    Entry(Arc<timeline::Entry>),
    Row(Row),
}

impl Item {
    fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Entry(entry) => entry.payload.len(),
            Payload::Row(row) => row.payload.len(),
        }
    }
}

impl From<Arc<timeline::Entry>> for Item {
    fn from(entry: Arc<timeline::Entry>) -> Self {
        Self {
            position: Position {
                epoch: entry.epoch,
                seq: entry.seq,
            },
            payload: Payload::Entry(entry),
        }
    }
}

impl From<Row> for Item {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            payload: Payload::Row(row),
        }
    }
}

impl History {
    /// The history of these.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            timeline: parts.timeline,
            archive: parts.archive,
            store: parts.store,
            vocabulary: parts.vocabulary,
            recent: parts.recent,
        }
    }

    /// What came after `after`, up to a place in the shard's stream.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer.
    pub async fn missed(
        &self,
        room: &RoomName,
        after: Option<Position>,
        up_to: (ShardId, ShardPosition),
    ) -> Result<Missed, Problem> {
        let start = after.unwrap_or(NOWHERE);
        let range = self
            .timeline
            .range_on(room, start, up_to, PAGE_MAX)
            .await
            .map_err(|e| down(&e))?;
        let top = self.known(room, range.top);
        let Some(after) = after else {
            return Ok(Missed {
                top,
                ..Missed::default()
            });
        };
        if let Some(reason) = unknown(after, top, range.complete) {
            return Ok(Missed {
                top,
                reason: Some(reason),
                ..Missed::default()
            });
        }
        let items = if range.complete {
            range.entries.into_iter().map(Item::from).collect()
        } else {
            self.after(room, after, (up_to, range.top), PAGE_MAX)
                .await?
        };
        // Nothing at all is a hole too, when the room went on.
        let is_consecutive = follows(after, &items) && (!items.is_empty() || after.seq >= top.seq);
        let items = first_bytes(items, PAGE_BYTES);
        let last = items.last().map_or(after, |item| item.position);
        let events = self.show(items);
        if !is_consecutive {
            return Ok(Missed {
                top,
                reason: Some("trimmed"),
                ..Missed::default()
            });
        }
        let next = (last.seq < top.seq).then_some(last);
        Ok(Missed {
            top,
            events,
            reason: None,
            next,
        })
    }

    /// The room's epoch and newest position.
    ///
    /// # Errors
    /// `unavailable` when the timeline does not answer.
    pub async fn top(&self, room: &RoomName) -> Result<Position, Problem> {
        let top = self.timeline.top(room).await.map_err(|e| down(&e))?;
        Ok(self.known(room, top))
    }

    /// A room without events stands before the first one of its shard's epoch.
    fn known(&self, room: &RoomName, top: Position) -> Position {
        if top.epoch == Epoch(0) {
            Position {
                epoch: self.epoch(room),
                ..top
            }
        } else {
            top
        }
    }

    /// The epoch of the shard that a room is on.
    #[must_use]
    pub fn epoch(&self, room: &RoomName) -> Epoch {
        self.timeline.epoch(self.timeline.shard_of(room))
    }

    async fn after(
        &self,
        room: &RoomName,
        after: Position,
        (up_to, top): ((ShardId, ShardPosition), Position),
        limit: usize,
    ) -> Result<Vec<Item>, Problem> {
        let rows = self
            .archive
            .page(room, archive::Page::After(after), limit)
            .await
            .map_err(|e| away(&e))?;
        let mut items: Vec<Item> = rows.into_iter().map(Item::from).collect();
        // By its place in the room: an event that was written on another shard has no place on this one.
        items.retain(|item| item.position <= top);
        if items.len() < limit {
            // The archive follows the timeline by moments; what it does not have yet is there.
            let last = items.last().map_or(after, |item| item.position);
            let range = self
                .timeline
                .range_on(room, last, up_to, limit - items.len())
                .await;
            items.extend(
                range
                    .map_err(|e| down(&e))?
                    .entries
                    .into_iter()
                    .map(Item::from),
            );
        }
        Ok(items)
    }

    fn show(&self, items: Vec<Item>) -> Vec<Shown> {
        let shown = items.into_iter().filter_map(|item| self.show_one(item));
        shown.collect()
    }

    /// An event as clients see it; `None` if its data is not what its type says. Nobody was shown it
    /// live either, so that leaving it out is no hole: one such event must not shut a room for ever.
    fn show_one(&self, item: Item) -> Option<Shown> {
        let envelope: Result<Envelope, _> = match &item.payload {
            Payload::Entry(entry) => Envelope::parse(&entry.payload),
            Payload::Row(row) => Envelope::parse(row.payload.as_bytes()),
        };
        let shown = envelope.map_err(|e| e.to_string()).and_then(|envelope| {
            let catalogue = self.vocabulary.current();
            match view(&catalogue, &envelope, item.position) {
                Ok(shown) => Ok(Some(shown)),
                Err(ViewError::Hidden(_)) => Ok(None),
                Err(error @ ViewError::Data { .. }) => Err(error.to_string()),
            }
        });
        let shown = shown.and_then(|shown| {
            let Some(shown) = shown else { return Ok(None) };
            let data = RawValue::from_string(shown.json).map_err(|e| e.to_string())?;
            Ok(Some(Shown {
                event: shown.event,
                data,
                position: item.position,
            }))
        });
        shown.unwrap_or_else(|error| {
            tracing::error!(position = %item.position, %error, "a stored event cannot be shown");
            None
        })
    }
}

/// Positions without an epoch (as people write them) compare by `seq`, which goes on across epochs.
fn is_older(position: Position, than: Position) -> bool {
    if than.epoch == Epoch(0) {
        position.seq < than.seq
    } else {
        position < than
    }
}

/// The same the other way round.
fn is_newer(position: Position, than: Position) -> bool {
    if than.epoch == Epoch(0) {
        position.seq > than.seq
    } else {
        position > than
    }
}

/// Why a position cannot be continued from. One of an epoch that has ended can be if the timeline still has
/// the place itself and all after it: what the shard lost would be a place that it does not have.
fn unknown(after: Position, top: Position, is_kept: bool) -> Option<&'static str> {
    if after.epoch > top.epoch {
        Some("epoch_unknown")
    } else if after.seq > top.seq {
        Some("position_unknown")
    } else if after.epoch < top.epoch && after.epoch != Epoch(0) && !is_kept {
        Some("epoch_changed")
    } else {
        None
    }
}

/// The first items up to so many bytes, and at least one.
fn first_bytes(mut items: Vec<Item>, bytes_max: usize) -> Vec<Item> {
    let mut bytes = 0;
    let count = items.iter().take_while(|item| {
        bytes += item.bytes();
        bytes <= bytes_max
    });
    let count = count.count().max(1);
    items.truncate(count);
    items
}

/// True when the items continue `after` without a hole.
fn follows(after: Position, items: &[Item]) -> bool {
    let mut expected = after.seq;
    items.iter().all(|item| {
        expected = expected.next();
        item.position.seq == expected
    })
}

fn down(error: &timeline::Error) -> Problem {
    tracing::warn!(%error, "the timeline does not answer");
    Problem::new(
        Code::Unavailable,
        "recent events cannot be read right now; try again",
    )
    .retry_after(std::time::Duration::from_secs(1))
}

fn away(error: &archive::Error) -> Problem {
    tracing::warn!(%error, "the archive does not answer");
    late()
}

fn late() -> Problem {
    Problem::new(
        Code::Unavailable,
        "older events cannot be read right now; try again",
    )
    .retry_after(std::time::Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Seq;

    fn row(seq: u64, bytes: usize) -> Item {
        Item {
            position: Position {
                epoch: Epoch(1),
                seq: Seq(seq),
            },
            payload: Payload::Row(Row {
                room: RoomName::parse("r").unwrap(),
                position: Position::default(),
                shard: ShardPosition::default(),
                id: crate::types::EventId::parse("e").unwrap(),
                kind: String::new(),
                user_id: crate::types::UserId::parse("u").unwrap(),
                at: crate::types::Timestamp::default(),
                payload: "x".repeat(bytes),
            }),
        }
    }

    #[test]
    fn a_page_ends_at_its_bytes_but_is_never_empty() {
        let page = |sizes: &[usize]| {
            first_bytes(sizes.iter().map(|bytes| row(1, *bytes)).collect(), 10).len()
        };
        assert_eq!(page(&[5, 5, 1]), 2);
        assert_eq!(page(&[11, 1]), 1);
        assert_eq!(page(&[]), 0);
    }

    #[test]
    fn a_hole_is_seen() {
        let after = Position {
            epoch: Epoch(1),
            seq: Seq(4),
        };
        assert!(follows(after, &[row(5, 1), row(6, 1)]));
        assert!(!follows(after, &[row(6, 1)]));
        assert!(!follows(after, &[row(5, 1), row(7, 1)]));
    }
}
