//! What is kept of a socket, as its worker knows it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::{Place, Returns};
use crate::cluster::recovery::{Joined, Saved};
use crate::server::{Socket, random_token};
use crate::types::{PrivateId, RoomName, UserId};

/// What is kept of one socket.
pub(in crate::handlers) struct Kept {
    pub(super) id: PrivateId,
    pub(in crate::handlers) generation: u64,
    rooms: RefCell<BTreeMap<RoomName, Joined>>,
    /// Rooms of the first write.
    first: RefCell<Vec<RoomName>>,
    /// Its client knows its private id, and changes are written.
    pub(super) is_written: Cell<bool>,
    _place: Place,
}

impl Kept {
    /// Of a new socket; nothing is written yet. `None` when there are too many.
    pub(in crate::handlers) fn new(returns: &Returns) -> Option<Self> {
        Some(Self {
            id: PrivateId::parse(&random_token()).ok()?,
            generation: 1,
            rooms: RefCell::default(),
            first: RefCell::default(),
            is_written: Cell::new(false),
            _place: returns.place()?,
        })
    }

    /// Of a socket that was taken over.
    pub(super) fn taken(
        returns: &Returns,
        (id, generation): (PrivateId, u64),
        rooms: &[(RoomName, Joined)],
    ) -> Option<Self> {
        Some(Self {
            id,
            generation,
            rooms: RefCell::new(rooms.iter().cloned().collect()),
            first: RefCell::default(),
            is_written: Cell::new(true),
            _place: returns.place()?,
        })
    }

    /// Whether its client knows of it.
    pub(in crate::handlers) fn is_written(&self) -> bool {
        self.is_written.get()
    }

    /// Notes a join; false when it is in the room already.
    pub(super) fn note(&self, room: &RoomName, joined: Joined) -> bool {
        let mut rooms = self.rooms.borrow_mut();
        let is_new = !rooms.contains_key(room);
        if is_new {
            rooms.insert(room.clone(), joined);
        }
        is_new
    }

    /// Notes a leave; false when it was not in the room.
    pub(super) fn forget(&self, room: &RoomName) -> bool {
        self.rooms.borrow_mut().remove(room).is_some()
    }

    /// Everything, to be written.
    pub(super) fn saved(&self, socket: &Socket, user: &UserId) -> Saved {
        let rooms = self.rooms.borrow();
        if !self.is_written.get() {
            *self.first.borrow_mut() = rooms.keys().cloned().collect();
        }
        Saved {
            user: user.clone(),
            socket: socket.id().clone(),
            rooms: rooms
                .iter()
                .map(|(r, joined)| (r.clone(), *joined))
                .collect(),
        }
    }

    /// What was noted after the first write had begun; from now on as if it had not been, so that it can
    /// be noted again and written.
    pub(super) fn unwritten(&self) -> Vec<(RoomName, Joined)> {
        let first = self.first.take();
        let rooms = &mut *self.rooms.borrow_mut();
        rooms
            .extract_if(.., |room, _| first.binary_search(room).is_err())
            .collect()
    }
}
