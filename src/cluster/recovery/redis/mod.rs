//! What sockets were, on the shards of their private ids.
//!
//! Each is written in one call of a function, with the shard's epoch: what was written in an epoch that has
//! ended is not trusted, for the shard may have lost the writes after it. Its owner finds that out with
//! the next touch and writes it anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, cmd};

use super::{Error, Joined, Owner, Saved, Taken, Written};
use crate::backend::redis::{Error as ServerError, Scripted, Shards};
use crate::types::{PrivateId, RoomName, ShardId, SocketId, UserId};

/// The functions; load them with every connection of the shards.
pub const LIBRARY: Scripted = include_str!("recovery.lua");

/// On shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Shards,
    /// For how long each is kept after its owner was heard of.
    ttl: Duration,
    /// This process, among all that ever were.
    process: String,
}

/// Sockets in one call.
const TOUCHED_AT_ONCE: usize = 256;
/// How long a shard's epoch may take to be raised before a socket on it counts as unreachable.
const RAISED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn new(shards: Shards, window: Duration) -> Self {
        Self(Arc::new(Inner {
            shards,
            // An owner may die just before it would have said that it lives.
            ttl: window + super::touch_every(window) * 2,
            process: format!("{:016x}", rand::random::<u64>()),
        }))
    }

    pub(super) fn shard_of(&self, id: &PrivateId) -> ShardId {
        self.0.shards.shard_of(id.as_str())
    }

    pub(super) async fn begin(
        &self,
        (id, generation): (&PrivateId, u64),
        saved: &Saved,
        worker: usize,
    ) -> Result<Written, Error> {
        let mut call = self.call("vb1_recovery_begin", id);
        call.arg(generation).arg(self.ttl()).arg(self.owner(worker));
        call.arg(saved.user.as_str()).arg(saved.socket.as_str());
        for (room, joined) in &saved.rooms {
            call.arg(room.as_str()).arg(joined.to_string());
        }
        self.write(id, &call).await
    }

    pub(super) async fn change(
        &self,
        (id, generation): (&PrivateId, u64),
        room: &RoomName,
        joined: Option<Joined>,
    ) -> Result<Written, Error> {
        let joined = joined.map_or_else(String::new, |joined| joined.to_string());
        let mut call = self.call("vb1_recovery_change", id);
        call.arg(generation).arg(self.ttl());
        call.arg(room.as_str()).arg(joined);
        self.write(id, &call).await
    }

    pub(super) async fn take(
        &self,
        id: &PrivateId,
        user: &UserId,
        worker: usize,
    ) -> Result<Taken, Error> {
        let shard = self.shard_of(id);
        let until = tokio::time::Instant::now() + RAISED_WITHIN;
        loop {
            let take = |run_id: &str| {
                let mut call = self.call("vb1_recovery_take", id);
                call.arg(user.as_str()).arg(self.ttl());
                call.arg(self.owner(worker)).arg(run_id);
                call
            };
            let answer = self.0.shards.ask_alive::<Vec<String>>(shard, take).await;
            let answer = answer.map_err(|error| silent(shard, &error))?;
            match answer.first().map(String::as_str) {
                Some("YES") => return self.taken(&answer, user).ok_or_else(|| strange(shard)),
                Some("UNKNOWN") => return Ok(Taken::Unknown),
                Some("UNTRUSTED") => return Ok(Taken::Untrusted),
                Some("WAIT") if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Some("WAIT") => return Err(Error::Unavailable { shard }),
                _ => return Err(strange(shard)),
            }
        }
    }

    fn taken(&self, answer: &[String], user: &UserId) -> Option<Taken> {
        let [_, generation, owner, socket, rooms @ ..] = answer else {
            return None;
        };
        let rooms = rooms.chunks_exact(2).map(|pair| {
            let room = RoomName::parse(&pair[0]).ok()?;
            Some((room, pair[1].parse().ok()?))
        });
        let before = match owner.split_once(' ') {
            None => Owner::Nobody,
            Some((process, worker)) if process == self.0.process => {
                worker.parse().map_or(Owner::Nobody, Owner::Here)
            }
            Some(_) => Owner::Elsewhere,
        };
        Some(Taken::Yes {
            generation: generation.parse().ok()?,
            saved: Saved {
                user: user.clone(),
                socket: SocketId::parse(socket).ok()?,
                rooms: rooms.collect::<Option<_>>()?,
            },
            before,
        })
    }

    pub(super) async fn touch(&self, sockets: &[(PrivateId, u64)]) -> Vec<Result<Written, Error>> {
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (index, (id, _)) in sockets.iter().enumerate() {
            by_shard.entry(self.shard_of(id)).or_default().push(index);
        }
        let batches = by_shard.iter().flat_map(|(shard, indexes)| {
            let chunks = indexes.chunks(TOUCHED_AT_ONCE);
            chunks.map(move |indexes| (*shard, indexes))
        });
        let touched = batches.map(async |(shard, indexes)| {
            let mut call = cmd("FCALL");
            call.arg("vb1_recovery_touch").arg(indexes.len() + 1);
            call.arg(shard_key(shard));
            for index in indexes {
                call.arg(key(shard, &sockets[*index].0));
            }
            call.arg(self.ttl());
            for index in indexes {
                call.arg(sockets[*index].1);
            }
            let answer = self.0.shards.ask::<Vec<String>>(shard, &call).await;
            (shard, indexes, answer)
        });
        let mut all = vec![Ok(Written::Kept); sockets.len()];
        for (shard, indexes, answer) in join_all(touched).await {
            match answer {
                Ok(words) => {
                    for (index, word) in indexes.iter().zip(words) {
                        all[*index] = written(&word).ok_or_else(|| strange(shard));
                    }
                }
                Err(error) => {
                    let silent = silent(shard, &error);
                    indexes.iter().for_each(|index| all[*index] = Err(silent));
                }
            }
        }
        all
    }

    pub(super) async fn end(
        &self,
        (id, generation): (&PrivateId, u64),
        is_over: bool,
    ) -> Result<(), Error> {
        let shard = self.shard_of(id);
        let mut call = cmd("FCALL");
        call.arg("vb1_recovery_end").arg(1).arg(key(shard, id));
        call.arg(generation).arg(self.ttl()).arg(u8::from(is_over));
        let answer = self.0.shards.ask::<u64>(shard, &call).await;
        answer.map(drop).map_err(|error| silent(shard, &error))
    }

    fn call(&self, function: &str, id: &PrivateId) -> Cmd {
        let shard = self.shard_of(id);
        let mut call = cmd("FCALL");
        call.arg(function).arg(2);
        call.arg(key(shard, id)).arg(shard_key(shard));
        call
    }

    async fn write(&self, id: &PrivateId, call: &Cmd) -> Result<Written, Error> {
        let shard = self.shard_of(id);
        let word = self.0.shards.ask::<String>(shard, call).await;
        let word = word.map_err(|error| silent(shard, &error))?;
        written(&word).ok_or_else(|| strange(shard))
    }

    fn ttl(&self) -> u64 {
        u64::try_from(self.0.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    fn owner(&self, worker: usize) -> String {
        format!("{} {worker}", self.0.process)
    }
}

fn written(word: &str) -> Option<Written> {
    match word {
        "KEPT" => Some(Written::Kept),
        "TAKEN" => Some(Written::TakenOver),
        "GONE" => Some(Written::Gone),
        _ => None,
    }
}

fn key(shard: ShardId, id: &PrivateId) -> String {
    format!("{}:r:{}", Shards::tag(shard), id.as_str())
}

/// The shard's hash, in which the timeline keeps its epoch.
fn shard_key(shard: ShardId) -> String {
    format!("{}:s", Shards::tag(shard))
}

fn silent(shard: ShardId, error: &ServerError) -> Error {
    match error.retry() {
        true => tracing::debug!(%shard, %error, "a shard did not answer"),
        false => tracing::error!(%shard, %error, "a shard refused a call"),
    }
    Error::Unavailable { shard }
}

fn strange(shard: ShardId) -> Error {
    tracing::error!(%shard, "what a shard keeps of a socket cannot be read");
    Error::Unavailable { shard }
}
