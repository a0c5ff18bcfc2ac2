//! Rooms whose shard changes with the ring.
//!
//! A worker takes each shard through a stream of its own, so two streams meet in a room that moves. What
//! the new shard brings is held until everything that the old one published has passed: the old shard is
//! made to refuse further entries (the fence), and a tick through its stream marks the end. Then the room is
//! the new shard's, which is repaired like after an interruption: what was missed is read from the timeline,
//! then what was held goes on. A worker that hears from the new shard before it knows of the change does the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Fanout;
use super::repair::{job, start};
use crate::delivery::backoff::Backoff;
use crate::types::{RoomName, ShardId};

/// How often is looked whether the ring is another one.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the ring may take to explain what was heard.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// No ring has this version: whoever looks next looks at every room.
const UNKNOWN: u64 = u64::MAX;
/// How long the end of the old stream may take before it is asked for again.
const PASSED_WITHIN: Duration = Duration::from_secs(10);

impl Fanout {
    /// Hears rooms where the ring says that they are, and where they may still be.
    pub(super) fn follow_ring(&self) {
        let version = self.timeline.ring_version();
        if self.ring_version.replace(version) == version {
            return;
        }
        let mut subscribed = self.subscribed.borrow_mut();
        for (room, heard) in subscribed.iter_mut() {
            let mut wanted = self.timeline.places(room);
            let tracked = self.tracks.borrow().get(room).map(|track| track.shard);
            wanted.extend(tracked.filter(|shard| !wanted.contains(shard)));
            for shard in wanted.iter().filter(|shard| !heard.contains(shard)) {
                self.port.subscribe_on(*shard, room);
            }
            for shard in heard.iter().filter(|shard| !wanted.contains(shard)) {
                self.port.unsubscribe_on(*shard, room);
            }
            *heard = wanted;
        }
        drop(subscribed);
        self.switch();
    }

    /// Hears a room, if it does not yet.
    pub(super) fn hear(&self, room: &RoomName) {
        let mut subscribed = self.subscribed.borrow_mut();
        if subscribed.contains_key(room) {
            return;
        }
        let places = self.timeline.places(room);
        for shard in &places {
            self.port.subscribe_on(*shard, room);
        }
        subscribed.insert(room.clone(), places);
    }

    /// A shard has a room that is heard on another one here.
    pub(super) fn came_to(&self, shard: ShardId, room: &RoomName) {
        self.hold_new(shard);
        self.early.borrow_mut().insert(room.clone(), Instant::now());
        self.switch();
    }

    /// Goes over to the new shards, if rooms have moved and nobody does it.
    fn switch(&self) {
        let Some(me) = self.me.upgrade().filter(|me| !me.is_switching.get()) else {
            return;
        };
        if self.moving().is_empty() && self.early.borrow().is_empty() {
            return;
        }
        self.is_switching.set(true);
        // Ends when all have gone over, or with the worker.
        drop(tokio::task::spawn_local(async move {
            me.go_over().await;
            me.is_switching.set(false);
        }));
    }

    /// The rooms that are heard on another shard than the ring's, by that shard.
    fn moving(&self) -> BTreeMap<ShardId, Vec<(RoomName, ShardId)>> {
        let mut moving: BTreeMap<ShardId, Vec<(RoomName, ShardId)>> = BTreeMap::new();
        for (room, track) in self.tracks.borrow().iter() {
            let place = self.timeline.shard_of(room);
            if place != track.shard {
                let from = moving.entry(track.shard).or_default();
                from.push((room.clone(), place));
            }
        }
        moving
    }

    async fn go_over(&self) {
        loop {
            let moving = self.moving();
            let is_over = {
                // Those that the ring has explained by now are among the moving.
                let mut early = self.early.borrow_mut();
                let tracks = self.tracks.borrow();
                early.retain(|room, since| {
                    let track = tracks.get(room);
                    since.elapsed() < EXPLAINED_WITHIN
                        && track.is_some_and(|track| self.timeline.shard_of(room) == track.shard)
                });
                moving.is_empty() && early.is_empty()
            };
            if is_over {
                break;
            }
            if moving.is_empty() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let targets: BTreeSet<ShardId> = moving.values().flatten().map(|(_, to)| *to).collect();
            for shard in &targets {
                self.hold_new(*shard);
            }
            for (from, rooms) in moving {
                // A plan moves rooms to shards that lose none; with two plans at once nothing can wait for
                // the other, and what was heard twice would be shown twice.
                let is_tangled = targets.contains(&from);
                if !is_tangled && !self.passed(from).await {
                    return;
                }
                self.hand_over(from, rooms, is_tangled).await;
            }
        }
        let held: Vec<ShardId> = {
            let mut repairs = self.repairs.borrow_mut();
            let held = repairs.iter_mut().filter(|(_, repair)| repair.is_switching);
            held.map(|(shard, repair)| {
                repair.is_switching = false;
                *shard
            })
            .collect()
        };
        for shard in held {
            self.begin_repair(shard);
        }
        // The old shards need not be heard any more.
        self.ring_version.set(UNKNOWN);
    }

    /// Everything that a shard published of rooms that have left it has been taken. False when the stream
    /// is over.
    async fn passed(&self, shard: ShardId) -> bool {
        let mut backoff = Backoff::default();
        while let Err(error) = self.timeline.fence(shard).await {
            if backoff.is_fresh() {
                tracing::warn!(%shard, %error, "rooms cannot leave a shard yet; trying again");
            }
            backoff.wait().await;
        }
        loop {
            let (reply, passed) = oneshot::channel();
            let token = self.token();
            self.passing.borrow_mut().insert(token, reply);
            self.port.tick(shard, token);
            match tokio::time::timeout(PASSED_WITHIN, passed).await {
                Ok(passed) => return passed.is_ok(),
                Err(_) => drop(self.passing.borrow_mut().remove(&token)),
            }
        }
    }

    async fn hand_over(&self, from: ShardId, rooms: Vec<(RoomName, ShardId)>, is_tangled: bool) {
        for (room, to) in rooms {
            let job = self
                .tracks
                .borrow()
                .get(&room)
                .map(|track| job(&room, track));
            let Some(job) = job else { continue };
            if job.last.is_none() && !is_tangled {
                // Its next entry is judged by the one before it: by a place of the old shard.
                let mut backoff = Backoff::default();
                let found = loop {
                    match start(&self.timeline, &job).await {
                        Ok(found) => break found,
                        Err(error) if backoff.is_fresh() => {
                            tracing::warn!(shard = %to, %error, "where rooms of a shard begin cannot be read yet; trying again");
                        }
                        Err(_) => {}
                    }
                    backoff.wait().await;
                };
                if let Some(top) = found
                    && let Some(track) = self.tracks.borrow_mut().get_mut(&room)
                {
                    track.found(job.base, top);
                }
            }
            let is_known = {
                let mut tracks = self.tracks.borrow_mut();
                let Some(track) = tracks.get_mut(&room).filter(|track| track.shard == from) else {
                    continue;
                };
                track.shard = to;
                track.last().is_some() && !is_tangled
            };
            if !is_known {
                self.reload(&room, self.position(to));
            }
        }
    }

    /// Holds what a shard brings until rooms have come over to it.
    fn hold_new(&self, shard: ShardId) {
        let mut repairs = self.repairs.borrow_mut();
        let repair = repairs.entry(shard).or_default();
        repair.is_switching = true;
    }
}
