//! A socket as the rooms see it.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use super::hub::{NamespaceId, Room};
use super::outbox::Outbox;
use crate::types::SocketId;

/// One socket on this worker: its id, its outbox and the rooms it is in.
///
/// Sockets of several namespaces may share one outbox, since they share one transport.
pub struct Member {
    id: SocketId,
    /// The id of the socket whose place it took.
    resumed: OnceCell<SocketId>,
    namespace: NamespaceId,
    outbox: Rc<Outbox>,
    /// The rooms it is in and where in each; kept in step by the hub.
    pub(super) seats: RefCell<Vec<Seat>>,
    /// The number of the last broadcast that looked at this member: one in several of the target
    /// rooms is sent the frame once.
    pub(super) mark: Cell<u64>,
    owner: RefCell<Option<Rc<dyn Any>>>,
}

/// A place in a room's list of members.
pub(super) struct Seat {
    pub(super) room: Rc<Room>,
    pub(super) index: usize,
}

impl Member {
    /// A member of no room.
    #[must_use]
    pub fn new(id: SocketId, namespace: NamespaceId, outbox: Rc<Outbox>) -> Rc<Self> {
        Rc::new(Self {
            id,
            resumed: OnceCell::new(),
            namespace,
            outbox,
            seats: RefCell::default(),
            mark: Cell::new(0),
            owner: RefCell::new(None),
        })
    }

    /// The socket's id.
    pub fn id(&self) -> &SocketId {
        self.resumed.get().unwrap_or(&self.id)
    }

    /// Gives it the id of the socket whose place it takes; before the hub knows it, and once.
    pub fn resume(&self, id: SocketId) {
        self.resumed.get_or_init(|| id);
    }

    /// The namespace the socket is in.
    pub const fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// Where its frames go.
    pub const fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    /// The rooms it is in.
    pub fn rooms(&self) -> Vec<crate::types::RoomName> {
        self.seats
            .borrow()
            .iter()
            .map(|seat| seat.room.name().clone())
            .collect()
    }

    /// How many of its rooms these are.
    pub fn count_rooms(&self, counts: impl Fn(&crate::types::RoomName) -> bool) -> usize {
        let seats = self.seats.borrow();
        seats.iter().filter(|seat| counts(seat.room.name())).count()
    }

    /// True when it is in the room.
    pub fn is_in(&self, room: &str) -> bool {
        self.seats
            .borrow()
            .iter()
            .any(|seat| seat.room.name().as_str() == room)
    }

    /// Ties the member to the socket it stands for.
    pub fn set_owner(&self, owner: Option<Rc<dyn Any>>) {
        *self.owner.borrow_mut() = owner;
    }

    /// The socket it stands for.
    pub fn owner<T: 'static>(&self) -> Option<Rc<T>> {
        self.owner.borrow().clone()?.downcast().ok()
    }
}
