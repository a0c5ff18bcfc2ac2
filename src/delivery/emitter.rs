//! What emitters ask, done to the sockets of this node. Every node hears them all, so none tells another.
//!
//! Emitters are trusted as the owner of their Redis is: they reach every room. What they emit is kept
//! nowhere and has no place in a room.

use std::sync::Arc;

use crate::cluster::emitter::decode::{Command, Targets};
use crate::delivery::fanout::{Fanout, is_of_token};
use crate::rooms::Broadcast;
use crate::server::{Args, Emitter, Io, Overloaded};
use crate::types::RoomName;

/// Does it.
///
/// # Errors
/// [`Overloaded`] when a worker could not take it; the others did.
pub fn apply(io: &Io, command: Command) -> Result<(), Overloaded> {
    match command {
        Command::Event {
            to,
            event,
            json,
            attachments,
            is_volatile,
        } => {
            let mut emitter = reaching(io, &to);
            if is_volatile {
                emitter = emitter.volatile();
            }
            if !json.trim_end().ends_with('"') {
                return emitter.emit(&event, Args { json, attachments });
            }
            // Each worker shows a position of its own behind a text.
            emitter.each_worker(move |local, reach| {
                if let Some(fanout) = local.part::<Fanout>() {
                    local.hub().broadcast(&Broadcast {
                        reach: reach.clone(),
                        frame: fanout.frame_of(&event, &json, &attachments),
                        is_volatile,
                    });
                }
            })
        }
        Command::Join { who, rooms } => {
            let rooms = named(&rooms);
            reaching(io, &who).each_worker(move |local, reach| {
                if let Some(fanout) = local.part::<Fanout>() {
                    let members = local.hub().reached(reach);
                    for room in rooms.iter() {
                        fanout.put(&members, room);
                    }
                }
            })
        }
        Command::Leave { who, rooms } => {
            let rooms = named(&rooms);
            reaching(io, &who).each_worker(move |local, reach| {
                if let Some(fanout) = local.part::<Fanout>() {
                    let members = local.hub().reached(reach);
                    for room in rooms.iter() {
                        fanout.take_out(&members, room);
                    }
                }
            })
        }
        Command::Disconnect { who, close } => reaching(io, &who).disconnect_sockets(close),
    }
}

fn reaching(io: &Io, targets: &Targets) -> Emitter {
    let emitter = io.of("/");
    let emitter = targets.rooms.iter().fold(emitter, |to, room| to.to(room));
    let except = targets.except.iter();
    except.fold(emitter, |emitter, room| emitter.except(room))
}

/// Rooms that may be joined and left from outside: not those of tokens, by which logins are ended.
fn named(rooms: &[String]) -> Arc<[RoomName]> {
    let rooms = rooms.iter().filter_map(|room| RoomName::parse(room).ok());
    rooms.filter(|room| !is_of_token(room)).collect()
}
