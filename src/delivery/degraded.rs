//! What does not work: found out, and told to clients.
//!
//! Each dependency is asked a light question every second, more often while something is wrong. An answer that
//! does not come counts as a failure long before it is given up. What follows is this node's view, told to this
//! node's sockets, because what would carry it to others may be the very thing that is away.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::TIMELINE_TOPIC;
use crate::archive::Archive;
use crate::eventlog::EventLog;
use crate::lifecycle::Health;
use crate::lifecycle::health::{Trouble, Watched, What};
use crate::server::{Io, Json, Overloaded, Socket};
use crate::timeline::Timeline;
use crate::types::Timestamp;

/// What the node depends on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where events are stored first.
    pub log: EventLog,
    /// Where rooms get their order.
    pub timeline: Timeline,
    /// Where the past is.
    pub archive: Archive,
}

/// The event that clients are told by.
const EVENT: &str = "degraded";

/// What a client is told.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    trouble: Trouble,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// Asks each dependency for ever.
pub async fn watch(parts: Parts, health: Health) {
    let mut watches = JoinSet::new();
    let (log, dependency) = (parts.log, health.depend(What::Log, ""));
    watches.spawn(ask_on(dependency, move || {
        let log = log.clone();
        async move { log.probe(TIMELINE_TOPIC).await }
    }));
    let (archive, dependency) = (parts.archive, health.depend(What::Archive, ""));
    watches.spawn(ask_on(dependency, move || {
        let archive = archive.clone();
        async move { archive.probe().await }
    }));
    for (shard, name) in parts.timeline.shards() {
        let (timeline, dependency) = (parts.timeline.clone(), health.depend(What::Rooms, &name));
        watches.spawn(ask_on(dependency, move || {
            let timeline = timeline.clone();
            async move { timeline.probe(shard).await }
        }));
    }
    // None of them ends but by a panic, which is then this task's.
    if let Some(Err(ended)) = watches.join_next().await
        && let Ok(panic) = ended.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn ask_on<F, E>(dependency: Watched, ask: impl Fn() -> F)
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    loop {
        let began = (Instant::now(), now());
        let mut asked = pin!(ask());
        let answer = loop {
            match tokio::time::timeout(LATE, &mut asked).await {
                Ok(answer) => break answer,
                Err(_elapsed) => dependency.failed(began, "no answer"),
            }
        };
        match answer {
            Ok(()) => dependency.worked(),
            Err(error) => dependency.failed(began, &error.to_string()),
        }
        let is_fine = dependency.is_fine();
        tokio::time::sleep(if is_fine { ASK_EVERY } else { ASK_AGAIN }).await;
    }
}

/// Tells every socket of this node what changes, for ever.
pub async fn tell(io: Io, health: Health) {
    let mut changes = health.changes();
    let mut told: BTreeMap<What, Trouble> = BTreeMap::new();
    loop {
        if tell_changes(&io, &health, &mut told).is_err() {
            // A worker has a full queue: those of other workers may be told twice.
            tokio::time::sleep(ASK_AGAIN).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

fn tell_changes(
    io: &Io,
    health: &Health,
    told: &mut BTreeMap<What, Trouble>,
) -> Result<(), Overloaded> {
    let troubles: BTreeMap<What, Trouble> = health
        .troubles()
        .into_iter()
        .map(|trouble| (trouble.what, trouble))
        .collect();
    let over: Vec<Trouble> = told
        .values()
        .filter(|trouble| !troubles.contains_key(&trouble.what))
        .copied()
        .collect();
    for trouble in over {
        let until = Some(now());
        io.emit(EVENT, Json(Told { trouble, until }))?;
        told.remove(&trouble.what);
    }
    for (what, trouble) in troubles {
        if told.contains_key(&what) {
            continue;
        }
        let until = None;
        io.emit(EVENT, Json(Told { trouble, until }))?;
        told.insert(what, trouble);
    }
    Ok(())
}

/// Tells a socket that just came what does not work now. What ends or begins from here on it is told
/// like the others, because it can be found already.
pub fn tell_one(socket: &Socket, health: &Health) {
    for trouble in health.troubles() {
        let until = None;
        socket.emit(EVENT, Json(Told { trouble, until }));
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// How often is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The same, while something is wrong.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// When a missing answer counts as a failure.
const LATE: Duration = Duration::from_millis(500);
