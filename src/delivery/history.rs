//! A room's past: its timeline where that reaches, the archive beyond.
//!
//! Completeness is proved, not assumed: a room's `seq` has no holes, so a page is complete when its
//! numbers are consecutive from the position that was asked for.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::archive::{self, Archive, Page, Row};
use crate::events::{Envelope, Vocabulary, view};
use crate::timeline::{self, Timeline};
use crate::types::{Code, Epoch, Position, Problem, RoomName, Seq, ShardPosition, ShardSeq};

/// Reads a room's past. Cheap to clone.
#[derive(Clone)]
pub struct History {
    timeline: Timeline,
    archive: Archive,
    vocabulary: Vocabulary,
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
    shard: ShardPosition,
    payload: Payload,
}

enum Payload {
    Entry(Arc<timeline::Entry>),
    Row(String),
}

impl Item {
    fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Entry(entry) => entry.payload.len(),
            Payload::Row(text) => text.len(),
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
            shard: ShardPosition {
                epoch: entry.epoch,
                shard_seq: entry.shard_seq,
            },
            payload: Payload::Entry(entry),
        }
    }
}

impl From<Row> for Item {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            shard: row.shard,
            payload: Payload::Row(row.payload),
        }
    }
}

impl History {
    /// The history of these.
    #[must_use]
    pub const fn new(timeline: Timeline, archive: Archive, vocabulary: Vocabulary) -> Self {
        Self {
            timeline,
            archive,
            vocabulary,
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
        up_to: ShardPosition,
    ) -> Result<Missed, Problem> {
        let start = after.unwrap_or(NOWHERE);
        let range = self
            .timeline
            .range(room, start, up_to, PAGE_MAX)
            .await
            .map_err(|e| down(&e))?;
        let top = self.known(room, range.top);
        let Some(after) = after else {
            return Ok(Missed {
                top,
                ..Missed::default()
            });
        };
        if let Some(reason) = unknown(after, top) {
            return Ok(Missed {
                top,
                reason: Some(reason),
                ..Missed::default()
            });
        }
        let items = if range.complete {
            range.entries.into_iter().map(Item::from).collect()
        } else {
            self.after(room, after, up_to, PAGE_MAX).await?
        };
        // Nothing at all is a hole too, when the room went on.
        let is_consecutive = follows(after, &items) && (!items.is_empty() || after.seq >= top.seq);
        let items = first_bytes(items, PAGE_BYTES);
        let last = items.last().map_or(after, |item| item.position);
        let events = self.show(items)?;
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

    /// A page before a position (the newest without one), ascending.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer.
    pub async fn before(
        &self,
        room: &RoomName,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Shown>, Problem> {
        let is_before = |position: Position| before.is_none_or(|before| is_older(position, before));
        let recent = self.recent(room).await?;
        let mut items: Vec<Item> = recent
            .into_iter()
            .map(Item::from)
            .filter(|item| is_before(item.position))
            .collect();
        if items.len() < limit {
            let edge = items.first().map(|item| item.position).or(before);
            let rows = self
                .archive
                .page(room, Page::Before(edge), limit - items.len())
                .await
                .map_err(|e| away(&e))?;
            let mut older: Vec<Item> = rows.into_iter().map(Item::from).collect();
            older.append(&mut items);
            items = older;
        }
        let surplus = items.len().saturating_sub(limit);
        items.drain(..surplus);
        self.show(items)
    }

    /// A page after a position, ascending.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer.
    pub async fn after_page(
        &self,
        room: &RoomName,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Shown>, Problem> {
        let items = self.after(room, after, ALL, limit).await?;
        self.show(items)
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
        up_to: ShardPosition,
        limit: usize,
    ) -> Result<Vec<Item>, Problem> {
        let rows = self
            .archive
            .page(room, Page::After(after), limit)
            .await
            .map_err(|e| away(&e))?;
        let mut items: Vec<Item> = rows.into_iter().map(Item::from).collect();
        items.retain(|item| item.shard <= up_to);
        if items.len() < limit {
            // The archive follows the timeline by moments; what it does not have yet is there.
            let last = items.last().map_or(after, |item| item.position);
            let range = self
                .timeline
                .range(room, last, up_to, limit - items.len())
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

    async fn recent(&self, room: &RoomName) -> Result<Vec<Arc<timeline::Entry>>, Problem> {
        let start = Position::default();
        let range = self
            .timeline
            .range(room, start, ALL, usize::MAX)
            .await
            .map_err(|e| down(&e))?;
        Ok(range.entries)
    }

    fn show(&self, items: Vec<Item>) -> Result<Vec<Shown>, Problem> {
        items.into_iter().map(|item| self.show_one(item)).collect()
    }

    fn show_one(&self, item: Item) -> Result<Shown, Problem> {
        let envelope: Result<Envelope, _> = match &item.payload {
            Payload::Entry(entry) => Envelope::parse(&entry.payload),
            Payload::Row(text) => Envelope::parse(text.as_bytes()),
        };
        let shown = envelope
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                view(&self.vocabulary.current(), &envelope, item.position)
                    .map_err(|e| e.to_string())
            })
            .and_then(|shown| {
                let data = RawValue::from_string(shown.json).map_err(|e| e.to_string())?;
                Ok(Shown {
                    event: shown.event,
                    data,
                    position: item.position,
                })
            });
        shown.map_err(|error| {
            tracing::error!(position = %item.position, %error, "a stored event cannot be shown");
            Problem::new(Code::Internal, "a stored event cannot be shown")
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

/// Why a position cannot be continued from.
fn unknown(after: Position, top: Position) -> Option<&'static str> {
    if after.epoch > top.epoch {
        Some("epoch_unknown")
    } else if after.seq > top.seq {
        Some("position_unknown")
    } else if after.epoch < top.epoch && after.epoch != Epoch(0) {
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
            shard: ShardPosition::default(),
            payload: Payload::Row("x".repeat(bytes)),
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
