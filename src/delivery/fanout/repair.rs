//! What to do when entries may be missing.
//!
//! A bus over a network may lose entries; it says so, or the next entry of a room shows it. From then on
//! everything of that shard is *held*. A tick says where the shard stands; every local room of it is read
//! from the timeline up to there, what was missed is merged by its place in the shard and shown in that
//! order, then what was held and is newer, and the shard goes on. So the worker's position never runs
//! ahead of what its sockets were shown. Other shards do not wait.
//!
//! What the timeline cannot complete (trimmed, or an order that was lost with the shard's last writes)
//! is not guessed: the transports of that room's members are closed, and the clients resume or reload.
//!
//! Rooms in which nothing comes are compared with their tops now and then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::rooms::Track;
use super::{DELIVERIES_PER_TURN, Fanout};
use crate::cluster::bus::{Delivery, Publication};
use crate::lifecycle::mutation::{self, Mutation};
use crate::telemetry::metrics;
use crate::timeline::{Entry, Error, Timeline};
use crate::types::{Epoch, Position, RoomName, Seq, ShardId, ShardPosition};

/// A shard of which everything is held.
#[derive(Debug, Default)]
pub(super) struct Repair {
    held: VecDeque<Delivery>,
    /// How many of these are not ticks.
    count: usize,
    /// The tick up to which this repair reads has passed.
    is_placed: bool,
    /// Something was lost after that.
    again: bool,
    /// Rooms come over to this shard: what it brings waits for them.
    pub(super) is_switching: bool,
    /// Somebody repairs.
    is_begun: bool,
}

/// Deliveries of one shard held during a repair; beyond them they are dropped and repaired again.
const HELD_MAX: usize = 8_192;
/// Entries read in one repair; rooms that would need more are told to reload.
const READ_MAX: usize = 65_536;
/// Entries of one answer.
const PAGE: usize = 256;
/// Rooms read at once.
const READS: usize = 16;
/// Rooms whose tops are asked for at once.
const TOPS: usize = 500;
/// How long a tick may take before it is asked again.
const TICK_WITHIN: Duration = Duration::from_secs(10);
/// How often a repair looks whether rooms have come over.
const SWITCHED: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A room that is to be read.
pub(super) struct Job {
    pub(super) room: RoomName,
    shard: ShardId,
    pub(super) base: ShardPosition,
    pub(super) last: Option<Position>,
    /// From where to compare with what was shown, when the order was lost.
    before_shown: Option<Seq>,
}

/// What was missed in a room.
struct Found {
    room: RoomName,
    base: ShardPosition,
    /// The place from which it was read.
    from: Option<Position>,
    /// `None` when it cannot be brought back.
    entries: Option<Vec<Arc<Entry>>>,
}

impl Fanout {
    /// Puts a delivery of a shard that is being repaired aside; gives any other back.
    pub(super) fn held_back(&self, delivery: Delivery) -> Option<Delivery> {
        let mut repairs = self.repairs.borrow_mut();
        if repairs.is_empty() {
            return Some(delivery);
        }
        let shard = match &delivery {
            Delivery::Entry(entry) => entry.shard,
            Delivery::Ephemeral(event) => self.timeline.shard_of(&event.room),
            Delivery::Tick { shard, .. } => *shard,
            Delivery::Interrupted { .. } | Delivery::Control(_) => return Some(delivery),
        };
        let Some(repair) = repairs.get_mut(&shard) else {
            return Some(delivery);
        };
        if !matches!(delivery, Delivery::Tick { .. }) {
            if repair.count == HELD_MAX {
                // As after an interruption here. Joins still wait for the end of the repair.
                repair
                    .held
                    .retain(|held| matches!(held, Delivery::Tick { .. }));
                (repair.count, repair.again) = (0, true);
            }
            repair.count += 1;
        }
        repair.held.push_back(delivery);
        None
    }

    /// Entries of this shard may be missing from here on.
    pub(super) fn interrupted(&self, shard: ShardId) {
        if mutation::is_on(Mutation::RepairOff) {
            return;
        }
        if let Some(repair) = self.repairs.borrow_mut().get_mut(&shard) {
            // The tick of a repair that waits for one comes behind this, and so does a repair that has not
            // begun.
            repair.again |= repair.is_placed;
            return;
        }
        let has_rooms = self
            .tracks
            .borrow()
            .values()
            .any(|track| track.shard == shard);
        if has_rooms {
            self.begin_repair(shard);
        }
    }

    /// Repairs a shard, unless somebody does.
    pub(super) fn begin_repair(&self, shard: ShardId) {
        let Some(me) = self.me.upgrade() else {
            return;
        };
        {
            let mut repairs = self.repairs.borrow_mut();
            let repair = repairs.entry(shard).or_default();
            if repair.is_begun {
                repair.again = true;
                return;
            }
            repair.is_begun = true;
        }
        // Ends with the repair, or with the worker.
        drop(tokio::task::spawn_local(
            async move { me.repair(shard).await },
        ));
    }

    async fn repair(&self, shard: ShardId) {
        let mut pause = FIRST_PAUSE;
        loop {
            while self.is_switching_to(shard) {
                tokio::time::sleep(SWITCHED).await;
            }
            self.with_repair(shard, |repair| {
                (repair.is_placed, repair.again) = (false, false)
            });
            let Some(at) = self.tick(shard).await else {
                self.repairs.borrow_mut().remove(&shard);
                return;
            };
            match self.read(shard, at).await {
                Ok(found) => {
                    self.bring(found, at).await;
                    self.advance(shard, at);
                    if self.release(shard).await {
                        return;
                    }
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    tracing::warn!(%shard, %error, "what was missed cannot be read yet");
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn is_switching_to(&self, shard: ShardId) -> bool {
        let repairs = self.repairs.borrow();
        repairs
            .get(&shard)
            .is_some_and(|repair| repair.is_switching)
    }

    /// Where the shard stands, in its place in the stream. `None` when the stream is over.
    async fn tick(&self, shard: ShardId) -> Option<ShardPosition> {
        loop {
            let (reply, answer) = oneshot::channel();
            let token = self.token();
            self.asked.borrow_mut().as_mut()?.insert(token, reply);
            self.port.tick(shard, token);
            let answer = tokio::time::timeout(TICK_WITHIN, answer).await;
            match answer {
                Ok(answer) => return answer.ok(),
                Err(_) => {
                    if let Some(asked) = self.asked.borrow_mut().as_mut() {
                        asked.remove(&token);
                    }
                }
            }
        }
    }

    /// A tick that was asked for here; false for any other.
    pub(super) fn answered(&self, shard: ShardId, at: ShardPosition, token: u64) -> bool {
        let reply = self
            .asked
            .borrow_mut()
            .as_mut()
            .and_then(|asked| asked.remove(&token));
        let Some(reply) = reply else { return false };
        self.with_repair(shard, |repair| repair.is_placed = true);
        if reply.send(at).is_err() {
            tracing::debug!(%shard, "nobody waits for a tick any more");
        }
        true
    }

    fn with_repair(&self, shard: ShardId, act: impl FnOnce(&mut Repair)) {
        if let Some(repair) = self.repairs.borrow_mut().get_mut(&shard) {
            act(repair);
        }
    }

    /// What the local rooms of a shard missed up to `at`.
    async fn read(&self, shard: ShardId, at: ShardPosition) -> Result<Vec<Found>, Error> {
        let jobs = self.jobs(shard);
        let mut behind = Vec::new();
        for chunk in jobs.chunks(TOPS) {
            let rooms: Vec<RoomName> = chunk.iter().map(|job| job.room.clone()).collect();
            let tops = self.timeline.tops(shard, &rooms).await?;
            behind.extend(
                chunk
                    .iter()
                    .zip(tops)
                    .filter(|(job, top)| job.last != Some(*top)),
            );
        }
        let timeline = &self.timeline;
        let mut reads = futures_util::stream::iter(behind)
            .map(|(job, _)| found(timeline, job, at))
            .buffer_unordered(READS);
        let (mut all, mut count) = (Vec::new(), 0);
        while let Some(found) = reads.next().await {
            let mut found = found?;
            count += found.entries.as_ref().map_or(0, Vec::len);
            if count > READ_MAX {
                found.entries = None;
            }
            all.push(found);
        }
        Ok(all)
    }

    fn jobs(&self, shard: ShardId) -> Vec<Job> {
        let tracks = self.tracks.borrow();
        let of_shard = tracks.iter().filter(|(_, track)| track.shard == shard);
        of_shard.map(|(room, track)| job(room, track)).collect()
    }

    /// Shows what was found, merged by its place in the shard.
    async fn bring(&self, found: Vec<Found>, at: ShardPosition) {
        let mut missed: Vec<Arc<Entry>> = Vec::new();
        for Found {
            room,
            base,
            from,
            entries,
        } in found
        {
            let Some(entries) = entries else {
                self.reload(&room, at);
                continue;
            };
            if let Some(track) = self.tracks.borrow_mut().get_mut(&room)
                && let Some(from) = from
            {
                track.found(base, from);
            }
            if !entries.is_empty() {
                metrics::BUS_GAPS.add(1);
            }
            missed.extend(entries);
        }
        missed.sort_by_key(|entry| entry.shard_position());
        for (n, entry) in missed.into_iter().enumerate() {
            if n % DELIVERIES_PER_TURN == DELIVERIES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let room = entry.room.clone();
            if !self.show_next(&publication(&entry)) {
                self.reload(&room, at);
            }
        }
    }

    /// Lets go what was held. False when another repair has to come first.
    async fn release(&self, shard: ShardId) -> bool {
        let mut in_turn = 0;
        loop {
            let delivery = {
                let mut repairs = self.repairs.borrow_mut();
                let Some(repair) = repairs.get_mut(&shard) else {
                    return true;
                };
                if repair.again || repair.is_switching {
                    return false;
                }
                let delivery = repair.held.pop_front();
                match &delivery {
                    None => {
                        repairs.remove(&shard);
                        return true;
                    }
                    Some(Delivery::Tick { .. }) => {}
                    Some(_) => repair.count -= 1,
                }
                delivery
            };
            if let Some(delivery) = delivery {
                self.pass(delivery);
            }
            in_turn += 1;
            if in_turn == DELIVERIES_PER_TURN {
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Asks what comes next in rooms that are new here: until that is known, a loss before their first
    /// entry would not be seen.
    pub(super) fn find_starts(&self) {
        let Some(me) = self.me.upgrade().filter(|me| !me.is_finding.get()) else {
            return;
        };
        self.is_finding.set(true);
        // Ends when all are found or one cannot be read; the next check goes on.
        drop(tokio::task::spawn_local(async move {
            loop {
                let rooms = me.unknown.take();
                let jobs: Vec<Job> = {
                    let tracks = me.tracks.borrow();
                    let known = |room: RoomName| tracks.get(&room).map(|track| job(&room, track));
                    rooms.into_iter().filter_map(known).collect()
                };
                if jobs.is_empty() || me.find(jobs.into_iter()).await.is_err() {
                    break;
                }
            }
            me.is_finding.set(false);
        }));
    }

    async fn find(&self, jobs: impl Iterator<Item = Job>) -> Result<(), Error> {
        let timeline = &self.timeline;
        let mut starts = futures_util::stream::iter(jobs.filter(|job| job.last.is_none()))
            .map(|job| async move { (start(timeline, &job).await, job) })
            .buffer_unordered(READS);
        while let Some((start, Job { room, base, .. })) = starts.next().await {
            if let Some(start) = start?
                && let Some(track) = self.tracks.borrow_mut().get_mut(&room)
            {
                track.found(base, start);
            }
        }
        Ok(())
    }

    /// Compares rooms with their tops, so that what was lost without a word is found though nothing
    /// comes after it.
    pub(super) async fn check(&self) {
        let mut shards: Vec<ShardId> = self.tracks.borrow().values().map(|t| t.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            if let Err(error) = self.check_shard(shard).await {
                tracing::debug!(%shard, %error, "rooms cannot be compared with their tops");
            }
        }
    }

    async fn check_shard(&self, shard: ShardId) -> Result<(), Error> {
        let jobs = self.jobs(shard);
        let mut tops = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunks(TOPS) {
            let rooms: Vec<RoomName> = chunk.iter().map(|job| job.room.clone()).collect();
            let read = self.timeline.tops(shard, &rooms).await?;
            tops.extend(rooms.into_iter().zip(read));
        }
        self.find(jobs.into_iter()).await?;
        // What was published before the tops were read has come when this has.
        if self.tick(shard).await.is_none() || self.repairs.borrow().contains_key(&shard) {
            return Ok(());
        }
        let is_behind = |(room, top): &(RoomName, Position)| {
            let tracks = self.tracks.borrow();
            let last = tracks.get(room).and_then(|track| track.last());
            top.seq > Seq(0) && last.is_some_and(|last| last < *top)
        };
        if tops.iter().any(is_behind) {
            tracing::warn!(%shard, "entries were lost without a word");
            self.interrupted(shard);
        }
        Ok(())
    }
}

pub(super) fn job(room: &RoomName, track: &Track) -> Job {
    Job {
        room: room.clone(),
        shard: track.shard,
        base: track.base(),
        last: track.last(),
        before_shown: track.before_shown(),
    }
}

/// The room's top at the place from which the worker hears it; `None` when that is not known any more.
pub(super) async fn start(timeline: &Timeline, job: &Job) -> Result<Option<Position>, Error> {
    let range = timeline
        .range_on(&job.room, Position::default(), (job.shard, job.base), 0)
        .await?;
    // What was written on another shard was here before anything else.
    let trimmed = range.trimmed.filter(|trimmed| trimmed.home == job.shard);
    let trimmed = trimmed.and_then(|trimmed| trimmed.shard);
    let is_kept = trimmed.is_none_or(|trimmed| trimmed <= job.base);
    Ok(is_kept.then_some(range.top))
}

/// What came in a room after its last entry here, up to `at`.
async fn found(timeline: &Timeline, job: &Job, at: ShardPosition) -> Result<Found, Error> {
    let found = |from, entries| Found {
        room: job.room.clone(),
        base: job.base,
        from,
        entries,
    };
    let from = match job.last {
        Some(last) => last,
        // What members saw of an epoch that has ended cannot be told from what it lost.
        None if job.base.epoch > Epoch(0) && at.epoch > job.base.epoch => {
            return Ok(found(None, None));
        }
        None => match start(timeline, job).await? {
            Some(start) => start,
            None => return Ok(found(None, None)),
        },
    };
    let at = (job.shard, at);
    let mut entries = after(timeline, (&job.room, from), at).await?;
    if entries.is_none() {
        // Perhaps only the epoch is another one: compare with what was shown, by `seq` alone.
        let seq = job.before_shown.unwrap_or(from.seq);
        let epoch = Epoch(0);
        entries = after(timeline, (&job.room, Position { epoch, seq }), at).await?;
    }
    Ok(found(Some(from), entries))
}

/// All of a room between two places; `None` when the timeline has not all of it.
async fn after(
    timeline: &Timeline,
    (room, mut from): (&RoomName, Position),
    at: (ShardId, ShardPosition),
) -> Result<Option<Vec<Arc<Entry>>>, Error> {
    let mut all: Vec<Arc<Entry>> = Vec::new();
    loop {
        let range = timeline.range_on(room, from, at, PAGE).await?;
        if !range.complete || all.len() > READ_MAX {
            return Ok(None);
        }
        let last = range.entries.last().map(|entry| entry.position());
        all.extend(range.entries);
        match last {
            Some(last) if range.more => from = last,
            _ => return Ok(Some(all)),
        }
    }
}

fn publication(entry: &Entry) -> Publication {
    Publication {
        room: entry.room.clone(),
        shard: entry.shard,
        at: entry.shard_position(),
        position: entry.position(),
        id: entry.id.clone(),
        payload: entry.payload.clone(),
    }
}
