//! One message by its id, as it is at this moment.

use std::time::Duration;

use memchr::memmem;

use super::fold::Changes;
use super::{ALL, History, down};
use crate::events::Envelope;
use crate::store::Message;
use crate::timeline::Entry;
use crate::types::{Code, EventId, Position, Problem, RoomName};

/// How long a message that this node has just published is waited for: until the pump gave it its
/// place, a few milliseconds at most unless the node is overloaded.
const WAITS: usize = 40;
const WAIT: Duration = Duration::from_millis(5);

impl History {
    /// A message by its id, deleted or not; `None` when there is no such message in a room that is
    /// known here. `room` is where the client says it is, if it says so.
    ///
    /// The store follows the log by moments. What it does not have yet is looked for in the timeline
    /// of `room`, and of the room to which this node published it.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer, or the message is on its way to its place for long.
    pub async fn message(
        &self,
        id: &EventId,
        room: Option<&RoomName>,
    ) -> Result<Option<Message>, Problem> {
        if let Some(message) = self.store.message(id).await? {
            return Ok(Some(self.as_it_is(message).await?));
        }
        for _ in 0..WAITS {
            let published = self.recent.room(id);
            let is_expected = published.is_some();
            let rooms = [published.as_ref(), room];
            for room in rooms.into_iter().flatten() {
                if let Some(message) = self.in_timeline(id, room).await? {
                    return Ok(Some(self.as_it_is(message).await?));
                }
            }
            if !is_expected {
                break;
            }
            tokio::time::sleep(WAIT).await;
        }
        // It may have been stored between the two questions.
        let stored = self.store.message(id).await?;
        if stored.is_none() && self.recent.room(id).is_some() {
            return Err(
                Problem::new(Code::Unavailable, "the message has no place yet; try again")
                    .retry_after(Duration::from_secs(1)),
            );
        }
        Ok(stored)
    }

    /// The same for a message that another node published to a room.
    ///
    /// # Errors
    /// As [`History::message`].
    pub async fn message_of(
        &self,
        id: &EventId,
        room: &RoomName,
    ) -> Result<Option<Message>, Problem> {
        self.recent.note(id, room);
        self.message(id, None).await
    }

    async fn in_timeline(&self, id: &EventId, room: &RoomName) -> Result<Option<Message>, Problem> {
        let start = Position::default();
        let range = self.timeline.range(room, start, ALL, usize::MAX).await;
        let entries = range.map_err(|error| down(&error))?.entries;
        let found = entries.iter().rev().find(|entry| entry.id == *id);
        Ok(found.and_then(|entry| self.sent(entry)))
    }

    /// An entry as the message that it is.
    fn sent(&self, entry: &Entry) -> Option<Message> {
        let envelope = Envelope::parse(&entry.payload).ok()?;
        let catalogue = self.vocabulary.current();
        let row = catalogue.by_type(&envelope.kind)?;
        row.is_in_history.then(|| Message {
            id: envelope.id,
            room: entry.room.clone(),
            position: entry.position(),
            user: envelope.user_id,
            conversation: envelope.conversation_id,
            at: envelope.timestamp,
            content: None,
            edited_at: None,
            deleted_at: None,
        })
    }

    /// What the timeline says about it since.
    async fn as_it_is(&self, mut message: Message) -> Result<Message, Problem> {
        let (room, after) = (&message.room, message.position);
        let range = self.timeline.range(room, after, ALL, usize::MAX).await;
        let mut entries = range.map_err(|error| down(&error))?.entries;
        let id = memmem::Finder::new(message.id.as_str());
        entries.retain(|entry| id.find(&entry.payload).is_some());
        let mut changes = Changes::default();
        changes.timeline(&entries);
        if let Some(change) = changes.of(&message.id) {
            if change.edited_at.is_some() {
                message.content = change.content.clone();
                message.edited_at = change.edited_at;
            }
            message.deleted_at = message.deleted_at.or(change.deleted_at);
        }
        if message.deleted_at.is_some() {
            message.content = None;
        }
        Ok(message)
    }
}
