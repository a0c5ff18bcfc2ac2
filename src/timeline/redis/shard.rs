//! One shard: its connection, the epoch it is in, its calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::Notify;

use super::Options as TimelineOptions;
use super::keys::{self, Keys};
use super::reply::{self, Strange};
use crate::backend::redis::{Connection, Error as ServerError, Options, ShardOptions};
use crate::timeline::entry::Entry;
use crate::timeline::{Apply, Error, Limits, Outcome, Range, Settle, Settlement};
use crate::types::{Epoch, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq};

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: ShardId,
    pub(super) name: String,
    options: Options,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    is_raised: bool,
    pub(super) replicas: u32,
    /// The connection that has entered; its number tells a late failure from a new connection's.
    link: Mutex<Option<(u64, Connection)>>,
    entering: tokio::sync::Mutex<u64>,
    /// The furthest place that was heard of.
    top: Mutex<ShardPosition>,
    /// Its server is another process than it knows, and nobody has raised its epoch yet.
    waits: AtomicBool,
    needs_raise: Arc<Notify>,
    looked_again: Notify,
}

/// The functions, and their library's version in its name: two versions live side by side.
const LIBRARY: &str = include_str!("timeline.lua");

/// How long a call waits for an epoch to be raised before it is refused.
const RAISED_WITHIN: Duration = Duration::from_secs(2);
/// How often is looked whether another node has raised it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
            entering: tokio::sync::Mutex::new(0),
            top: Mutex::new(ShardPosition::default()),
            waits: AtomicBool::new(false),
            needs_raise,
            looked_again: Notify::new(),
        }
    }

    pub(super) fn top(&self) -> ShardPosition {
        *lock(&self.top)
    }

    fn heard(&self, at: ShardPosition) {
        let mut top = lock(&self.top);
        *top = (*top).max(at);
    }

    /// Connects if there is no connection: loads the functions and looks whether the server is the
    /// process that the shard knows.
    ///
    /// # Errors
    /// When the server does not answer, or the shard's epoch has to be raised first.
    pub(super) async fn enter(&self) -> Result<(), ServerError> {
        self.entered().await.map(drop)
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        let entered = self.entered().await;
        let (_, connection) = entered.map_err(|error| self.gone(&error))?;
        let ping: Result<Value, ServerError> = connection.ask(&cmd("PING")).await;
        if let Err(error) = ping {
            self.forget_link(&connection);
            return Err(self.gone(&error));
        }
        Ok(())
    }

    pub(super) fn is_entered(&self) -> bool {
        lock(&self.link).is_some()
    }

    pub(super) fn needs_raise(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whoever waits for the raise looks whether it was done.
    pub(super) fn look_again(&self) {
        self.waits.store(false, Ordering::Release);
        self.looked_again.notify_waiters();
    }

    /// A connection with the functions loaded, which has not entered.
    pub(super) async fn connect(&self) -> Result<Connection, ServerError> {
        let connection = Connection::open(&self.options).await?;
        let mut load = cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
        let _: Value = connection.ask(&load).await?;
        Ok(connection)
    }

    async fn entered(&self) -> Result<(u64, Connection), ServerError> {
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let mut entering = self.entering.lock().await;
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let connection = self.connect().await?;
        let until = tokio::time::Instant::now() + RAISED_WITHIN;
        loop {
            let mut look = cmd("FCALL");
            look.arg("vb1_stand").arg(1).arg(self.keys.shard());
            look.arg(connection.run_id())
                .arg(&self.name)
                .arg(self.top().epoch.0);
            let parts: Vec<String> = connection.ask(&look).await?;
            match parts.first().map(String::as_str) {
                Some("CURRENT") => {
                    let number = |index: usize| parts.get(index).and_then(|text| text.parse().ok());
                    self.heard(ShardPosition {
                        epoch: Epoch(number(1).unwrap_or_default()),
                        shard_seq: ShardSeq(number(2).unwrap_or_default()),
                    });
                    break;
                }
                Some("RAISE") => self.wait_for_raise(until).await?,
                _ => {
                    let other = parts.get(1).map_or("", String::as_str);
                    tracing::error!(shard = %self.id, name = %self.name, other,
                        "this server is another shard's: the order of the configured shards was changed");
                    return Err(ServerError::Nowhere("the server belongs to another shard"));
                }
            }
        }
        self.waits.store(false, Ordering::Release);
        *entering += 1;
        let link = (*entering, connection);
        *lock(&self.link) = Some(link.clone());
        Ok(link)
    }

    async fn wait_for_raise(&self, until: tokio::time::Instant) -> Result<(), ServerError> {
        if !self.is_raised {
            let nothing = |_: Error| ServerError::Nowhere("its epoch could not be raised");
            if let Some(raise) = self.begin_raise().await.map_err(nothing)? {
                self.end_raise(raise).await.map_err(nothing)?;
            }
            return Ok(());
        }
        let looked_again = self.looked_again.notified();
        self.waits.store(true, Ordering::Release);
        self.needs_raise.notify_one();
        if tokio::time::Instant::now() >= until {
            return Err(ServerError::Nowhere("its epoch is being raised"));
        }
        // Another node may do it, of which nothing is heard here.
        let _another_node_may = tokio::time::timeout(LOOK_EVERY, looked_again).await;
        Ok(())
    }

    fn link(&self) -> Option<(u64, Connection)> {
        lock(&self.link).clone()
    }

    /// Whoever asks next enters anew and so notices a server that is another one.
    fn forget(&self, number: u64) {
        let mut link = lock(&self.link);
        if link.as_ref().is_some_and(|(current, _)| *current == number) {
            *link = None;
        }
    }

    fn forget_link(&self, connection: &Connection) {
        let mut link = lock(&self.link);
        if link
            .as_ref()
            .is_some_and(|(_, current)| current.run_id() == connection.run_id())
        {
            *link = None;
        }
    }

    pub(super) fn gone(&self, error: &ServerError) -> Error {
        match error.retry() {
            true => tracing::debug!(shard = %self.id, %error, "a shard did not answer"),
            false => tracing::error!(shard = %self.id, %error, "a shard refused a call"),
        }
        Error::Unavailable { shard: self.id }
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, Error> {
        let (number, connection) = self.entered().await.map_err(|error| self.gone(&error))?;
        connection.ask(command).await.map_err(|error| {
            self.forget(number);
            self.gone(&error)
        })
    }

    /// Asks many at once; each answer, or why there is none. After a refusal that may heal the
    /// connection is another one.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Vec<Result<Value, Error>> {
        let failed = |error: Error| (0..commands.len()).map(|_| Err(error.clone())).collect();
        let (number, connection) = match self.entered().await {
            Ok(link) => link,
            Err(error) => return failed(self.gone(&error)),
        };
        match connection.ask_all(commands).await {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| {
                    answer.map_err(|error| {
                        self.forget(number);
                        self.gone(&error)
                    })
                })
                .collect(),
            Err(error) => {
                self.forget(number);
                failed(self.gone(&error))
            }
        }
    }

    /// Applies in this order, in one round trip.
    pub(super) async fn apply_all(&self, applies: Vec<Apply>) -> Vec<Result<Outcome, Error>> {
        let mut calls = Pipeline::with_capacity(applies.len());
        for apply in &applies {
            calls.add_command(self.applying(apply));
        }
        let answers = self.ask_all(&calls).await;
        let outcomes = answers.into_iter().zip(applies).map(|(answer, apply)| {
            self.outcome(answer?, apply)
                .map_err(|strange| self.strange(&strange))
        });
        outcomes.collect()
    }

    fn applying(&self, apply: &Apply) -> Cmd {
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
            .arg(ms(limits.dedup_window))
            .arg(self.options.place.publish());
        call
    }

    /// Notes what is durable in topic `timeline`, in one round trip.
    pub(super) async fn settle_all(&self, settles: &[Settle]) -> Vec<Result<Settlement, Error>> {
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
            calls.add_command(call);
        }
        let answers = self.ask_all(&calls).await;
        let read = |answer: Result<Value, Error>| {
            let parts = reply::list(answer?).map_err(|strange| self.strange(&strange))?;
            let word = reply::text(parts.first()).map_err(|strange| self.strange(&strange))?;
            if word == "OK" {
                return Ok(Settlement::Done);
            }
            let epoch = reply::number(parts.get(1)).map_err(|strange| self.strange(&strange))?;
            let epoch = Epoch(epoch);
            self.heard(ShardPosition {
                epoch,
                shard_seq: ShardSeq(0),
            });
            Ok(Settlement::Stale { epoch })
        };
        answers.into_iter().map(read).collect()
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
            .arg(limit.min(ENTRIES_AT_ONCE))
            .arg(bounded(up_to.epoch.0))
            .arg(bounded(up_to.shard_seq.0));
        let answer = self.ask(&call).await?;
        reply::range(answer, after, (room, self.id)).map_err(|strange| self.strange(&strange))
    }

    pub(super) async fn room_top(&self, room: &RoomName) -> Result<Position, Error> {
        let answer = self
            .ask(cmd("HMGET").arg(self.keys.meta(room)).arg("e").arg("n"))
            .await?;
        self.top_of(answer)
            .map_err(|strange| self.strange(&strange))
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

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// More than a room keeps.
const ENTRIES_AT_ONCE: usize = 1_000_000;

/// Lua's numbers are doubles: beyond this they are not exact, and nothing real is.
fn bounded(number: u64) -> u64 {
    number.min(1 << 53)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
