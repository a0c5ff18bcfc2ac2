//! What sockets were, in this process.
//!
//! One lock, held for one look-up or one change. What ended is forgotten when its time is over: a few at each
//! call, so that no call does the work of many.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Joined, Owner, Saved, Taken, Written};
use crate::types::{PrivateId, RoomName, UserId};

/// The in-memory backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    window: Duration,
    count_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sockets: HashMap<PrivateId, Slot>,
    /// Those that ended, with when they may be forgotten, in that order.
    ended: VecDeque<(Instant, PrivateId, u64)>,
}

#[derive(Debug)]
struct Slot {
    generation: u64,
    saved: Saved,
    worker: Option<usize>,
    /// When it may not come back any more, since it ended.
    until: Option<Instant>,
}

/// Looked at per call; each call adds at most one.
const FORGOTTEN_AT_ONCE: usize = 4;

impl Memory {
    pub(super) fn new(window: Duration, count_max: usize) -> Self {
        Self(Arc::new(Inner {
            window,
            count_max,
            table: Mutex::default(),
        }))
    }

    pub(super) fn begin(
        &self,
        (id, generation): (&PrivateId, u64),
        saved: &Saved,
        worker: usize,
    ) -> Written {
        let mut table = self.table();
        match table.sockets.get(id) {
            Some(slot) if slot.generation > generation => return Written::TakenOver,
            None if table.sockets.len() >= self.0.count_max => return Written::Full,
            _ => {}
        }
        let slot = Slot {
            generation,
            saved: saved.clone(),
            worker: Some(worker),
            until: None,
        };
        table.sockets.insert(id.clone(), slot);
        Written::Kept
    }

    pub(super) fn change(
        &self,
        (id, generation): (&PrivateId, u64),
        room: &RoomName,
        joined: Option<Joined>,
    ) -> Written {
        let mut table = self.table();
        let Some(slot) = table.sockets.get_mut(id) else {
            return Written::Gone;
        };
        if slot.generation != generation {
            return Written::TakenOver;
        }
        slot.saved.rooms.retain(|(known, _)| known != room);
        if let Some(joined) = joined {
            slot.saved.rooms.push((room.clone(), joined));
        }
        Written::Kept
    }

    pub(super) fn take(&self, id: &PrivateId, user: &UserId, worker: usize) -> Taken {
        let mut table = self.table();
        let known = table.sockets.get_mut(id);
        let now = Instant::now();
        let is_there = |slot: &&mut Slot| {
            slot.saved.user == *user && slot.until.is_none_or(|until| until > now)
        };
        let Some(slot) = known.filter(is_there) else {
            return Taken::Unknown;
        };
        slot.generation += 1;
        slot.until = None;
        let before = slot.worker.replace(worker);
        Taken::Yes {
            generation: slot.generation,
            saved: slot.saved.clone(),
            before: before.map_or(Owner::Nobody, Owner::Here),
        }
    }

    pub(super) fn touch(&self, sockets: &[(PrivateId, u64)]) -> Vec<Result<Written, Error>> {
        let table = self.table();
        let written = |(id, generation): &(PrivateId, u64)| match table.sockets.get(id) {
            None => Written::Gone,
            Some(slot) if slot.generation == *generation => Written::Kept,
            Some(_) => Written::TakenOver,
        };
        sockets.iter().map(|socket| Ok(written(socket))).collect()
    }

    pub(super) fn end(&self, (id, generation): (&PrivateId, u64), is_over: bool) {
        let mut table = self.table();
        let Some(slot) = table.sockets.get_mut(id) else {
            return;
        };
        if slot.generation != generation {
            return;
        }
        slot.worker = None;
        if is_over {
            table.sockets.remove(id);
        } else {
            let until = Instant::now() + self.0.window;
            slot.until = Some(until);
            table.ended.push_back((until, id.clone(), generation));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(Instant::now());
        table
    }
}

impl Table {
    fn forget(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((_, id, generation)) = self.ended.pop_front_if(|(until, ..)| *until <= now)
            else {
                return;
            };
            let is_same = |slot: &Slot| slot.generation == generation && slot.worker.is_none();
            if self.sockets.get(&id).is_some_and(is_same) {
                self.sockets.remove(&id);
            }
        }
    }
}
