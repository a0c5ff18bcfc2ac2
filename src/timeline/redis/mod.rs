//! Timelines on Redis shards: one function of `timeline.lua` is the point that orders a room.
//!
//! The ring says on which shard a room is. Each shard has one connection for these calls, which never
//! reconnects silently: a new connection first *enters* the shard (loads the functions, begins an epoch
//! if the server is another process than before), and only then are calls sent.
//!
//! Not here: hearing what is published (the bus), and bringing back what a shard lost.

mod gate;
mod keys;
mod link;
mod moves;
mod raise;
mod reply;
mod shard;
mod since;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::backend::redis as server;
use crate::placement::{PlanError, Rings, Target, View};
use crate::timeline::{Apply, Ask, Error, Limits, Outcome, Range, Settle, Settlement, Since};
use crate::types::{Epoch, Position, RoomName, ShardId, ShardPosition, ShardSeq};
use moves::TURNS_MAX;
use shard::{Answer, Shard, may_be_elsewhere};

pub use moves::Strangers;
pub use raise::Raise;
pub use server::ShardOptions;

/// How timelines are kept.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How much.
    pub limits: Limits,
    /// Whether somebody calls [`Timeline::begin_raise`] when [`Timeline::raise_needed`] says so. If not,
    /// a shard whose server is another process begins its next epoch with what it has.
    pub is_raised: bool,
    /// Replicas of each shard that must have an entry before it counts as settled.
    pub replicas: u32,
    /// The ring, which changes; without it all shards share the rooms for ever.
    pub rings: Option<Rings>,
}

/// Timelines on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timeline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rings: Rings,
    /// Whether rooms are placed only by a plan that the cluster has agreed on.
    is_agreed: bool,
    shards: Vec<Shard>,
    needs_raise: Arc<Notify>,
}

impl Timeline {
    /// Timelines on these shards, numbered in this order. Each is entered now if it answers, else
    /// with the first call.
    ///
    /// # Errors
    /// When the shards cannot share a ring.
    pub async fn open(shards: Vec<ShardOptions>, options: Options) -> Result<Self, PlanError> {
        let numbered = || (0..).map(ShardId).zip(&shards);
        let targets: Vec<Target> = numbered()
            .map(|(id, shard)| Target {
                id,
                name: shard.name.clone(),
                weight: shard.weight,
            })
            .collect();
        let is_agreed = options.rings.is_some();
        let rings = match options.rings.clone() {
            Some(rings) => rings,
            None => Rings::new(&targets)?,
        };
        let needs_raise = Arc::new(Notify::new());
        let shards: Vec<Shard> = numbered()
            .map(|(id, shard)| Shard::new((id, shard), &options, Arc::clone(&needs_raise)))
            .collect();
        // Whoever raises epochs is not at work yet.
        for shard in shards.iter().filter(|_| !options.is_raised) {
            if let Err(error) = shard.enter().await {
                tracing::warn!(%error, "a shard does not answer; its rooms wait until it does");
            }
        }
        Ok(Self(Arc::new(Inner {
            rings,
            is_agreed,
            shards,
            needs_raise,
        })))
    }

    pub(super) async fn apply_all(
        &self,
        shard: ShardId,
        mut applies: Vec<Apply>,
    ) -> Vec<Result<Outcome, Error>> {
        let view = match self.agreed(shard) {
            Ok(view) => view,
            Err(error) => return applies.iter().map(|_| Err(error.clone())).collect(),
        };
        let moved = Outcome::Moved {
            ring_version: view.plan.fence,
        };
        let is_here = |apply: &Apply| view.room(apply.room.as_str()) == shard;
        if !applies.iter().all(is_here) {
            // The ring changed since the caller looked.
            return applies.iter().map(|_| Ok(moved.clone())).collect();
        }
        if self.0.is_agreed {
            // What counts is the ring by which the shard was chosen here.
            for apply in &mut applies {
                apply.ring_version = view.plan.fence;
            }
        }
        let rooms: Vec<RoomName> = applies.iter().map(|apply| apply.room.clone()).collect();
        let answers = self.shard(shard).apply_all(&view, applies).await;
        let mut fetched: HashMap<RoomName, Result<(), Error>> = HashMap::new();
        let mut outcomes = Vec::with_capacity(answers.len());
        for (answer, room) in answers.into_iter().zip(rooms) {
            outcomes.push(match answer {
                Err(error) => Err(error),
                Ok(Answer::Here(Outcome::Moved { ring_version })) => {
                    self.newer_ring(ring_version).await;
                    Ok(Outcome::Moved { ring_version })
                }
                Ok(Answer::Here(outcome)) => Ok(outcome),
                Ok(Answer::Absent | Answer::Moved(_)) => {
                    if !fetched.contains_key(&room) {
                        let outcome = self.fetch(&room).await;
                        fetched.insert(room.clone(), outcome);
                    }
                    let outcome = fetched.get(&room).cloned().unwrap_or(Ok(()));
                    outcome.map(|()| moved.clone())
                }
            });
        }
        outcomes
    }

    /// Each goes to where its room is now, which need not be where the entry was written.
    pub(super) async fn settle_all(
        &self,
        shard: ShardId,
        settles: &[Settle],
    ) -> Vec<Result<Settlement, Error>> {
        let view = match self.agreed(shard) {
            Ok(view) => view,
            Err(error) => return settles.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (index, settle) in settles.iter().enumerate() {
            let place = view.room(settle.entry.room.as_str());
            by_shard.entry(place).or_default().push(index);
        }
        let mut all: Vec<Result<Settlement, Error>> =
            vec![Err(Error::Unavailable { shard }); settles.len()];
        for (place, indices) in by_shard {
            let some: Vec<&Settle> = indices.iter().map(|index| &settles[*index]).collect();
            let answers = self.shard(place).settle_all(&view, &some).await;
            for ((answer, index), settle) in answers.into_iter().zip(indices).zip(some) {
                all[index] = match answer {
                    Ok(Answer::Here(settlement)) => Ok(settlement),
                    Ok(Answer::Absent) => match self.fetch(&settle.entry.room).await {
                        // The caller repeats it.
                        Ok(()) => Err(Error::Unavailable { shard: place }),
                        Err(error) => Err(error),
                    },
                    Ok(Answer::Moved(fence)) => {
                        self.newer_ring(fence).await;
                        Err(Error::Unavailable { shard: place })
                    }
                    Err(error) => Err(error),
                };
            }
        }
        all
    }

    pub(super) async fn gate(&self, shard: ShardId) -> Result<bool, Error> {
        self.shard(shard).gate().await
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.0.shards.iter().map(|shard| shard.id)
    }

    /// A shard's name on the ring.
    #[must_use]
    pub fn name(&self, shard: ShardId) -> &str {
        &self.shard(shard).name
    }

    /// Whether a room is on a shard, or was before the ring's last change and may be there still.
    #[must_use]
    pub fn is_on(&self, room: &RoomName, shard: ShardId) -> bool {
        let view = self.view();
        view.room(room.as_str()) == shard || view.was(room.as_str()) == Some(shard)
    }

    /// Whether a shard was there when it was asked last.
    #[must_use]
    pub fn is_reachable(&self, shard: ShardId) -> bool {
        self.shard(shard).is_entered()
    }

    /// Enters a shard that is not entered, to see whether it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn probe(&self, shard: ShardId) -> Result<(), Error> {
        self.shard(shard).probe().await
    }

    pub(super) async fn range(
        &self,
        room: &RoomName,
        after: Position,
        up_to: ShardPosition,
        limit: usize,
    ) -> Result<Range, Error> {
        let shard = self.shard_of(room);
        self.range_on(room, after, (shard, up_to), limit).await
    }

    /// A shard that a room has left still answers for what was written there.
    pub(super) async fn range_on(
        &self,
        room: &RoomName,
        after: Position,
        (shard, up_to): (ShardId, ShardPosition),
        limit: usize,
    ) -> Result<Range, Error> {
        for _ in 0..TURNS_MAX {
            let view = self.agreed(shard)?;
            let mark = match view.room(room.as_str()) == shard {
                true => may_be_elsewhere(&view, room),
                false => "",
            };
            let asked = (room, mark);
            let answer = self.shard(shard).range(asked, (after, up_to), limit);
            if let Answer::Here(range) = answer.await? {
                return Ok(range);
            }
            self.fetch(room).await?;
        }
        Err(Error::Unavailable { shard })
    }

    pub(super) async fn since_all(
        &self,
        shard: ShardId,
        asks: &[Ask],
    ) -> Vec<Result<Since, Error>> {
        let view = match self.agreed(shard) {
            Ok(view) => view,
            Err(error) => return asks.iter().map(|_| Err(error.clone())).collect(),
        };
        let is_here = |ask: &Ask| view.room(ask.room.as_str()) == shard;
        if !asks.iter().all(is_here) {
            // The ring changed since the caller looked.
            return asks
                .iter()
                .map(|_| Err(Error::Unavailable { shard }))
                .collect();
        }
        let mut all = Vec::with_capacity(asks.len());
        let answers = self.shard(shard).since_all(&view, asks).await;
        for (answer, ask) in answers.into_iter().zip(asks) {
            all.push(match answer {
                Ok(Answer::Here(since)) => Ok(since),
                Ok(Answer::Absent | Answer::Moved(_)) => match self.fetch(&ask.room).await {
                    Ok(()) => self.since_again(shard, &view, ask).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            });
        }
        all
    }

    /// After the room came.
    async fn since_again(&self, shard: ShardId, view: &View, ask: &Ask) -> Result<Since, Error> {
        let mut answers = self
            .shard(shard)
            .since_all(view, std::slice::from_ref(ask))
            .await;
        match answers.pop() {
            Some(Ok(Answer::Here(since))) => Ok(since),
            Some(Err(error)) => Err(error),
            _ => Err(Error::Unavailable { shard }),
        }
    }

    pub(super) async fn end_of(
        &self,
        shard: ShardId,
        epoch: Epoch,
    ) -> Result<Option<ShardSeq>, Error> {
        self.shard(shard).end_of(epoch).await
    }

    pub(super) async fn top(&self, room: &RoomName) -> Result<Position, Error> {
        let shard = self.shard_of(room);
        let tops = self.tops(shard, std::slice::from_ref(room)).await?;
        tops.first().copied().ok_or(Error::Unavailable { shard })
    }

    pub(super) async fn tops(
        &self,
        shard: ShardId,
        rooms: &[RoomName],
    ) -> Result<Vec<Position>, Error> {
        let view = self.agreed(shard)?;
        let may_be_absent = |room: &&RoomName| {
            view.room(room.as_str()) == shard && view.was(room.as_str()).is_some()
        };
        for room in rooms.iter().filter(may_be_absent) {
            // Nothing is asked of a room that is here by now.
            self.fetch_if_absent(&view, room).await?;
        }
        self.shard(shard).room_tops(rooms).await
    }

    async fn fetch_if_absent(&self, view: &View, room: &RoomName) -> Result<(), Error> {
        let shard = self.shard(view.room(room.as_str()));
        let nothing = (Position::default(), ShardPosition::default());
        let answer = shard.range((room, may_be_elsewhere(view, room)), nothing, 0);
        match answer.await? {
            Answer::Absent => self.fetch(room).await,
            _ => Ok(()),
        }
    }

    /// The ring, once the cluster has agreed on one.
    fn agreed(&self, shard: ShardId) -> Result<Arc<View>, Error> {
        let view = self.view();
        if self.0.is_agreed && view.plan.version == 0 {
            return Err(Error::Unavailable { shard });
        }
        Ok(view)
    }

    pub(super) fn epoch(&self, shard: ShardId) -> Epoch {
        self.shard(shard).top().epoch
    }

    pub(super) fn shard_of(&self, room: &RoomName) -> ShardId {
        self.view().room(room.as_str())
    }

    /// The furthest place of a shard that this process was told of.
    pub(super) fn shard_top(&self, shard: ShardId) -> ShardPosition {
        self.shard(shard).top()
    }

    /// Answers `Moved` for a room to callers whose ring is older than `ring_version`.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn tombstone(&self, room: &RoomName, ring_version: u64) -> Result<(), Error> {
        self.of(room).tombstone(room, ring_version).await
    }

    fn of(&self, room: &RoomName) -> &Shard {
        self.shard(self.shard_of(room))
    }

    /// A shard that does not exist is answered for by the last, so that no id can cause a panic.
    fn shard(&self, shard: ShardId) -> &Shard {
        &self.0.shards[usize::from(shard.0).min(self.0.shards.len() - 1)]
    }
}
