//! Room → members, on one worker.
//!
//! Joining and leaving cost the same in a room of ten and of ten thousand: a member knows its seat in
//! each room's list. Empty rooms are forgotten at once. Nothing here is shared with other threads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::member::{Member, Seat};
use super::outbox::Outbox;
use crate::protocol::frame::Frame;
use crate::types::{CloseReason, RoomName, SocketId};

/// A namespace by its number in the server's table; `/` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NamespaceId(pub u16);

/// A room with at least one local member.
pub struct Room {
    name: RoomName,
    pub(super) members: RefCell<Vec<Rc<Member>>>,
}

impl Room {
    /// Its name.
    pub const fn name(&self) -> &RoomName {
        &self.name
    }
}

#[derive(Default)]
struct Namespace {
    rooms: HashMap<RoomName, Rc<Room>>,
    members: HashMap<SocketId, Rc<Member>>,
}

impl Namespace {
    fn knows(&self, member: &Rc<Member>) -> bool {
        let known = self.members.get(member.id().as_str());
        known.is_some_and(|known| Rc::ptr_eq(known, member))
    }
}

/// What the hub counted since it was last asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Broadcasts applied.
    pub broadcasts: u64,
    /// Frames put into outboxes by broadcasts.
    pub deliveries: u64,
    /// Volatile frames dropped because something was still waiting.
    pub dropped: u64,
    /// Outboxes that overflowed.
    pub overflows: u64,
}

/// So many dirty outboxes cost about a millisecond to drain, at 4 µs for a write.
const LONG: usize = 256;
/// How long a saturated worker gathers before it flushes again, in flushes: measured, twice the last
/// flush costs a third less CPU per delivery than a fixed 2 ms, at a higher rate and no higher
/// latency, because whoever makes the next wave has the core meanwhile.
const GATHER_FLUSHES: u32 = 2;
/// What the gathering can add to a saturated room's latency at most.
const GATHER_MAX: Duration = Duration::from_millis(10);
const GATHER_MIN: Duration = Duration::from_millis(1);
/// A worker that rested this long between two long flushes is not saturated.
const REST: Duration = Duration::from_micros(500);

/// All rooms and members of one worker.
pub struct Hub {
    namespaces: RefCell<Vec<Namespace>>,
    dirty: RefCell<Vec<Rc<Outbox>>>,
    flusher: Cell<Option<Waker>>,
    /// Numbers broadcasts, see [`Member`]'s mark.
    pub(super) serial: Cell<u64>,
    counts: Cell<Counts>,
}

impl Hub {
    /// A hub for `namespaces` namespaces.
    #[must_use]
    pub fn new(namespaces: usize) -> Rc<Self> {
        Rc::new(Self {
            namespaces: RefCell::new((0..namespaces).map(|_| Namespace::default()).collect()),
            dirty: RefCell::default(),
            flusher: Cell::new(None),
            serial: Cell::new(0),
            counts: Cell::default(),
        })
    }

    /// Makes a socket known, so that it can be found by its id and join rooms.
    pub fn add(&self, member: &Rc<Member>) {
        let mut namespaces = self.namespaces.borrow_mut();
        let index = usize::from(member.namespace().0);
        if namespaces.len() <= index {
            namespaces.resize_with(index + 1, Namespace::default);
        }
        namespaces[index]
            .members
            .insert(member.id().clone(), Rc::clone(member));
    }

    /// Takes a socket out of all its rooms and forgets it. Returns the rooms that became empty.
    pub fn remove(&self, member: &Rc<Member>) -> Vec<RoomName> {
        let mut emptied = Vec::new();
        for room in member.rooms() {
            if self.leave(member, room.as_str()) == Some(true) {
                emptied.push(room);
            }
        }
        self.with(member.namespace(), |namespace| {
            // Its id may be another's by now, who took its place.
            if namespace.knows(member) {
                namespace.members.remove(member.id().as_str());
            }
        });
        member.set_owner(None);
        emptied
    }

    /// Adds a member to a room. Returns true when it is the room's first here; nothing changes when
    /// it is in it already, or no longer known.
    pub fn join(&self, member: &Rc<Member>, name: &RoomName) -> bool {
        if member.is_in(name.as_str()) {
            return false;
        }
        self.with(member.namespace(), |namespace| {
            if !namespace.knows(member) {
                return false;
            }
            let (room, is_first) = match namespace.rooms.entry(name.clone()) {
                Entry::Occupied(entry) => (Rc::clone(entry.get()), false),
                Entry::Vacant(entry) => {
                    let room = Room {
                        name: name.clone(),
                        members: RefCell::default(),
                    };
                    (Rc::clone(entry.insert(Rc::new(room))), true)
                }
            };
            let index = room.members.borrow().len();
            room.members.borrow_mut().push(Rc::clone(member));
            member.seats.borrow_mut().push(Seat { room, index });
            is_first
        })
        .unwrap_or(false)
    }

    /// Takes a member out of a room. `None` when it was not in it, else whether the room is now
    /// empty here.
    pub fn leave(&self, member: &Rc<Member>, name: &str) -> Option<bool> {
        let seat = {
            let mut seats = member.seats.borrow_mut();
            let at = seats
                .iter()
                .position(|seat| seat.room.name.as_str() == name)?;
            seats.swap_remove(at)
        };
        let mut members = seat.room.members.borrow_mut();
        members.swap_remove(seat.index);
        if let Some(moved) = members.get(seat.index) {
            let mut seats = moved.seats.borrow_mut();
            if let Some(theirs) = seats.iter_mut().find(|s| Rc::ptr_eq(&s.room, &seat.room)) {
                theirs.index = seat.index;
            }
        }
        let is_empty = members.is_empty();
        if is_empty {
            self.with(member.namespace(), |namespace| namespace.rooms.remove(name));
        } else if members.capacity() > 64 && members.len() * 4 < members.capacity() {
            let kept = members.len() * 2;
            members.shrink_to(kept);
        }
        Some(is_empty)
    }

    /// A room with local members.
    pub fn room(&self, namespace: NamespaceId, name: &str) -> Option<Rc<Room>> {
        self.with(namespace, |namespace| namespace.rooms.get(name).cloned())?
    }

    /// A local socket by its id.
    pub fn member(&self, namespace: NamespaceId, id: &str) -> Option<Rc<Member>> {
        self.with(namespace, |namespace| namespace.members.get(id).cloned())?
    }

    /// All local sockets of a namespace.
    pub fn members(&self, namespace: NamespaceId) -> Vec<Rc<Member>> {
        self.with(namespace, |namespace| {
            namespace.members.values().cloned().collect()
        })
        .unwrap_or_default()
    }

    /// All rooms of a namespace with local members.
    pub fn rooms(&self, namespace: NamespaceId) -> Vec<RoomName> {
        self.with(namespace, |namespace| {
            namespace.rooms.keys().cloned().collect()
        })
        .unwrap_or_default()
    }

    /// Sends one frame to one outbox, in its place among everything it is sent.
    pub fn send(&self, outbox: &Rc<Outbox>, frame: Frame) {
        match outbox.push(frame) {
            Ok(true) => self.mark_dirty(outbox),
            Ok(false) => {}
            Err(_) => self.overflow(outbox),
        }
    }

    /// Sends a frame only if it would leave at once. Returns false when it was dropped.
    pub fn send_volatile(&self, outbox: &Rc<Outbox>, frame: Frame) -> bool {
        let is_writable = outbox.is_writable();
        if is_writable {
            self.send(outbox, frame);
        } else {
            self.count(|counts| counts.dropped += 1);
        }
        is_writable
    }

    /// Drains every outbox that got frames since the last turn; never returns.
    ///
    /// It is woken by the first frame of a turn of the event loop and so runs after the tasks that
    /// were ready with it: many events become one write for each socket. When long flushes follow
    /// each other without a rest it sleeps a little first: events that come in several waves, each
    /// of which finds the worker writing the one before, become one.
    pub async fn run_flusher(&self) {
        let mut ended = Instant::now();
        let mut gather = GATHER_MIN;
        loop {
            std::future::poll_fn(|context| {
                self.flusher.set(Some(context.waker().clone()));
                if self.dirty.borrow().is_empty() {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            let is_long = self.dirty.borrow().len() >= LONG;
            if is_long && ended.elapsed() < REST {
                tokio::time::sleep(gather).await;
            }
            let began = Instant::now();
            self.flush();
            if is_long {
                ended = Instant::now();
                gather = ((ended - began) * GATHER_FLUSHES).clamp(GATHER_MIN, GATHER_MAX);
            }
            // Whoever the flush woke goes first.
            tokio::task::yield_now().await;
        }
    }

    /// Drains every dirty outbox now.
    pub fn flush(&self) {
        let mut dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for outbox in dirty.drain(..) {
            outbox.flush();
        }
        let mut list = self.dirty.borrow_mut();
        if list.is_empty() {
            *list = dirty;
        }
    }

    /// How many rooms have local members, and how many memberships there are.
    pub fn sizes(&self) -> (usize, usize) {
        let namespaces = self.namespaces.borrow();
        let rooms = namespaces
            .iter()
            .flat_map(|namespace| namespace.rooms.values());
        rooms.fold((0, 0), |(n, members), room| {
            (n + 1, members + room.members.borrow().len())
        })
    }

    /// What was counted since the last call.
    pub fn take_counts(&self) -> Counts {
        self.counts.take()
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        add(&mut counts);
        self.counts.set(counts);
    }

    fn mark_dirty(&self, outbox: &Rc<Outbox>) {
        let mut dirty = self.dirty.borrow_mut();
        dirty.push(Rc::clone(outbox));
        if dirty.len() == 1
            && let Some(waker) = self.flusher.take()
        {
            waker.wake_by_ref();
            self.flusher.set(Some(waker));
        }
    }

    fn overflow(&self, outbox: &Rc<Outbox>) {
        self.count(|counts| counts.overflows += 1);
        outbox.close_link(CloseReason::SlowConsumer);
    }

    fn with<R>(&self, id: NamespaceId, act: impl FnOnce(&mut Namespace) -> R) -> Option<R> {
        self.namespaces
            .borrow_mut()
            .get_mut(usize::from(id.0))
            .map(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::outbox::Limits;

    const ROOT: NamespaceId = NamespaceId(0);

    fn member(hub: &Hub, number: usize) -> Rc<Member> {
        let outbox = Outbox::new(Limits {
            frames_max: 8,
            bytes_max: 10_000,
        });
        let id = SocketId::parse(&format!("socket-------------{number}")[..20]).unwrap();
        let member = Member::new(id, ROOT, outbox);
        hub.add(&member);
        member
    }

    fn name(text: &str) -> RoomName {
        RoomName::parse(text).unwrap()
    }

    #[test]
    fn seats_stay_right_whoever_leaves() {
        let hub = Hub::new(1);
        let members: Vec<_> = (0..5).map(|n| member(&hub, n)).collect();
        for (n, member) in members.iter().enumerate() {
            assert_eq!(hub.join(member, &name("a")), n == 0);
            hub.join(member, &name("b"));
        }
        assert!(
            !hub.join(&members[0], &name("a")),
            "joining twice changes nothing"
        );
        for n in [0, 3, 1] {
            assert_eq!(hub.leave(&members[n], "a"), Some(false));
            assert_eq!(hub.leave(&members[n], "a"), None);
            let room = hub.room(ROOT, "a").unwrap();
            for (index, other) in room.members.borrow().iter().enumerate() {
                let seats = other.seats.borrow();
                let seat = seats.iter().find(|s| Rc::ptr_eq(&s.room, &room)).unwrap();
                assert_eq!(seat.index, index);
            }
        }
        hub.leave(&members[2], "a");
        assert_eq!(hub.leave(&members[4], "a"), Some(true));
        assert!(hub.room(ROOT, "a").is_none(), "an empty room is forgotten");
        assert_eq!(hub.room(ROOT, "b").unwrap().members.borrow().len(), 5);
    }

    #[test]
    fn who_took_the_place_of_another_stays_when_that_one_ends() {
        let hub = Hub::new(1);
        let (old, new) = (member(&hub, 1), member(&hub, 2));
        hub.join(&old, &name("a"));
        let outbox = Rc::clone(new.outbox());
        let taker = Member::new(SocketId::parse(&"x".repeat(20)).unwrap(), ROOT, outbox);
        taker.resume(old.id().clone());
        hub.add(&taker);
        hub.join(&taker, &name("a"));
        assert!(!hub.join(&old, &name("b")), "it is over");
        hub.remove(&old);
        let known = hub.member(ROOT, old.id().as_str()).unwrap();
        assert!(Rc::ptr_eq(&known, &taker));
        assert_eq!(hub.room(ROOT, "a").unwrap().members.borrow().len(), 1);
    }

    #[test]
    fn a_removed_member_is_gone_everywhere() {
        let hub = Hub::new(1);
        let (one, two) = (member(&hub, 1), member(&hub, 2));
        hub.join(&one, &name("a"));
        hub.join(&one, &name("b"));
        hub.join(&two, &name("b"));
        assert_eq!(hub.remove(&one), [name("a")]);
        assert!(hub.member(ROOT, one.id().as_str()).is_none());
        assert!(
            !hub.join(&one, &name("a")),
            "joining after the end is no join"
        );
        assert!(hub.room(ROOT, "a").is_none());
    }
}
