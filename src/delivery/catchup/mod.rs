//! What a client that comes back has missed: exactly that, or the word that it cannot be had.
//!
//! A client says by its vector what it has seen, and its session says where it joined each room. Of each
//! room everything is read that is after both and not after the place at which the client was added to it
//! again. Each entry is compared by the shard on which it was written. Where a timeline does not reach back
//! far enough the archive does; what neither of them can prove to be all of it is not shown at all.
//!
//! Reads of a room are shared by all who ask at the same time (`reads.rs`).

mod judge;
mod reads;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use self::judge::{Client, Stop};
use self::reads::{Reads, Tail};
use crate::archive::{self, Archive, Page, Row};
use crate::cluster::recovery::Joined;
use crate::events::{Envelope, ViewError, Vocabulary, view};
use crate::telemetry::labels::Resumed;
use crate::timeline::{End, Entry, Timeline, Vector};
use crate::types::{Position, RoomName, ShardId, ShardPosition};

/// Finds what was missed. Cheap to clone.
#[derive(Clone)]
pub struct Catchup(Arc<Inner>);

struct Inner {
    timeline: Timeline,
    archive: Archive,
    vocabulary: Vocabulary,
    reads: Arc<Reads>,
    events_max: usize,
}

/// Who came back.
#[derive(Debug, Clone, Copy)]
pub struct Returned<'a> {
    /// What it says that it has seen; `None` when it has seen nothing yet.
    pub seen: Option<&'a Vector>,
    /// Its rooms and where it joined them.
    pub rooms: &'a [(RoomName, Joined)],
    /// Where it was added to them again.
    pub up_to: &'a Vector,
}

/// An event that was missed.
#[derive(Debug)]
pub struct Missed {
    /// The shard on which it was written.
    pub shard: ShardId,
    /// Its place in that shard's stream.
    pub at: ShardPosition,
    position: Position,
    payload: Payload,
    shown: OnceLock<Option<Shown>>,
}

#[derive(Debug)]
enum Payload {
    Entry(Arc<Entry>),
    Row(Box<Row>),
}

/// An event as clients are sent it.
#[derive(Debug)]
pub struct Shown {
    /// Its name.
    pub event: Arc<str>,
    /// Its argument's JSON.
    pub json: String,
}

/// Rows of the archive at once.
const ROWS: usize = 256;
/// How long the archive may be behind the timeline.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Catchup {
    /// Reads these; a client that missed more than `events_max` begins anew.
    #[must_use]
    pub fn new(
        (timeline, archive): (Timeline, Archive),
        vocabulary: Vocabulary,
        events_max: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            reads: Arc::new(Reads::new(timeline.clone(), events_max)),
            timeline,
            archive,
            vocabulary,
            events_max,
        }))
    }

    /// All that was missed, by shard and in each in the order of its stream. On the thread of a worker.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub async fn missed(&self, returned: Returned<'_>) -> Result<Vec<Arc<Missed>>, Resumed> {
        self.check(returned).await?;
        let rooms = returned.rooms.iter();
        let found = rooms.map(|(room, joined)| self.of_room(returned, room, *joined));
        let mut all: Vec<Arc<Missed>> = try_join_all(found).await?.into_iter().flatten().collect();
        if all.len() > self.0.events_max {
            return Err(Resumed::TooMany);
        }
        all.sort_by_key(|missed| (missed.shard, missed.at));
        Ok(all)
    }

    /// An event as clients are sent it; `None` for one that nobody was shown.
    #[must_use]
    pub fn shown<'a>(&self, missed: &'a Missed) -> Option<&'a Shown> {
        let show = || missed.show(&self.0.vocabulary);
        missed.shown.get_or_init(show).as_ref()
    }

    /// Whether what the client says that it has seen is in the order that its rooms have. Of other shards
    /// nothing was asked: how far the worker has heard them says nothing.
    async fn check(&self, returned: Returned<'_>) -> Result<(), Resumed> {
        let Some(seen) = returned.seen else {
            return Ok(());
        };
        let rooms = returned.rooms.iter();
        let shards: BTreeSet<ShardId> = rooms
            .map(|(room, _)| self.0.timeline.shard_of(room))
            .collect();
        for shard in shards {
            let now = returned.up_to.at(shard).unwrap_or_default();
            let Some(at) = seen.at(shard) else { continue };
            if at > now {
                return Err(Resumed::PositionUnknown);
            }
            if at.epoch < now.epoch {
                let end = self.0.timeline.end_of(shard, at.epoch).await;
                let end = end.map_err(|_| Resumed::Unavailable)?;
                // What was seen beyond it was lost with the shard's last writes.
                if end.is_none_or(|end| at.shard_seq > end) {
                    return Err(Resumed::EpochChanged);
                }
            }
        }
        Ok(())
    }

    async fn of_room(
        &self,
        returned: Returned<'_>,
        room: &RoomName,
        joined: Joined,
    ) -> Result<Vec<Arc<Missed>>, Resumed> {
        let shard = self.0.timeline.shard_of(room);
        let client = Client {
            seen: returned.seen,
            joined,
            shard,
            up_to: returned.up_to.at(shard).unwrap_or_default(),
        };
        let tail = self.0.reads.tail(shard, room, client.mark()).await;
        let tail = tail.map_err(|_| Resumed::Unavailable)?;
        // What the shard lost since then the client would have to be shown again.
        if client.up_to.epoch.0 > 0 && tail.epoch > client.up_to.epoch {
            return Err(Resumed::Unavailable);
        }
        let (mut missed, stop) = client.judge(&tail.entries);
        if stop == Stop::Seen || is_all(&tail, &client) {
            return Ok(missed);
        }
        if tail.end == End::More {
            return Err(Resumed::TooMany);
        }
        let oldest = tail.entries.last().map(|oldest| oldest.position);
        self.archived(room, (&client, oldest), &mut missed).await?;
        Ok(missed)
    }

    /// Goes on in the archive, from where the timeline ends.
    async fn archived(
        &self,
        room: &RoomName,
        (client, oldest): (&Client<'_>, Option<Position>),
        missed: &mut Vec<Arc<Missed>>,
    ) -> Result<(), Resumed> {
        // The archive does not say on which shard a row was written: after a change of the ring its place there may
        // be another shard's.
        if self.0.timeline.has_moved() {
            return Err(Resumed::Trimmed);
        }
        let next = match oldest {
            Some(oldest) => oldest.seq.0,
            // Its last row has to be the room's last.
            None => {
                let top = self.0.timeline.top(room).await;
                top.map_err(|_| Resumed::Unavailable)?.seq.0 + 1
            }
        };
        // The archive follows by moments: what was trimmed a moment ago is not there yet.
        let until = Instant::now() + ARCHIVED_WITHIN;
        let count = missed.len();
        loop {
            missed.truncate(count);
            let read = self.rows(room, (client, oldest, next), missed).await?;
            match read {
                Rows::All => return Ok(()),
                Rows::Behind if Instant::now() < until => sleep(LOOK_EVERY).await,
                Rows::Behind | Rows::Hole => return Err(Resumed::Trimmed),
            }
        }
    }

    /// What of the archive is before `next` and the client has not seen.
    async fn rows(
        &self,
        room: &RoomName,
        (client, mut before, mut next): (&Client<'_>, Option<Position>, u64),
        missed: &mut Vec<Arc<Missed>>,
    ) -> Result<Rows, Resumed> {
        let mut is_first = true;
        loop {
            let page = Page::Before(before);
            let rows = self.0.archive.page(room, page, ROWS).await;
            let mut rows = rows.map_err(|error| away(&error))?;
            let is_last = rows.len() < ROWS;
            before = rows.first().map(|row| row.position);
            while let Some(row) = rows.pop() {
                if row.position.seq.0 + 1 != next {
                    return Ok(if is_first { Rows::Behind } else { Rows::Hole });
                }
                is_first = false;
                next = row.position.seq.0;
                if client.has_seen(client.shard, row.shard) {
                    return Ok(Rows::All);
                }
                if row.shard <= client.up_to {
                    missed.push(Arc::new(Missed::of_row(row, client.shard)));
                }
                if missed.len() > self.0.events_max {
                    return Err(Resumed::TooMany);
                }
                if next == 1 {
                    return Ok(Rows::All);
                }
            }
            if is_last {
                return Ok(if is_first { Rows::Behind } else { Rows::Hole });
            }
        }
    }
}

/// What the archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Everything that was asked.
    All,
    /// Not the newest of it.
    Behind,
    /// Not all of it.
    Hole,
}

/// Whether nothing that the client has not seen is before what was read.
fn is_all(tail: &Tail, client: &Client<'_>) -> bool {
    match tail.end {
        End::Mark | End::Beginning => true,
        End::Gone(Some(latest)) => client.has_seen(client.shard, latest),
        End::Gone(None) | End::More => false,
    }
}

fn away(error: &archive::Error) -> Resumed {
    tracing::warn!(%error, "the archive does not answer");
    Resumed::Unavailable
}

impl Missed {
    fn of_entry(entry: Arc<Entry>) -> Self {
        Self {
            shard: entry.shard,
            at: entry.shard_position(),
            position: entry.position(),
            payload: Payload::Entry(entry),
            shown: OnceLock::new(),
        }
    }

    fn of_row(row: Row, shard: ShardId) -> Self {
        Self {
            shard,
            at: row.shard,
            position: row.position,
            payload: Payload::Row(Box::new(row)),
            shown: OnceLock::new(),
        }
    }

    fn show(&self, vocabulary: &Vocabulary) -> Option<Shown> {
        let envelope = match &self.payload {
            Payload::Entry(entry) => Envelope::parse(&entry.payload),
            Payload::Row(row) => Envelope::parse(row.payload.as_bytes()),
        };
        let shown = envelope.map_err(|e| e.to_string()).and_then(|envelope| {
            match view(&vocabulary.current(), &envelope, self.position) {
                Ok(shown) => Ok(Some(Shown {
                    event: shown.event,
                    json: shown.json,
                })),
                Err(ViewError::Hidden(_)) => Ok(None),
                Err(error @ ViewError::Data { .. }) => Err(error.to_string()),
            }
        });
        // Nobody was shown it live either.
        shown.unwrap_or_else(|error| {
            tracing::error!(position = %self.position, %error, "an event cannot be shown");
            None
        })
    }
}
