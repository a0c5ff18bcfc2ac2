//! One shard: its connection, the epoch it is in, its calls.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use redis::{Cmd, Value, cmd};

use super::keys::{self, Keys};
use super::reply::{self, Strange};
use crate::backend::redis::{Connection, Error as ServerError, Options};
use crate::timeline::entry::{Entry, Source};
use crate::timeline::{Apply, Error, Limits, Outcome, Range};
use crate::types::{Epoch, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq};

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    id: ShardId,
    options: Options,
    keys: Keys,
    limits: Limits,
    /// The connection that has entered; its number tells a late failure from a new connection's.
    link: Mutex<Option<(u64, Connection)>>,
    entering: tokio::sync::Mutex<u64>,
    /// The furthest place that was heard of.
    top: Mutex<ShardPosition>,
}

/// The functions, and their library's version in its name: two versions live side by side.
const LIBRARY: &str = include_str!("timeline.lua");

impl Shard {
    pub(super) fn new(id: ShardId, options: Options, limits: Limits) -> Self {
        Self {
            id,
            options,
            keys: Keys::new(id),
            limits,
            link: Mutex::new(None),
            entering: tokio::sync::Mutex::new(0),
            top: Mutex::new(ShardPosition::default()),
        }
    }

    pub(super) fn top(&self) -> ShardPosition {
        *self.top.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, at: ShardPosition) {
        let mut top = self.top.lock().unwrap_or_else(PoisonError::into_inner);
        *top = (*top).max(at);
    }

    /// Connects if there is no connection: loads the functions, begins an epoch if the server is
    /// another process than the one that the shard knows.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn enter(&self) -> Result<(), ServerError> {
        self.entered().await.map(|_| ())
    }

    async fn entered(&self) -> Result<(u64, Connection), ServerError> {
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let mut entering = self.entering.lock().await;
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let connection = Connection::open(&self.options).await?;
        let load = cmd("FUNCTION")
            .arg("LOAD")
            .arg("REPLACE")
            .arg(LIBRARY)
            .to_owned();
        let _: Value = connection.ask(&load).await?;
        let mut enter = cmd("FCALL");
        enter
            .arg("vb1_enter")
            .arg(1)
            .arg(self.keys.shard())
            .arg(connection.run_id());
        enter.arg(self.top().epoch.0);
        let (epoch, shard_seq, is_new): (u64, u64, u8) = connection.ask(&enter).await?;
        if is_new == 1 {
            tracing::info!(shard = %self.id, epoch, "an epoch begins");
        }
        self.heard(ShardPosition {
            epoch: Epoch(epoch),
            shard_seq: ShardSeq(shard_seq),
        });
        *entering += 1;
        let link = (*entering, connection);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        Ok(link)
    }

    fn link(&self) -> Option<(u64, Connection)> {
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, Error> {
        let unavailable = |error: &dyn std::fmt::Display| {
            tracing::debug!(shard = %self.id, %error, "a shard did not answer");
            Error::Unavailable { shard: self.id }
        };
        let (number, connection) = self.entered().await.map_err(|error| unavailable(&error))?;
        match connection.ask(command).await {
            Ok(value) => Ok(value),
            Err(error) => {
                if !error.retry() {
                    tracing::error!(shard = %self.id, %error, "a shard refused a call");
                }
                // Whoever asks next enters anew and so notices a server that is another one.
                let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
                if link.as_ref().is_some_and(|(current, _)| *current == number) {
                    *link = None;
                }
                drop(link);
                Err(unavailable(&error))
            }
        }
    }

    pub(super) async fn apply(&self, apply: Apply) -> Result<Outcome, Error> {
        let limits = &self.limits;
        let ids = self.keys.ids(&apply.room, apply.at, limits.dedup_window);
        let mut call = cmd("FCALL");
        call.arg("vb1_apply")
            .arg(7)
            .arg(self.keys.shard())
            .arg(self.keys.meta(&apply.room));
        call.arg(self.keys.stream(&apply.room))
            .arg(self.keys.open(&apply.room))
            .arg(&ids);
        call.arg(apply.epoch.0)
            .arg(apply.ring_version)
            .arg(keys::source(&apply.source))
            .arg(apply.offset);
        call.arg(apply.prev.map_or_else(String::new, |prev| prev.to_string()));
        call.arg(apply.id.as_str())
            .arg(apply.at.as_millis())
            .arg(&apply.payload[..]);
        call.arg(self.keys.channel(&apply.room))
            .arg(apply.room.as_str());
        call.arg(limits.entries_max)
            .arg(limits.keep_min)
            .arg(ms(limits.ttl))
            .arg(ms(limits.dedup_window));
        let answer = self.ask(&call).await?;
        self.outcome(answer, apply)
            .map_err(|strange| self.strange(&strange))
    }

    fn outcome(&self, answer: Value, apply: Apply) -> Result<Outcome, Strange> {
        let parts = reply::list(answer)?;
        let number = |index: usize| reply::number(parts.get(index));
        match reply::text(parts.first())?.as_str() {
            "OK" => {
                let position = reply::place(&reply::text(parts.get(1))?)?;
                let entry = Entry {
                    room: apply.room,
                    shard: self.id,
                    epoch: position.epoch,
                    seq: position.seq,
                    shard_seq: ShardSeq(number(2)?),
                    source: apply.source,
                    offset: apply.offset,
                    id: apply.id,
                    at: apply.at,
                    payload: apply.payload,
                };
                self.heard(entry.shard_position());
                Ok(Outcome::Applied {
                    entry: Arc::new(entry),
                    published: true,
                })
            }
            "DUP" if number(1)? == 1 => Ok(Outcome::Duplicate {
                entry: None,
                settled: true,
            }),
            "DUP" => {
                let value = parts
                    .into_iter()
                    .nth(2)
                    .ok_or(Strange("a duplicate without its entry"))?;
                let entry = Arc::new(reply::entry(value, (&apply.room, self.id))?);
                Ok(Outcome::Duplicate {
                    entry: Some(entry),
                    settled: false,
                })
            }
            "GAP" => Ok(Outcome::Gap {
                last: reply::text(parts.get(1))?.parse().ok(),
            }),
            "DUPID" => Ok(Outcome::DuplicateId {
                original: reply::place(&reply::text(parts.get(1))?)?,
            }),
            "STALE" => {
                let epoch = Epoch(number(1)?);
                self.heard(ShardPosition {
                    epoch,
                    shard_seq: ShardSeq(0),
                });
                Ok(Outcome::Stale { epoch })
            }
            "MOVED" => Ok(Outcome::Moved {
                ring_version: number(1)?,
            }),
            _ => Err(Strange("an unknown outcome")),
        }
    }

    pub(super) async fn settled(
        &self,
        room: &RoomName,
        (source, offset): (&Source, u64),
    ) -> Result<(), Error> {
        let mut call = cmd("FCALL");
        call.arg("vb1_settled")
            .arg(3)
            .arg(self.keys.meta(room))
            .arg(self.keys.stream(room))
            .arg(self.keys.open(room));
        call.arg(keys::source(source)).arg(offset);
        call.arg(self.limits.entries_max)
            .arg(self.limits.keep_min)
            .arg(ms(self.limits.ttl));
        self.ask(&call).await.map(drop)
    }

    pub(super) async fn range(
        &self,
        room: &RoomName,
        (after, up_to): (Position, ShardPosition),
        limit: usize,
    ) -> Result<Range, Error> {
        let mut call = cmd("FCALL_RO");
        call.arg("vb1_range")
            .arg(3)
            .arg(self.keys.shard())
            .arg(self.keys.meta(room))
            .arg(self.keys.stream(room));
        call.arg(after.epoch.0)
            .arg(after.seq.0)
            .arg(limit)
            .arg(bounded(up_to.epoch.0))
            .arg(bounded(up_to.shard_seq.0));
        let answer = self.ask(&call).await?;
        reply::range(answer, after, (room, self.id)).map_err(|strange| self.strange(&strange))
    }

    pub(super) async fn room_top(&self, room: &RoomName) -> Result<Position, Error> {
        let answer = self
            .ask(cmd("HMGET").arg(self.keys.meta(room)).arg("e").arg("n"))
            .await?;
        let read = || {
            let parts = reply::list(answer)?;
            match parts.first() {
                None | Some(Value::Nil) => Ok(Position {
                    epoch: self.top().epoch,
                    seq: Seq(0),
                }),
                Some(_) => Ok(Position {
                    epoch: Epoch(reply::number(parts.first())?),
                    seq: Seq(reply::number(parts.get(1))?),
                }),
            }
        };
        read().map_err(|strange: Strange| self.strange(&strange))
    }

    pub(super) async fn tombstone(&self, room: &RoomName, ring_version: u64) -> Result<(), Error> {
        let mut call = cmd("FCALL");
        call.arg("vb1_tombstone")
            .arg(1)
            .arg(self.keys.meta(room))
            .arg(ring_version);
        self.ask(&call).await.map(drop)
    }

    fn strange(&self, strange: &Strange) -> Error {
        tracing::error!(shard = %self.id, error = %strange, "a shard's answer cannot be used");
        Error::Unavailable { shard: self.id }
    }
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Lua's numbers are doubles: beyond this they are not exact, and nothing real is.
fn bounded(number: u64) -> u64 {
    number.min(1 << 53)
}
