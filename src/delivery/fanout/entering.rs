//! A socket into many rooms in one step of the worker.
//!
//! What a client that comes back has missed is known only if one moment separates that from what it is shown
//! live, for all shards at once: the position that its frames carry must never go back. So its rooms are
//! subscribed and each of their shards is asked for a tick; when all ticks have passed, the socket is
//! added to every room at the worker's position of that moment.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::Fanout;
use crate::rooms::Hold;
use crate::server::Socket;
use crate::timeline::Vector;
use crate::types::{RoomName, ShardId};

/// A socket is in its rooms from `at` on; what it is sent waits until `hold` is released.
pub struct Entered {
    /// The worker's place in every shard at that moment.
    pub at: Vector,
    /// Keeps live events behind what the socket missed.
    pub hold: Hold,
}

/// Who waits for ticks.
#[derive(Default)]
pub(super) struct Entering {
    ticks: RefCell<HashMap<u64, oneshot::Sender<()>>>,
    /// How many wait for each room.
    rooms: RefCell<HashMap<RoomName, usize>>,
}

impl Entering {
    /// A tick has passed; false when nobody here waits for it.
    pub(super) fn passed(&self, token: u64) -> bool {
        let waiting = self.ticks.borrow_mut().remove(&token);
        // Who gave up has dropped its end.
        waiting.map(|waiting| waiting.send(())).is_some()
    }

    pub(super) fn wants(&self, room: &RoomName) -> bool {
        self.rooms.borrow().contains_key(room)
    }
}

/// Keeps rooms subscribed that nobody is in yet.
struct Wanting<'a> {
    entering: &'a Entering,
    rooms: &'a [RoomName],
}

impl<'a> Wanting<'a> {
    fn new(entering: &'a Entering, rooms: &'a [RoomName]) -> Self {
        let mut wanted = entering.rooms.borrow_mut();
        for room in rooms {
            *wanted.entry(room.clone()).or_default() += 1;
        }
        drop(wanted);
        Self { entering, rooms }
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut wanted = self.entering.rooms.borrow_mut();
        for room in self.rooms {
            if let Some(count) = wanted.get_mut(room) {
                *count -= 1;
                if *count == 0 {
                    wanted.remove(room);
                }
            }
        }
    }
}

impl Fanout {
    /// Adds a socket to rooms, all at one moment. `admit` makes the socket known in that moment, or says
    /// that it is over.
    ///
    /// `None` when it is, or when a room has moved to another shard meanwhile. A dropped future adds
    /// nobody; it does not end while a shard is away.
    pub async fn enter(
        &self,
        socket: &Socket,
        rooms: &[RoomName],
        admit: impl FnOnce(&Socket) -> bool,
    ) -> Option<Entered> {
        let _wanting = Wanting::new(&self.entering, rooms);
        for room in rooms {
            self.hear(room);
        }
        let shards = |rooms: &[RoomName]| -> Vec<ShardId> {
            rooms
                .iter()
                .map(|room| self.timeline.shard_of(room))
                .collect()
        };
        let before = shards(rooms);
        let asked: BTreeSet<ShardId> = before.iter().copied().collect();
        let ticks = asked.into_iter().map(|shard| {
            let (passed, tick) = oneshot::channel();
            let token = self.token();
            self.entering.ticks.borrow_mut().insert(token, passed);
            self.port.tick(shard, token);
            tick
        });
        if join_all(ticks).await.iter().any(Result::is_err) {
            return None;
        }
        // From here to the end nothing else runs on this worker.
        let is_heard_there = |(room, shard): (&RoomName, &ShardId)| {
            let tracks = self.tracks.borrow();
            tracks.get(room).is_none_or(|track| track.shard == *shard)
        };
        let is_moving = shards(rooms) != before || !rooms.iter().zip(&before).all(is_heard_there);
        if is_moving || !admit(socket) {
            return None;
        }
        let at = self.vector();
        let hold = socket.hold();
        for (room, shard) in rooms.iter().zip(before) {
            let place = at.at(shard).unwrap_or_default();
            self.follow(room, socket.id(), (shard, place));
            socket.join(room);
        }
        Some(Entered { at, hold })
    }
}
