//! A user's conversations, with the newest message and what is unread.

use serde_json::value::RawValue;

use super::conversations::{self, ConversationKind, LastMessage, Listed, Role};
use super::row::{self, args};
use super::{Error, Store};
use crate::backend::statement::Row;
use crate::events::Envelope;
use crate::types::{ConversationId, Timestamp, UserId};

impl Store {
    /// A user's conversations, the most recently active first, those active before `before` (time,
    /// id) only.
    pub async fn conversations_of(
        &self,
        user: &UserId,
        before: Option<(Timestamp, ConversationId)>,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        let (at, id) = before.map_or((i64::MAX, String::new()), |(at, id)| {
            (at.as_millis(), id.as_str().to_owned())
        });
        let rows = self.read(LISTED, args![user, at, id, limit]).await?;
        rows.iter().map(|found| read(user, found)).collect()
    }
}

fn read(user: &UserId, row: &Row) -> Result<Listed, Error> {
    let conversation = conversations::read(row)?;
    let other = match conversation.kind {
        ConversationKind::Direct => row.text_or_null(11).and_then(|pair| other(pair, user)),
        ConversationKind::Group => None,
    };
    Ok(Listed {
        conversation,
        role: Role::of_number(row.integer(6))?,
        active_at: row::time(row, 7),
        read: row::position(row, 8),
        unread: row::count(row, 10),
        other,
        last: last(row)?,
    })
}

/// Of a pair, the one who is not this user.
fn other(pair: &str, user: &UserId) -> Option<UserId> {
    let (low, high) = pair.split_once('\n')?;
    let other = if low == user.as_str() { high } else { low };
    UserId::parse(other).ok()
}

fn last(row: &Row) -> Result<Option<LastMessage>, Error> {
    if row.text_or_null(12).is_none() {
        return Ok(None);
    }
    let content = if row.time(18).is_some() {
        null()
    } else if let Some(edited) = row::json_or_null(row, 17)? {
        edited
    } else {
        content(row.text(16))
    };
    Ok(Some(LastMessage {
        id: row::event(row, 12)?,
        user: row::user(row, 13)?,
        at: row::time(row, 14),
        position: crate::types::Position {
            epoch: crate::types::Epoch(row::count(row, 15)),
            seq: crate::types::Seq(row::count(row, 19)),
        },
        content,
        deleted_at: row.time(18),
    }))
}

/// The member `content` of an envelope's data; `null` if it has none.
fn content(envelope: &str) -> Box<RawValue> {
    #[derive(serde::Deserialize)]
    struct Data {
        content: Option<Box<RawValue>>,
    }
    let data = Envelope::parse(envelope.as_bytes()).ok();
    let data = data.and_then(|envelope| serde_json::from_str::<Data>(envelope.data.get()).ok());
    data.and_then(|data| data.content).unwrap_or_else(null)
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// The page is cut before anything is counted: what is unread costs one walk through an index for
/// each conversation on it, of at most 1,000 steps.
const LISTED: &str = "
    SELECT page.id, page.kind, page.title, page.creator, page.created_at, page.member_count,
        page.role, page.active_at,
        COALESCE(cursor.epoch, 0), COALESCE(cursor.seq, 0),
        (SELECT COUNT(*) FROM (
            SELECT 1 FROM archive_event unread
            WHERE unread.kind = 'MESSAGE_SENT' AND unread.room = page.room
                AND (unread.epoch, unread.seq)
                    > (COALESCE(cursor.epoch, 0), COALESCE(cursor.seq, 0))
                AND unread.user_id <> $1
                AND NOT EXISTS (
                    SELECT 1 FROM message_state gone
                    WHERE gone.message_id = unread.event_id AND gone.room = unread.room
                        AND gone.deleted_at IS NOT NULL)
            LIMIT 1000) counted),
        page.pair,
        last.event_id, last.user_id, last.at, last.epoch, last.payload,
        state.content, state.deleted_at, last.seq
    FROM (
        SELECT c.id, c.kind, c.title, c.creator, c.created_at, c.member_count, c.pair, m.role,
            'conversation:' || c.id AS room, a.epoch AS last_epoch, a.seq AS last_seq,
            CASE WHEN a.at > c.created_at THEN a.at ELSE c.created_at END AS active_at
        FROM conversation_member m
        JOIN conversation c ON c.id = m.conversation
        LEFT JOIN conversation_activity a ON a.conversation = m.conversation
        WHERE m.user_id = $1
            AND (CASE WHEN a.at > c.created_at THEN a.at ELSE c.created_at END, c.id) < ($2, $3)
        ORDER BY active_at DESC, c.id DESC LIMIT $4) page
    LEFT JOIN read_cursor cursor ON cursor.conversation = page.id AND cursor.user_id = $1
    LEFT JOIN archive_event last ON last.room = page.room
        AND last.epoch = page.last_epoch AND last.seq = page.last_seq
    LEFT JOIN message_state state
        ON state.message_id = last.event_id AND state.room = last.room
    ORDER BY page.active_at DESC, page.id DESC";
