//! Pages of messages, in both directions.
//!
//! A page shows the rows of the catalogue that have `history = true`, as they are now; everything
//! else in the room (edits, reactions, receipts) is read over. A page ends after so many messages or
//! so many events, whichever comes first: then it may hold few messages or none, and its `next` or
//! `previous` still leads on from exactly where it ended.
//!
//! The archive follows the timeline by moments, or by hours when it is away. What the timeline no
//! longer keeps and the archive does not have yet is missing from a page; then the page says so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::fold::Changes;
use super::{ALL, History, Item, Payload, Shown, away, is_newer, is_older, late};
use crate::archive::{self, Row};
use crate::events::{Catalogue, Envelope};
use crate::timeline::{Range, Trimmed};
use crate::types::{EventId, Kind, Position, Problem, RoomName, Seq};

/// A page of a room's messages.
#[derive(Debug)]
pub struct Page {
    /// Ascending, as they are now.
    pub messages: Vec<Shown>,
    /// Give it as `after` for what came later, when something did.
    pub next: Option<Position>,
    /// Give it as `before` for what came earlier, when something did.
    pub previous: Option<Position>,
    /// False when messages between those of this page may be missing for now.
    pub complete: bool,
    /// When it is not complete: how far the archive is, if it could be asked. What is missing is
    /// later than this.
    pub archived_up_to: Option<Position>,
    /// True when a store did not answer in time: of what it has, something may be missing, and
    /// later changes of these messages too.
    pub is_stale: bool,
    /// The room's newest place.
    pub top: Position,
}

/// How long a store may take until a page is made without it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

/// Events read for one page. A long run of reactions takes several pages, none of them slow.
const EVENTS_MAX: usize = 2_000;
/// Rows read at once.
const ROWS_MAX: usize = 500;
/// In busy rooms there are a few receipts and reactions to a message.
const EVENTS_PER_MESSAGE: usize = 4;

/// What was read so far, on the way up or down.
struct Scan {
    catalogue: Arc<Catalogue>,
    messages: VecDeque<(EventId, Item)>,
    limit: usize,
    events: usize,
    lowest: Option<Position>,
    highest: Option<Position>,
}

impl Scan {
    fn is_over(&self) -> bool {
        self.messages.len() >= self.limit || self.events >= EVENTS_MAX
    }

    /// Rows to read next.
    fn rows(&self) -> usize {
        let wanted = (self.limit - self.messages.len()).saturating_mul(EVENTS_PER_MESSAGE);
        wanted.min(ROWS_MAX).min(EVENTS_MAX - self.events).max(1)
    }

    fn below(&mut self, item: Item) {
        if let Some(id) = self.take(&item) {
            self.messages.push_front((id, item));
        }
    }

    fn above(&mut self, item: Item) {
        if let Some(id) = self.take(&item) {
            self.messages.push_back((id, item));
        }
    }

    /// Counts an event; answers its id if it is a message.
    fn take(&mut self, item: &Item) -> Option<EventId> {
        self.events += 1;
        let at = item.position;
        self.lowest = Some(self.lowest.map_or(at, |lowest| lowest.min(at)));
        self.highest = Some(self.highest.map_or(at, |highest| highest.max(at)));
        let is_shown = |kind: &str| {
            let row = self.catalogue.by_type(kind);
            row.is_some_and(|row| row.is_in_history)
        };
        match &item.payload {
            Payload::Row(row) => is_shown(&row.kind).then(|| row.id.clone()),
            Payload::Entry(entry) => {
                let envelope = Envelope::parse(&entry.payload).ok()?;
                is_shown(&envelope.kind).then(|| entry.id.clone())
            }
        }
    }
}

impl History {
    /// The page before a position; without one, the newest.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer and nothing can be shown without it.
    pub async fn before(
        &self,
        room: &RoomName,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Page, Problem> {
        let (range, is_blind) = self.recent(room).await?;
        let mut scan = self.scan(limit);
        let is_wanted = |position: Position| before.is_none_or(|before| is_older(position, before));
        for entry in range.entries.iter().rev() {
            if scan.is_over() {
                break;
            }
            if is_wanted(entry.position()) {
                scan.below(Item::from(Arc::clone(entry)));
            }
        }
        let edge = scan.lowest.or(before);
        let is_first = |at: Position| at.seq <= Seq(1);
        let mut gap = Gap::None;
        let mut is_start = range.top.seq == Seq(0) || edge.is_some_and(is_first);
        if !scan.is_over() && !is_start {
            let read = timeout(ANSWER_WITHIN, self.below(room, edge, &mut scan)).await;
            match read {
                Ok(Ok(start)) => {
                    is_start = start;
                    gap = self.gap_below(room, edge, &range).await;
                }
                Ok(Err(error)) if scan.messages.is_empty() || !error.retry() => {
                    return Err(away(&error));
                }
                Err(_late) if scan.messages.is_empty() => return Err(late()),
                Ok(Err(_)) | Err(_) => gap = Gap::Unknown,
            }
        }
        if is_blind {
            gap = Gap::After(range.top);
        }
        let highest = scan.highest.filter(|_| before.is_some());
        let top = self.known(room, range.top);
        let is_unsure = is_blind || matches!(gap, Gap::Unknown);
        let previous = scan.lowest.filter(|lowest| !is_start && !is_first(*lowest));
        let (messages, is_old) = self.page(room, scan, &range).await?;
        Ok(Page {
            next: highest.filter(|highest| highest.seq < top.seq),
            previous,
            complete: matches!(gap, Gap::None),
            archived_up_to: gap.archived(),
            is_stale: is_unsure || is_old,
            messages,
            top,
        })
    }

    /// The page after a position.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer.
    pub async fn after_page(
        &self,
        room: &RoomName,
        after: Position,
        limit: usize,
    ) -> Result<Page, Problem> {
        let (range, is_blind) = self.recent(room).await?;
        let mut scan = self.scan(limit);
        let mut last = after;
        let mut gap = Gap::None;
        // Beyond the latest that was trimmed, everything is in the timeline.
        while let Some(trimmed) = range.trimmed
            && is_newer(trimmed.position, last)
            && !scan.is_over()
        {
            let page = archive::Page::After(last);
            let rows = self.archive.page(room, page, scan.rows()).await;
            let rows = rows.map_err(|error| away(&error))?;
            let first = range.entries.first().map(|entry| entry.position());
            let is_archived = |row: &Row| first.is_none_or(|first| row.position < first);
            let rows: Vec<Row> = rows.into_iter().take_while(is_archived).collect();
            if rows.is_empty() {
                // Not yet in the archive; what comes behind the gap is shown all the same.
                gap = self.gap(room, trimmed.position).await;
                last = trimmed.position;
            }
            for row in rows {
                if scan.is_over() {
                    break;
                }
                last = row.position;
                scan.above(Item::from(row));
            }
        }
        for entry in &range.entries {
            if scan.is_over() {
                break;
            }
            if is_newer(entry.position(), last) {
                scan.above(Item::from(Arc::clone(entry)));
            }
        }
        let top = self.known(room, range.top);
        let is_cut = scan.is_over();
        if is_blind {
            gap = Gap::After(range.top);
        }
        let next = scan.highest.filter(|end| is_cut && end.seq < top.seq);
        let previous = scan.lowest.filter(|lowest| lowest.seq > Seq(1));
        let is_unsure = is_blind || matches!(gap, Gap::Unknown);
        let (messages, is_old) = self.page(room, scan, &range).await?;
        Ok(Page {
            next,
            previous,
            complete: matches!(gap, Gap::None),
            archived_up_to: gap.archived(),
            is_stale: is_unsure || is_old,
            messages,
            top,
        })
    }

    fn scan(&self, limit: usize) -> Scan {
        Scan {
            catalogue: Arc::clone(&self.vocabulary.current()),
            messages: VecDeque::new(),
            limit,
            events: 0,
            lowest: None,
            highest: None,
        }
    }

    /// Goes on in the archive; true when it came to the room's beginning.
    async fn below(
        &self,
        room: &RoomName,
        edge: Option<Position>,
        scan: &mut Scan,
    ) -> Result<bool, archive::Error> {
        let mut edge = edge;
        while !scan.is_over() {
            let wanted = scan.rows();
            let page = archive::Page::Before(edge);
            let rows = self.archive.page(room, page, wanted).await?;
            let is_start = rows.len() < wanted;
            for row in rows.into_iter().rev() {
                if scan.is_over() {
                    return Ok(false);
                }
                edge = Some(row.position);
                scan.below(Item::from(row));
            }
            if is_start {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something below `edge` is in neither.
    async fn gap_below(&self, room: &RoomName, edge: Option<Position>, range: &Range) -> Gap {
        let Some(trimmed) = range.trimmed else {
            return Gap::None;
        };
        match self.gap(room, trimmed.position).await {
            Gap::After(archived) if edge.is_some_and(|edge| edge.seq <= archived.seq.next()) => {
                Gap::None
            }
            gap => gap,
        }
    }

    /// Whether the archive lacks something of what the timeline trimmed.
    async fn gap(&self, room: &RoomName, trimmed: Position) -> Gap {
        match self.archive.top(room).await.map(Option::unwrap_or_default) {
            Ok(archived) if archived.seq < trimmed.seq => Gap::After(archived),
            Ok(_) => Gap::None,
            Err(_) => Gap::Unknown,
        }
    }

    /// The messages as they are now; true when only the timeline could say so.
    async fn page(
        &self,
        room: &RoomName,
        scan: Scan,
        range: &Range,
    ) -> Result<(Vec<Shown>, bool), Problem> {
        let ids: Vec<EventId> = scan.messages.iter().map(|(id, _)| id.clone()).collect();
        let mut changes = Changes::default();
        let mut is_old = false;
        if !ids.is_empty() {
            let read = async {
                let changed = self.store.changed(room, &ids).await?;
                Ok::<_, Problem>((changed, self.store.reactions(&ids).await?))
            };
            match timeout(ANSWER_WITHIN, read).await {
                Ok(Ok((changed, reactions))) => changes.store(changed, reactions),
                Ok(Err(problem)) if problem.code.kind() != Kind::Unavailable => {
                    return Err(problem);
                }
                Ok(Err(_)) | Err(_) => is_old = true,
            }
            changes.timeline(&range.entries);
        }
        let mut shown = Vec::with_capacity(ids.len());
        for (id, item) in scan.messages {
            let Some(mut message) = self.show_one(item) else {
                continue;
            };
            if let Some(change) = changes.of(&id) {
                message.data = folded(change.apply(&message.data))?;
            }
            shown.push(message);
        }
        Ok((shown, is_old))
    }

    /// What the timeline has of a room. When it does not answer in time, only how far the archive is; then
    /// the page is of the archive alone, and true is answered too.
    async fn recent(&self, room: &RoomName) -> Result<(Range, bool), Problem> {
        let start = Position::default();
        let range = self.timeline.range(room, start, ALL, usize::MAX);
        match timeout(ANSWER_WITHIN, range).await {
            Ok(Ok(range)) => return Ok((range, false)),
            Ok(Err(error)) => tracing::debug!(%error, "a page is made without the timeline"),
            Err(_late) => tracing::debug!("a page is made without the timeline"),
        }
        let top = timeout(ANSWER_WITHIN, self.archive.top(room)).await;
        let top = top.map_err(|_late| late())?;
        let top = top.map_err(|error| away(&error))?.unwrap_or_default();
        let trimmed = Trimmed {
            position: top,
            home: self.timeline.shard_of(room),
            shard: None,
        };
        let range = Range {
            entries: Vec::new(),
            complete: false,
            top,
            more: false,
            trimmed: Some(trimmed),
        };
        Ok((range, true))
    }
}

/// What is in neither the archive nor the timeline.
enum Gap {
    None,
    /// From here to what the timeline keeps.
    After(Position),
    /// The archive could not be asked.
    Unknown,
}

impl Gap {
    fn archived(&self) -> Option<Position> {
        match self {
            Self::After(position) => Some(*position),
            Self::None | Self::Unknown => None,
        }
    }
}

fn folded(view: serde_json::Result<Box<RawValue>>) -> Result<Box<RawValue>, Problem> {
    view.map_err(|error| {
        tracing::error!(%error, "a message's view is no object");
        Problem::new(
            crate::types::Code::Internal,
            "a stored message cannot be shown",
        )
    })
}
