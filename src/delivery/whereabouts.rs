//! In which room a message is that another node published a moment ago.
//!
//! Until the store has it only its publisher knows. Who saw it live may name it at once, by any node.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::internal::Peers;
use crate::delivery::history::Recent;
use crate::server::{Local, current};
use crate::types::{EventId, RoomName};

/// Where nodes ask each other.
pub const TARGET: &str = "/whereabouts";

/// How long the other nodes have. One that has just died does not hold anybody up for longer.
const WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    id: EventId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    room: Option<RoomName>,
}

/// The room to which one of the other nodes published a message lately. Asked on a worker; `None`
/// anywhere else, and where there is one node only.
pub async fn elsewhere(id: &EventId) -> Option<RoomName> {
    let peers = current(|local| local.part::<Peers>())??;
    let question = serde_json::to_vec(&Question { id: id.clone() }).ok()?;
    let gathered = peers.ask_all(TARGET, Bytes::from(question), WITHIN).await;
    let told = gathered.answers.iter();
    told.filter_map(|(_, answer)| serde_json::from_slice::<Told>(answer).ok())
        .find_map(|told| told.room)
}

/// What another node's question is answered; `None` when it cannot be read.
#[must_use]
pub fn answer(local: &Rc<Local>, question: &[u8]) -> Option<Bytes> {
    let question: Question = serde_json::from_slice(question).ok()?;
    let recent = local.part::<Recent>();
    let room = recent.and_then(|recent| recent.room(&question.id));
    serde_json::to_vec(&Told { room }).ok().map(Bytes::from)
}
