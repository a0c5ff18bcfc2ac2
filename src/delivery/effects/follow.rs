//! What follows from one record: read off its row, with the users it names looked up.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::change::{Change, What};
use super::{Parts, version};
use crate::delivery::backoff::Backoff;
use crate::delivery::route::Fault;
use crate::eventlog::Record;
use crate::events::{Catalogue, Each, Effect, Emit, Envelope, Row, Template, derive};
use crate::store;
use crate::types::{RoomName, Timestamp, UserId};

/// All that follows from a record.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Events, with their rows.
    pub(super) events: Vec<(Arc<Row>, Envelope)>,
    /// Changes of what is stored.
    pub(super) changes: Vec<Change>,
    /// What can never be done.
    pub(super) faults: Vec<Fault>,
}

/// Users who are told of one event, at most.
const RECIPIENTS_MAX: usize = crate::directory::MEMBERS_MAX;

/// Reads off what follows. Waits for a store that does not answer.
pub(super) async fn follow(
    parts: &Parts,
    derive_within: Duration,
    record: &Record,
) -> Result<Follow, store::Error> {
    let mut follow = Follow::default();
    // What cannot be read, or is of no known type, is put aside by the pump.
    let Ok(event) = Envelope::parse(&record.value) else {
        return Ok(follow);
    };
    let catalogue = Arc::clone(&parts.vocabulary.current());
    let Some(row) = catalogue.by_type(&event.kind) else {
        return Ok(follow);
    };
    for effect in &row.effects {
        match change(effect, &event, record) {
            Ok(change) => follow.changes.push(change),
            Err(message) => follow.faults.push(Fault {
                class: "effect",
                message,
                id: Some(event.id.clone()),
            }),
        }
    }
    if Timestamp::from(SystemTime::now()).since(record.at) > derive_within {
        return Ok(follow);
    }
    for emit in row.emits.iter().filter(|emit| emit.follows(&event)) {
        let target = target(&catalogue, emit);
        let Some(target) = target else { continue };
        let mut recipients = recipients(parts, emit, &event).await?;
        recipients.truncate(RECIPIENTS_MAX);
        let derived = recipients
            .iter()
            .map(|user| derive::envelope(&event, emit, user, event.timestamp));
        follow
            .events
            .extend(derived.map(|event| (Arc::clone(target), event)));
    }
    Ok(follow)
}

fn target<'a>(catalogue: &'a Catalogue, emit: &Emit) -> Option<&'a Arc<Row>> {
    let target = catalogue.by_type(&emit.kind);
    if target.is_none() {
        tracing::error!(kind = %emit.kind, "an event follows that the catalogue does not have");
    }
    target
}

async fn recipients(
    parts: &Parts,
    emit: &Emit,
    event: &Envelope,
) -> Result<Vec<UserId>, store::Error> {
    let mut backoff = Backoff::default();
    loop {
        match try_recipients(parts, emit, event).await {
            Err(error) if error.retry() => {
                tracing::warn!(%error, "who is to be told could not be read; trying again");
                backoff.wait().await;
            }
            outcome => return outcome,
        }
    }
}

async fn try_recipients(
    parts: &Parts,
    emit: &Emit,
    event: &Envelope,
) -> Result<Vec<UserId>, store::Error> {
    let Some(conversation) = &event.conversation_id else {
        return Ok(emit.each.named(event));
    };
    let directory = &parts.directory;
    match &emit.each {
        Each::Once | Each::Users(_) => Ok(emit.each.named(event)),
        Each::Members => {
            let members = directory.members(conversation).await?;
            Ok(others(&members, event))
        }
        Each::MembersAway => {
            let members = others(&*directory.members(conversation).await?, event);
            if members.is_empty() {
                return Ok(members);
            }
            let states = parts.presence.states(&members).await.into_iter();
            let away = states.filter(|state| !state.is_online);
            Ok(away.map(|state| state.user).collect())
        }
        Each::Mentions => {
            let mut mentioned = Vec::new();
            for user in others(&derive::mentions(event), event) {
                if directory.role(conversation, &user).await?.is_some() {
                    mentioned.push(user);
                }
            }
            Ok(mentioned)
        }
    }
}

/// Without the one whose event it is.
fn others(users: &[UserId], event: &Envelope) -> Vec<UserId> {
    let others = users.iter().filter(|user| **user != event.user_id);
    others.cloned().collect()
}

fn change(effect: &Effect, event: &Envelope, record: &Record) -> Result<Change, String> {
    let fill = |template: &Template| template.fill(event).map_err(|error| error.to_string());
    let about =
        |kind: &Arc<str>, id: &Template| Ok::<_, String>((Arc::clone(kind), record_id(fill(id)?)?));
    let membership = |room: &Template, user: &Template| {
        let room = RoomName::parse(&fill(room)?).map_err(|error| error.to_string())?;
        let user = UserId::parse(&fill(user)?).map_err(|error| error.to_string())?;
        Ok::<_, String>((room, user))
    };
    let what = match effect {
        Effect::Upsert { kind, id, .. } => {
            let (kind, id) = about(kind, id)?;
            let data = event.data.clone();
            if !data.get().starts_with('{') {
                return Err("the data is not an object, so it makes no record".to_owned());
            }
            What::Upsert { kind, id, data }
        }
        Effect::Delete { kind, id } => {
            let (kind, id) = about(kind, id)?;
            What::Delete { kind, id }
        }
        Effect::Invalidate { kind, id } => {
            let (kind, id) = about(kind, id)?;
            What::Invalidate { kind, id }
        }
        Effect::Join { room, user } => {
            let (room, user) = membership(room, user)?;
            What::Join { room, user }
        }
        Effect::Leave { room, user } => {
            let (room, user) = membership(room, user)?;
            What::Leave { room, user }
        }
    };
    Ok(Change {
        what,
        version: version(record.at, record.offset),
        at: record.at,
    })
}

/// What can be asked for by its path.
fn record_id(id: String) -> Result<String, String> {
    if id.is_empty() || id.len() > RECORD_ID_BYTES_MAX {
        return Err(format!(
            "the record's id is {} bytes, allowed are 1 to {RECORD_ID_BYTES_MAX}",
            id.len()
        ));
    }
    match id.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("the record's id holds the character {c:?}")),
        None => Ok(id),
    }
}

const RECORD_ID_BYTES_MAX: usize = 128;
