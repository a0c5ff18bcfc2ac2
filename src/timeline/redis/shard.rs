//! One shard: its connection, the epoch it is in, its calls.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::Notify;

use super::Options as TimelineOptions;
use super::keys::{self, Keys};
use super::link::Entering;
use super::reply::{self, Strange};
use crate::backend::redis::{Connection, Options, ShardOptions};
use crate::lifecycle::mutation::{self, Mutation};
use crate::placement::View;
use crate::timeline::entry::Entry;
use crate::timeline::{Apply, Error, Limits, Outcome, Range, Settle, Settlement};
use crate::types::{Epoch, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq};

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: ShardId,
    pub(super) name: String,
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) is_raised: bool,
    pub(super) replicas: u32,
    /// Of this process: a raise that failed goes on where it was.
    pub(super) token: String,
    /// The connection that has entered; its number tells a late failure from a new connection's.
    pub(super) link: Mutex<Option<(u64, Connection)>>,
    pub(super) entering: tokio::sync::Mutex<Entering>,
    /// The furthest place that was heard of.
    top: Mutex<ShardPosition>,
    /// Its server is another process than it knows, and nobody has raised its epoch yet.
    pub(super) waits: AtomicBool,
    pub(super) needs_raise: Arc<Notify>,
    pub(super) looked_again: Notify,
}

impl Shard {
    pub(super) fn new(
        (id, shard): (ShardId, &ShardOptions),
        options: &TimelineOptions,
        needs_raise: Arc<Notify>,
    ) -> Self {
        Self {
            id,
            name: shard.name.clone(),
            options: shard.server.clone(),
            keys: Keys::new(id),
            limits: options.limits,
            is_raised: options.is_raised,
            replicas: options.replicas,
            link: Mutex::new(None),
            token: format!("{:032x}", rand::random::<u128>()),
            entering: tokio::sync::Mutex::default(),
            top: Mutex::new(ShardPosition::default()),
            waits: AtomicBool::new(false),
            needs_raise,
            looked_again: Notify::new(),
        }
    }

    pub(super) fn top(&self) -> ShardPosition {
        *lock(&self.top)
    }

    pub(super) fn heard(&self, at: ShardPosition) {
        let mut top = lock(&self.top);
        *top = (*top).max(at);
    }

    /// Applies in this order, in one round trip.
    pub(super) async fn apply_all(
        &self,
        view: &View,
        applies: Vec<Apply>,
    ) -> Vec<Result<Answer<Outcome>, Error>> {
        let mut calls = Pipeline::with_capacity(applies.len());
        for apply in &applies {
            calls.add_command(self.applying(view, apply));
        }
        let answers = self.ask_all(&calls).await;
        let outcomes = answers.into_iter().zip(applies).map(|(answer, apply)| {
            let answer = answer?;
            if reply::is_absent(&answer) {
                return Ok(Answer::Absent);
            }
            let outcome = self
                .outcome(answer, apply)
                .map_err(|strange| self.strange(&strange))?;
            if let Outcome::Stale { epoch } = outcome {
                self.stale(epoch)?;
            }
            Ok(Answer::Here(outcome))
        });
        outcomes.collect()
    }

    fn applying(&self, view: &View, apply: &Apply) -> Cmd {
        let limits = &self.limits;
        let ids = self.keys.ids(&apply.room, apply.at, limits.dedup_window);
        let window = match mutation::is_on(Mutation::DedupOff) {
            true => -1,
            false => i64::try_from(ms(limits.dedup_window)).unwrap_or(i64::MAX),
        };
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
            .arg(window)
            .arg(self.options.place.publish());
        call.arg(may_be_elsewhere(view, &apply.room));
        call
    }

    /// Notes what is durable in topic `timeline`, in one round trip.
    pub(super) async fn settle_all(
        &self,
        view: &View,
        settles: &[&Settle],
    ) -> Vec<Result<Answer<Settlement>, Error>> {
        let mut calls = Pipeline::with_capacity(settles.len());
        for Settle {
            entry,
            seen_in,
            record,
        } in settles
        {
            let mut call = cmd("FCALL");
            call.arg("vb1_settled").arg(4).arg(self.keys.shard());
            call.arg(self.keys.meta(&entry.room))
                .arg(self.keys.stream(&entry.room))
                .arg(self.keys.open(&entry.room));
            call.arg(seen_in.0)
                .arg(keys::source(&entry.source))
                .arg(entry.offset);
            call.arg(self.limits.entries_max)
                .arg(self.limits.keep_min)
                .arg(ms(self.limits.ttl));
            match record {
                Some((partition, offset)) => call.arg(partition).arg(offset),
                None => call.arg("").arg(""),
            };
            call.arg(view.plan.fence)
                .arg(may_be_elsewhere(view, &entry.room));
            match entry.shard == self.id {
                true => call.arg(""),
                false => call.arg(entry.position().to_string()),
            };
            calls.add_command(call);
        }
        let answers = self.ask_all(&calls).await;
        let read = |(answer, settle): (Result<Value, Error>, &&Settle)| {
            let answer = answer?;
            if reply::is_absent(&answer) {
                return Ok(Answer::Absent);
            }
            let parts = reply::list(answer).map_err(|strange| self.strange(&strange))?;
            let word = reply::text(parts.first()).map_err(|strange| self.strange(&strange))?;
            if word == "OK" {
                return Ok(Answer::Here(Settlement::Done));
            }
            let number = reply::number(parts.get(1)).map_err(|strange| self.strange(&strange))?;
            if word == "MOVED" {
                return Ok(Answer::Moved(number));
            }
            let epoch = Epoch(number);
            self.stale(epoch)?;
            Ok(Answer::Here(match settle.entry.shard == self.id {
                true => Settlement::Stale { epoch },
                false => Settlement::Lost,
            }))
        };
        answers.into_iter().zip(settles).map(read).collect()
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
            "STALE" => Ok(Outcome::Stale {
                epoch: Epoch(number(1)?),
            }),
            "MOVED" => Ok(Outcome::Moved {
                ring_version: number(1)?,
            }),
            _ => Err(Strange("an unknown outcome")),
        }
    }

    pub(super) async fn range(
        &self,
        (room, may_be_elsewhere): (&RoomName, &str),
        (after, up_to): (Position, ShardPosition),
        limit: usize,
    ) -> Result<Answer<Range>, Error> {
        let mut call = cmd("FCALL_RO");
        call.arg("vb1_range")
            .arg(3)
            .arg(self.keys.shard())
            .arg(self.keys.meta(room))
            .arg(self.keys.stream(room));
        call.arg(after.epoch.0)
            .arg(after.seq.0)
            .arg(limit.min(ENTRIES_AT_ONCE))
            .arg(bounded(up_to.epoch.0))
            .arg(bounded(up_to.shard_seq.0));
        call.arg(may_be_elsewhere);
        let answer = self.ask(&call).await?;
        if reply::is_absent(&answer) {
            return Ok(Answer::Absent);
        }
        let read = reply::range(answer, after, (room, self.id));
        let (epoch, range) = read.map_err(|strange| self.strange(&strange))?;
        self.stale(epoch)?;
        Ok(Answer::Here(range))
    }

    pub(super) async fn room_tops(&self, rooms: &[RoomName]) -> Result<Vec<Position>, Error> {
        let mut calls = redis::pipe();
        for room in rooms {
            calls
                .cmd("HMGET")
                .arg(self.keys.meta(room))
                .arg("e")
                .arg("n");
        }
        let answers = self.ask_all(&calls).await;
        let read = |answer: Result<Value, Error>| {
            self.top_of(answer?)
                .map_err(|strange| self.strange(&strange))
        };
        answers.into_iter().map(read).collect()
    }

    fn top_of(&self, answer: Value) -> Result<Position, Strange> {
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
    }

    pub(super) async fn tombstone(&self, room: &RoomName, ring_version: u64) -> Result<(), Error> {
        let mut call = cmd("FCALL");
        call.arg("vb1_tombstone")
            .arg(1)
            .arg(self.keys.meta(room))
            .arg(ring_version);
        self.ask(&call).await.map(drop)
    }

    pub(super) fn strange(&self, strange: &Strange) -> Error {
        tracing::error!(shard = %self.id, error = %strange, "a shard's answer cannot be used");
        Error::Unavailable { shard: self.id }
    }
}

/// What a shard says of a room that it may not have yet.
#[derive(Debug)]
pub(super) enum Answer<T> {
    /// It has it.
    Here(T),
    /// It is to be fetched first.
    Absent,
    /// The shard knows a newer ring, of this fence.
    Moved(u64),
}

/// What functions take for it.
pub(super) fn may_be_elsewhere(view: &View, room: &RoomName) -> &'static str {
    match view.was(room.as_str()) {
        Some(_) => "1",
        None => "",
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// More than a room keeps.
const ENTRIES_AT_ONCE: usize = 1_000_000;

/// Lua's numbers are doubles: beyond this they are not exact, and nothing real is.
fn bounded(number: u64) -> u64 {
    number.min(1 << 53)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
