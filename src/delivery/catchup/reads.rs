//! The ends of rooms, read once for all who ask at the same time.
//!
//! When a node is lost its clients come back together, and most of them are in the same rooms. Who asks for
//! a room while a read of its shard is on its way waits for the next one, together with all others who
//! do; each read asks a shard for every room that somebody waits for, in one round trip, and of each back
//! to the earliest place that one of them needs. So a shard is asked for a room as often as a read takes,
//! however many clients come back.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Missed;
use crate::telemetry::metrics;
use crate::timeline::{Ask, End, Error, Since, Timeline};
use crate::types::{Epoch, RoomName, ShardId, ShardPosition};

/// The last entries of a room.
#[derive(Debug)]
pub(super) struct Tail {
    /// The epoch that the room's shard was in.
    pub(super) epoch: Epoch,
    /// The newest first, without a hole.
    pub(super) entries: Vec<Arc<Missed>>,
    /// What is before them.
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) struct Reads {
    timeline: Timeline,
    entries_max: usize,
    shards: Mutex<HashMap<ShardId, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    rooms: HashMap<RoomName, Waiting>,
    is_reading: bool,
}

#[derive(Debug)]
struct Waiting {
    mark: ShardPosition,
    replies: Vec<oneshot::Sender<Answer>>,
}

type Answer = Result<Arc<Tail>, Error>;

/// Rooms in one read.
const ROOMS: usize = 256;
/// Entries of one room in one answer.
const PAGE: usize = 256;
/// Between two reads of a shard: who comes in this time shares the next one.
const GATHER: Duration = Duration::from_millis(20);

/// Ends the reading of a shard also when its task ends early: whoever asks next begins anew.
struct Reading {
    reads: Arc<Reads>,
    shard: ShardId,
    /// It has ended, and perhaps somebody else reads by now.
    is_over: bool,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(queue) = self.reads.shards().get_mut(&self.shard) {
            queue.is_reading = false;
            queue.rooms.clear();
        }
    }
}

impl Reads {
    pub(super) fn new(timeline: Timeline, entries_max: usize) -> Self {
        Self {
            timeline,
            entries_max,
            shards: Mutex::default(),
        }
    }

    /// The entries of a room after a place in its shard's stream, and perhaps some before it.
    pub(super) async fn tail(
        self: &Arc<Self>,
        shard: ShardId,
        room: &RoomName,
        mark: ShardPosition,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let must_read = self.ask(shard, room, (mark, reply));
        if must_read {
            let reads = Arc::clone(self);
            // Ends when nobody waits any more, or with the worker.
            drop(tokio::task::spawn_local(reads.read(shard)));
        }
        answer.await.unwrap_or(Err(Error::Unavailable { shard }))
    }

    /// True if nobody reads the shard yet.
    fn ask(
        &self,
        shard: ShardId,
        room: &RoomName,
        (mark, reply): (ShardPosition, oneshot::Sender<Answer>),
    ) -> bool {
        let mut shards = self.shards();
        let queue = shards.entry(shard).or_default();
        metrics::RECOVERY_READS_ASKED.add(1);
        match queue.rooms.get_mut(room) {
            Some(waiting) => {
                metrics::RECOVERY_READS_SHARED.add(1);
                waiting.mark = waiting.mark.min(mark);
                waiting.replies.push(reply);
            }
            None => {
                let replies = vec![reply];
                queue.rooms.insert(room.clone(), Waiting { mark, replies });
            }
        }
        !std::mem::replace(&mut queue.is_reading, true)
    }

    async fn read(self: Arc<Self>, shard: ShardId) {
        let mut reading = Reading {
            reads: Arc::clone(&self),
            shard,
            is_over: false,
        };
        while let Some(rooms) = self.next(shard) {
            let mut asked: Vec<(RoomName, Waiting)> = rooms.into_iter().collect();
            for chunk in asked.chunks_mut(ROOMS) {
                self.read_rooms(shard, chunk).await;
            }
            tokio::time::sleep(GATHER).await;
        }
        reading.is_over = true;
    }

    /// The rooms that are waited for; with none of them the reading is over.
    fn next(&self, shard: ShardId) -> Option<HashMap<RoomName, Waiting>> {
        let mut shards = self.shards();
        let queue = shards.get_mut(&shard)?;
        queue.is_reading = !queue.rooms.is_empty();
        queue.is_reading.then(|| take(&mut queue.rooms))
    }

    async fn read_rooms(&self, shard: ShardId, rooms: &mut [(RoomName, Waiting)]) {
        let mut tails: Vec<Tail> = Vec::with_capacity(rooms.len());
        let mut asks: Vec<(usize, Ask)> = Vec::with_capacity(rooms.len());
        for (index, (room, waiting)) in rooms.iter().enumerate() {
            tails.push(Tail {
                epoch: Epoch(0),
                entries: Vec::new(),
                end: End::More,
            });
            let ask = Ask {
                room: room.clone(),
                mark: waiting.mark,
                before: None,
                limit: PAGE,
            };
            asks.push((index, ask));
        }
        while !asks.is_empty() {
            let (indexes, now): (Vec<usize>, Vec<Ask>) = take(&mut asks).into_iter().unzip();
            let answers = self.timeline.since_all(shard, &now).await;
            for ((index, ask), answer) in indexes.into_iter().zip(now).zip(answers) {
                match answer {
                    Ok(since) => {
                        if let Some(next) = self.took(&mut tails[index], since, ask) {
                            asks.push((index, next));
                        }
                    }
                    Err(error) => reply(&mut rooms[index].1, &Err(error)),
                }
            }
        }
        for ((_, waiting), tail) in rooms.iter_mut().zip(tails) {
            reply(waiting, &Ok(Arc::new(tail)));
        }
    }

    /// Adds a page to a tail; the next one, if there is to be one.
    fn took(&self, tail: &mut Tail, since: Since, ask: Ask) -> Option<Ask> {
        tail.epoch = tail.epoch.max(since.epoch);
        tail.end = since.end;
        let entries = since.entries.into_iter();
        tail.entries
            .extend(entries.map(|entry| Arc::new(Missed::of_entry(entry))));
        let oldest = tail.entries.last()?.position;
        let is_next = since.end == End::More && tail.entries.len() < self.entries_max;
        is_next.then_some(Ask {
            before: Some(oldest),
            ..ask
        })
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<ShardId, Queue>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To all who wait and were not answered yet. Who gave up has dropped its end.
fn reply(waiting: &mut Waiting, answer: &Answer) {
    for reply in waiting.replies.drain(..) {
        drop(reply.send(answer.clone()));
    }
}
