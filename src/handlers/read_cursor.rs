//! `message:read`: how far a user has read.
//!
//! The cursor moves in the store, forward only, before the answer. Members are told by an event,
//! where that is not more noise than use: not above [`MEMBERS_MAX`] members, and for one user and
//! conversation at most once in [`REST`], with the last place and never an older one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::change::{checked, queue, raw};
use super::{Context, Sender, Session, in_order, now, reply};
use crate::events::{Envelope, random_id};
use crate::server::Namespace;
use crate::telemetry::metrics;
use crate::types::{
    ConversationId, Epoch, Position, Problem, RoomName, Seq, ShardPosition, ShardSeq, Timestamp,
    UserId,
};

/// What the client asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    conversation_id: ConversationId,
    up_to: Seq,
}

/// The event's data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Receipt<'a> {
    conversation_id: &'a ConversationId,
    user_id: &'a UserId,
    up_to: Seq,
    /// The epoch of that place: two places are compared as pairs.
    up_to_epoch: Epoch,
}

/// The answer: how far the user has read now, as far as this call knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    ok: bool,
    room: RoomName,
    epoch: Epoch,
    up_to: Seq,
    at: Timestamp,
}

/// Above this many members nobody is told who has read what.
const MEMBERS_MAX: u64 = 100;
/// Between two receipts of a user in a conversation.
const REST: Duration = Duration::from_secs(1);
/// How often a receipt that the log does not take is tried again, a rest apart.
const TRIES: u32 = 30;
/// Users and conversations at rest. Above, receipts are told without a rest.
const RESTING_MAX: usize = 65_536;

/// Who was told of a moment ago, and what came since. One for each node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Receipts(Arc<Mutex<HashMap<Key, Option<Position>>>>);

type Key = (ConversationId, UserId);

/// What to do with a receipt.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Tell it, then rest.
    Tell,
    /// Tell it; there is no place to rest.
    TellOnly,
    /// It is told when the rest is over.
    Rests,
}

impl Receipts {
    fn add(&self, key: &Key, position: Position) -> Next {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = resting.len() >= RESTING_MAX;
        match resting.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let later = entry.get().map_or(position, |known| known.max(position));
                entry.insert(Some(later));
                Next::Rests
            }
            Entry::Vacant(_) if is_full => Next::TellOnly,
            Entry::Vacant(entry) => {
                entry.insert(None);
                Next::Tell
            }
        }
    }

    /// Keeps what could not be told for the end of the next rest.
    fn keep(&self, key: &Key, position: Position) {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = resting.get_mut(key) {
            *kept = (*kept).max(Some(position));
        }
    }

    /// What came during the rest; nothing, and the rest ends.
    fn take(&self, key: &Key) -> Option<Position> {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let came = resting.get_mut(key)?.take();
        if came.is_none() {
            resting.remove(key);
        }
        came
    }
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let context = Arc::clone(context);
    let received = metrics::EVENTS_RECEIVED.of(["message:read"]);
    namespace.on("message:read", move |socket, event| {
        received.add(1);
        let Some(session) = socket.data::<Session>() else {
            return;
        };
        let data = match reply::payload(&event) {
            Ok(data) => data,
            Err(problem) => return reply::refuse(event, &problem),
        };
        let (context, socket) = (Arc::clone(&context), socket.clone());
        in_order(
            (&socket.clone(), &session.clone()),
            event,
            move |turn| async move {
                let done = read(&context, session.sender(&socket), &data).await;
                turn.pass();
                done
            },
        );
    });
}

/// Whether members of a conversation of this size are told who has read what.
#[must_use]
pub const fn is_told(member_count: u64) -> bool {
    member_count <= MEMBERS_MAX
}

/// Moves a user's cursor: `{conversationId, upTo}`. Runs on a worker.
///
/// # Errors
/// What is wrong with the data, or that this user may not.
pub async fn read(
    context: &Arc<Context>,
    sender: Sender<'_>,
    data: &RawValue,
) -> Result<Read, Problem> {
    let row = context.row("message:read")?;
    let request: Request = checked(context, &row, sender, data).await?;
    let (id, user) = (request.conversation_id, sender.identity.user());
    let room = super::conversation_room(id.as_str())?;
    context.directory.may_join(sender.identity, &room).await?;
    let (position, at) = (place(context, &room, request.up_to).await?, now());
    if position.seq.0 > 0 && context.store.read_up_to(&id, user, position, at).await? {
        context.directory.list_changed(std::slice::from_ref(user));
        if has_receipts(context, &id).await? {
            tell(context, (id, user.clone()), position).await;
        }
    }
    Ok(Read {
        ok: true,
        room,
        epoch: position.epoch,
        up_to: position.seq,
        at,
    })
}

/// The place that a number means, at most the room's top.
async fn place(context: &Context, room: &RoomName, up_to: Seq) -> Result<Position, Problem> {
    let top = context.history.top(room).await?;
    if up_to >= top.seq || up_to.0 == 0 {
        return Ok(Position {
            seq: up_to.min(top.seq),
            ..top
        });
    }
    // A client gives the number alone; the epoch is that of the event which has it.
    let before = Position {
        epoch: Epoch(0),
        seq: Seq(up_to.0 - 1),
    };
    let everything = ShardPosition {
        epoch: Epoch(u64::MAX),
        shard_seq: ShardSeq(u64::MAX),
    };
    let range = context.timeline.range(room, before, everything, 1).await;
    let entry = range
        .ok()
        .and_then(|range| range.entries.into_iter().next());
    Ok(entry
        .map(|entry| entry.position())
        .filter(|position| position.seq == up_to)
        .unwrap_or(Position { seq: up_to, ..top }))
}

async fn has_receipts(context: &Context, id: &ConversationId) -> Result<bool, Problem> {
    if let Some(conversation) = context.directory.conversation(id).await? {
        return Ok(is_told(conversation.member_count));
    }
    // Its members are in their tokens only. Those who read are counted instead.
    let max = usize::try_from(MEMBERS_MAX).unwrap_or(usize::MAX);
    let readers = context.store.cursors(id, max + 1).await?;
    Ok(readers.len() <= max)
}

/// Tells the members, now or after the rest. The cursor has moved, so a log that does not take the
/// receipt is no reason to refuse: it is tried again.
async fn tell(context: &Arc<Context>, key: Key, position: Position) {
    let next = context.receipts.add(&key, position);
    if next == Next::Rests {
        return;
    }
    let told = publish(context, &key, position).await;
    if next == Next::TellOnly {
        return;
    }
    if told.is_err() {
        context.receipts.keep(&key, position);
    }
    let context = Arc::clone(context);
    // Tied to the worker's runtime, like the event that it ends; bounded by `RESTING_MAX`.
    drop(tokio::task::spawn_local(async move {
        rest(&context, &key).await;
    }));
}

/// Tells what came during each rest, until nothing came.
async fn rest(context: &Context, key: &Key) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(REST).await;
        let Some(position) = context.receipts.take(key) else {
            return;
        };
        match publish(context, key, position).await {
            Ok(()) => failures = 0,
            Err(_) if failures < TRIES => {
                failures += 1;
                context.receipts.keep(key, position);
            }
            Err(problem) => tracing::warn!(code = %problem.code, "a receipt was given up"),
        }
    }
}

async fn publish(context: &Context, key: &Key, position: Position) -> Result<(), Problem> {
    let row = context.row("message:read")?;
    let (id, user) = key;
    let receipt = Receipt {
        conversation_id: id,
        user_id: user,
        up_to: position.seq,
        up_to_epoch: position.epoch,
    };
    let envelope = Envelope {
        id: random_id(rand::random()),
        kind: row.kind.to_string(),
        user_id: user.clone(),
        conversation_id: Some(id.clone()),
        timestamp: now(),
        data: raw(&receipt)?,
    };
    queue(context, &row, envelope)?.accepted().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position {
            epoch: Epoch(1),
            seq: Seq(seq),
        }
    }

    #[test]
    fn the_last_place_of_a_rest_is_told_and_never_an_older_one() {
        let receipts = Receipts::default();
        let key = |user: &str| {
            let user = UserId::parse(user).unwrap();
            (ConversationId::parse("1").unwrap(), user)
        };
        let (ann, bob) = (key("ann"), key("bob"));
        assert_eq!(receipts.add(&ann, at(1)), Next::Tell);
        assert_eq!(
            receipts.add(&bob, at(9)),
            Next::Tell,
            "each has a rest of its own"
        );
        assert_eq!(receipts.add(&ann, at(5)), Next::Rests);
        assert_eq!(receipts.add(&ann, at(3)), Next::Rests);
        assert_eq!(receipts.take(&ann), Some(at(5)));
        assert_eq!(
            receipts.add(&ann, at(6)),
            Next::Rests,
            "the next rest has begun"
        );
        assert_eq!(receipts.take(&ann), Some(at(6)));
        receipts.keep(&ann, at(6));
        assert_eq!(receipts.take(&ann), Some(at(6)), "the log did not take it");
        assert_eq!(receipts.take(&ann), None);
        assert_eq!(receipts.add(&ann, at(7)), Next::Tell);
        assert_eq!(receipts.take(&bob), None);
    }
}
