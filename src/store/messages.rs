//! What became of messages: edited, deleted, reacted to. Kept up by [`project`](super::project).

use serde_json::value::RawValue;

use super::list::Listing;
use super::row::{self, args};
use super::{Error, Store};
use crate::backend::statement::{Row, Statement, Value};
use crate::types::{ConversationId, EventId, Position, RoomName, Timestamp, UserId};

/// A message as it is now.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: EventId,
    /// Its room.
    pub room: RoomName,
    /// Where it stands.
    pub position: Position,
    /// Who sent it.
    pub user: UserId,
    /// The conversation, if the room is one.
    pub conversation: Option<ConversationId>,
    /// When it was sent.
    pub at: Timestamp,
    /// The new content, as JSON, if it was edited.
    pub content: Option<Box<RawValue>>,
    /// When it was edited last.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// How many users reacted to a message with an emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The message.
    pub message: EventId,
    /// The emoji.
    pub emoji: String,
    /// How many.
    pub count: u64,
    /// Who, at most 100, the first ones first.
    pub users: Vec<UserId>,
}

impl Store {
    /// A message by id. Follows the archive: a message of this moment may not be there yet.
    pub async fn message(&self, id: &EventId) -> Result<Option<Message>, Error> {
        let found = self.read_one(BY_ID, args![id]).await?;
        found.as_ref().map(read).transpose()
    }

    /// Those of these messages that were edited or deleted.
    pub async fn changed(&self, room: &RoomName, ids: &[EventId]) -> Result<Vec<Message>, Error> {
        let ids: Vec<Value> = ids.iter().map(Value::from).collect();
        let rows = self
            .read_all(CHANGED.statements(&args![room], &ids))
            .await?;
        rows.iter().map(read).collect()
    }

    /// Reactions of these messages, those given first before others.
    pub async fn reactions(&self, ids: &[EventId]) -> Result<Vec<Reaction>, Error> {
        let ids: Vec<Value> = ids.iter().map(Value::from).collect();
        let rows = self.read_all(REACTIONS.statements(&[], &ids)).await?;
        let mut found: Vec<Reaction> = Vec::new();
        for row in &rows {
            let (message, emoji, user) = (row::event(row, 0)?, row.text(1), row::user(row, 2)?);
            let same = |known: &&mut Reaction| known.message == message && known.emoji == emoji;
            match found.iter_mut().rev().find(same) {
                Some(reaction) => reaction.users.push(user),
                None => found.push(Reaction {
                    message,
                    emoji: emoji.to_owned(),
                    count: row::count(row, 3),
                    users: vec![user],
                }),
            }
        }
        Ok(found)
    }

    /// Adds a reaction at once and answers how many there are; a repeated one counts once. `at`
    /// is the timestamp of the event that tells of it: by that an older event is known as older.
    pub async fn react(
        &self,
        message: &EventId,
        user: &UserId,
        emoji: &str,
        at: Timestamp,
    ) -> Result<u64, Error> {
        self.ask(args![message, emoji, user, true, at]).await
    }

    /// Takes a reaction back and answers how many are left. `at` as in [`react`](Self::react).
    pub async fn unreact(
        &self,
        message: &EventId,
        user: &UserId,
        emoji: &str,
        at: Timestamp,
    ) -> Result<u64, Error> {
        self.ask(args![message, emoji, user, false, at]).await
    }

    async fn ask(&self, args: [Value; 5]) -> Result<u64, Error> {
        let count = Statement::new(COUNT, [args[0].clone(), args[1].clone()]);
        let answers = self.write(vec![Statement::new(ASK, args), count]).await?;
        let count = answers.last().and_then(|rows| rows.first());
        Ok(count.map_or(0, |found| row::count(found, 0)))
    }
}

fn read(row: &Row) -> Result<Message, Error> {
    let room = row::room(row, 1)?;
    let conversation = room.as_str().strip_prefix("conversation:");
    Ok(Message {
        id: row::event(row, 0)?,
        position: row::position(row, 2),
        user: row::user(row, 4)?,
        conversation: conversation.and_then(|id| ConversationId::parse(id).ok()),
        at: row::time(row, 5),
        content: row::json_or_null(row, 6)?,
        edited_at: row.time(7),
        deleted_at: row.time(8),
        room,
    })
}

/// Ids hold their room, so that one is in two rooms only if a service chose it so; then the first.
const BY_ID: &str = "
    SELECT e.event_id, e.room, e.epoch, e.seq, e.user_id, e.at,
        s.content, s.edited_at, s.deleted_at
    FROM archive_event e
    LEFT JOIN message_state s ON s.message_id = e.event_id AND s.room = e.room
    WHERE e.event_id = $1 AND e.kind = 'MESSAGE_SENT' ORDER BY e.id LIMIT 1";
static CHANGED: Listing = Listing::new(
    "SELECT e.event_id, e.room, e.epoch, e.seq, e.user_id, e.at,
        s.content, s.edited_at, s.deleted_at
    FROM message_state s
    JOIN archive_event e ON e.event_id = s.message_id AND e.room = s.room
    WHERE s.room = $1 AND s.message_id IN ({})",
    1,
);
/// Counted and cut by the database: a message may have many thousands.
static REACTIONS: Listing = Listing::new(
    "SELECT message_id, emoji, user_id, total FROM (
        SELECT message_id, emoji, user_id, at,
            COUNT(*) OVER (PARTITION BY message_id, emoji) AS total,
            MIN(at) OVER (PARTITION BY message_id, emoji) AS first_at,
            ROW_NUMBER() OVER (PARTITION BY message_id, emoji ORDER BY at, user_id) AS place
        FROM reaction WHERE is_on = 1 AND message_id IN ({})) ranked
    WHERE place <= 100 ORDER BY message_id, first_at, emoji, place",
    0,
);
const COUNT: &str = "
    SELECT COUNT(*) FROM reaction WHERE message_id = $1 AND emoji = $2 AND is_on = 1";
const ASK: &str = "
    INSERT INTO reaction (message_id, emoji, user_id, is_on, at, epoch, seq, asked_at)
    VALUES ($1, $2, $3, $4, $5, 0, 0, $5)
    ON CONFLICT (message_id, emoji, user_id) DO UPDATE SET
        is_on = excluded.is_on, asked_at = excluded.asked_at,
        at = CASE WHEN reaction.is_on = excluded.is_on THEN reaction.at ELSE excluded.at END";
