//! The move of a room to its place on a newer ring.
//!
//! Whoever is first to need a room that is still where it was before brings it: at its old shard nothing is
//! applied to it any more, because that shard knows the ring (the fence); what it holds is read there and
//! written at the new place, with the places that its entries have. Only then is anything applied there.
//! Each step may be repeated, and be done by several nodes at once.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};

use super::Timeline;
use super::raise::Raise;
use super::reply::{self, Strange};
use super::shard::{Shard, ms};
use crate::placement::View;
use crate::timeline::Error;
use crate::types::{Epoch, RoomName, ShardId, ShardPosition, ShardSeq, Timestamp};

/// How long a call waits for the plan that a shard knows already.
const PLAN_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a call begins anew because the ring or an epoch changed under it.
pub(super) const TURNS_MAX: usize = 8;
/// How long what has left is kept.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
/// Keys that a shard looks at in one turn of a scan.
const SCANNED: usize = 1_000;

/// What a room left behind.
struct Left {
    /// The highest epoch that it knows.
    epoch: Epoch,
    meta: Vec<Value>,
    open: Vec<Value>,
    entries: Vec<Value>,
    ids: Vec<Vec<Value>>,
    /// When its newest record was written.
    newest: Timestamp,
}

/// What the new place says.
enum Arrival {
    Here,
    Behind,
    Moved(u64),
}

impl Timeline {
    /// Brings a room to its place, if it may still be where it was before. Safe to repeat.
    ///
    /// # Errors
    /// When one of both shards does not answer.
    pub async fn fetch(&self, room: &RoomName) -> Result<(), Error> {
        // Each turn, a shard knew more than was known here; plans and epochs that change faster than this are
        // left to the caller's next try.
        for _ in 0..TURNS_MAX {
            let view = self.view();
            let Some(was) = view.was(room.as_str()) else {
                return Ok(());
            };
            let now = self.shard(view.room(room.as_str()));
            let left = self.shard(was).leave(room, view.plan.fence).await?;
            let call = now.arriving(room, (was, view.plan.fence), left.as_ref());
            match now.arrival(now.ask(&call).await?)? {
                Arrival::Here => return Ok(()),
                Arrival::Behind => now.lift(left.map_or(Epoch(0), |left| left.epoch)).await?,
                Arrival::Moved(fence) => self.newer_ring(fence).await,
            }
        }
        let shard = self.shard_of(room);
        Err(Error::Unavailable { shard })
    }

    /// The same on a shard that is being raised, before what it lost is put back.
    pub(super) async fn fetch_raising(
        &self,
        raise: &mut Raise,
        room: &RoomName,
    ) -> Result<(), Error> {
        let view = self.view();
        let Some(was) = view.was(room.as_str()) else {
            return Ok(());
        };
        let now = self.shard(raise.shard);
        if view.room(room.as_str()) != raise.shard || was == raise.shard {
            return Ok(());
        }
        let Some(left) = self.shard(was).leave(room, view.plan.fence).await? else {
            return Ok(());
        };
        // The epoch that is to begin is above the room's.
        raise.is_above(left.epoch);
        let left = Left {
            epoch: Epoch(0),
            ..left
        };
        let call = now.arriving(room, (was, view.plan.fence), Some(&left));
        now.arrival(raise.ask(&call).await.map_err(|error| now.gone(&error))?)
            .map(drop)
    }

    /// Waits until this process places rooms by the ring that a shard knows, for a moment.
    pub(super) async fn newer_ring(&self, fence: u64) {
        let newer = async {
            while self.view().plan.fence < fence {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PLAN_WITHIN, newer).await.is_err() {
            tracing::warn!(
                fence,
                "a shard knows a newer ring, which this node has not heard of"
            );
        }
    }

    /// Makes a shard refuse callers who place rooms by an older ring than this process does.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn fence(&self, shard: ShardId) -> Result<(), Error> {
        let shard = self.shard(shard);
        let mut call = cmd("FCALL");
        call.arg("vb1_fence").arg(1).arg(shard.keys.shard());
        call.arg(self.view().plan.fence);
        shard.ask(&call).await.map(drop)
    }

    /// One turn of a scan for rooms that are on a shard and belong elsewhere: those that have to be
    /// fetched, those that were, and where to go on; 0 when it is over.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn strangers(&self, shard: ShardId, cursor: u64) -> Result<Strangers, Error> {
        let (view, shard) = (self.view(), self.shard(shard));
        let prefix = shard.keys.metas();
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*"));
        scan.arg("COUNT").arg(SCANNED);
        let read = |answer: Value| {
            let parts = reply::list(answer)?;
            let keys = reply::list(parts.get(1).cloned().ok_or(Strange("no keys"))?)?;
            Ok((reply::number(parts.first())?, keys))
        };
        let answer = shard.ask(&scan).await?;
        let (cursor, keys) = read(answer).map_err(|strange| shard.strange(&strange))?;
        let room = |key: Value| {
            let key = reply::text(Some(&key)).ok()?;
            RoomName::parse(key.strip_prefix(&prefix)?).ok()
        };
        let is_strange = |room: &RoomName| view.room(room.as_str()) != shard.id;
        let rooms: Vec<RoomName> = keys
            .into_iter()
            .filter_map(room)
            .filter(is_strange)
            .collect();
        let mut calls = Pipeline::with_capacity(rooms.len());
        for room in &rooms {
            calls.cmd("HGET").arg(shard.keys.meta(room)).arg("mv");
        }
        let mut strangers = Strangers {
            cursor,
            ..Strangers::default()
        };
        if rooms.is_empty() {
            return Ok(strangers);
        }
        for (room, mark) in rooms.into_iter().zip(shard.ask_all(&calls).await) {
            match mark? {
                Value::Nil => strangers.to_fetch.push(room),
                _ => strangers.left.push(room),
            }
        }
        Ok(strangers)
    }

    /// What these rooms left on a shard is kept for an hour more.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn forget(&self, shard: ShardId, rooms: &[RoomName]) -> Result<(), Error> {
        let shard = self.shard(shard);
        let mut calls = Pipeline::with_capacity(rooms.len());
        for room in rooms {
            let mut call = cmd("FCALL");
            call.arg("vb1_forget").arg(3).arg(shard.keys.meta(room));
            call.arg(shard.keys.stream(room)).arg(shard.keys.open(room));
            calls.add_command(call.arg(ms(KEPT_FOR)).clone());
        }
        if rooms.is_empty() {
            return Ok(());
        }
        for answer in shard.ask_all(&calls).await {
            drop(answer?);
        }
        Ok(())
    }

    /// The ring by which this process places rooms.
    #[must_use]
    pub fn view(&self) -> std::sync::Arc<View> {
        self.0.rings.view()
    }
}

/// Rooms on a shard that belong elsewhere.
#[derive(Debug, Default)]
pub struct Strangers {
    /// Nobody has fetched these.
    pub to_fetch: Vec<RoomName>,
    /// These have left; what is here is a copy.
    pub left: Vec<RoomName>,
    /// Where to go on; 0 when all were looked at.
    pub cursor: u64,
}

impl Shard {
    /// What a room holds here; from now on nothing more. `None` when that is nothing.
    async fn leave(&self, room: &RoomName, fence: u64) -> Result<Option<Left>, Error> {
        let mut newest = cmd("HGET");
        newest.arg(self.keys.meta(room)).arg("x");
        let newest = match self.ask(&newest).await? {
            Value::Nil => 0,
            value => reply::text(Some(&value))
                .and_then(|text| text.parse().map_err(|_| Strange("not a time")))
                .map_err(|strange| self.strange(&strange))?,
        };
        let newest = Timestamp::from_millis(newest);
        let mut call = cmd("FCALL");
        call.arg("vb1_leave_room").arg(7).arg(self.keys.shard());
        call.arg(self.keys.meta(room))
            .arg(self.keys.stream(room))
            .arg(self.keys.open(room));
        call.arg(&self.keys.ids(room, newest, self.limits.dedup_window));
        call.arg(fence);
        let read = |answer: Value| {
            let mut parts = reply::list(answer)?.into_iter();
            let word = reply::text(parts.next().as_ref())?;
            if word != "ROOM" {
                return Ok((word, None));
            }
            let mut next = || reply::list(parts.next().ok_or(Strange("a part is missing"))?);
            let (meta, open, entries) = (next()?, next()?, next()?);
            let mut ids = Vec::new();
            for _ in 0..3 {
                ids.push(next()?);
            }
            let epoch = meta.chunks(2).find_map(|pair| match pair {
                [Value::BulkString(field), value] if field == b"e" => Some(value),
                _ => None,
            });
            let left = Left {
                epoch: Epoch(epoch.map_or(Ok(0), |epoch| reply::number(Some(epoch)))?),
                meta,
                open,
                entries,
                ids,
                newest,
            };
            Ok((word, Some(left)))
        };
        let answer = self.ask(&call).await?;
        let (word, left) = read(answer).map_err(|strange| self.strange(&strange))?;
        // The ring of this process is old: its caller looks again.
        if word == "MOVED" {
            return Err(Error::Unavailable { shard: self.id });
        }
        Ok(left)
    }

    fn arriving(&self, room: &RoomName, (was, fence): (ShardId, u64), left: Option<&Left>) -> Cmd {
        let newest = left.map_or_else(|| Timestamp::from_millis(0), |left| left.newest);
        let mut call = cmd("FCALL");
        call.arg("vb1_arrive").arg(7).arg(self.keys.shard());
        call.arg(self.keys.meta(room))
            .arg(self.keys.stream(room))
            .arg(self.keys.open(room));
        call.arg(&self.keys.ids(room, newest, self.limits.dedup_window));
        call.arg(fence).arg(was.0);
        call.arg(left.map_or(0, |left| left.epoch.0));
        call.arg(ms(self.limits.dedup_window))
            .arg(ms(self.limits.ttl));
        let Some(left) = left else {
            for _ in 0..6 {
                call.arg(0);
            }
            return call;
        };
        list(&mut call, &left.meta);
        list(&mut call, &left.open);
        call.arg(left.entries.len());
        for entry in &left.entries {
            if let Value::Array(parts) = entry
                && let [id, Value::Array(fields)] = &parts[..]
            {
                bytes(&mut call, id);
                list(&mut call, fields);
            }
        }
        left.ids.iter().for_each(|ids| list(&mut call, ids));
        call
    }

    fn arrival(&self, answer: Value) -> Result<Arrival, Error> {
        let read = || {
            let parts = reply::list(answer)?;
            Ok(match reply::text(parts.first())?.as_str() {
                "OK" | "HERE" => Arrival::Here,
                "BEHIND" => Arrival::Behind,
                "MOVED" => Arrival::Moved(reply::number(parts.get(1))?),
                _ => return Err(Strange("an unknown arrival")),
            })
        };
        read().map_err(|strange| self.strange(&strange))
    }

    /// Begins an epoch that is not below this one.
    async fn lift(&self, epoch: Epoch) -> Result<(), Error> {
        let mut call = cmd("FCALL");
        call.arg("vb1_lift").arg(1).arg(self.keys.shard());
        let answer = self.ask(call.arg(epoch.0)).await?;
        let epoch = reply::number(Some(&answer)).map_err(|strange| self.strange(&strange))?;
        tracing::info!(shard = %self.id, epoch, "an epoch begins, for rooms that come here");
        self.heard(ShardPosition {
            epoch: Epoch(epoch),
            shard_seq: ShardSeq(0),
        });
        Ok(())
    }
}

/// A list after its length.
fn list(call: &mut Cmd, values: &[Value]) {
    call.arg(values.len());
    values.iter().for_each(|value| bytes(call, value));
}

fn bytes(call: &mut Cmd, value: &Value) {
    match value {
        Value::BulkString(value) => call.arg(&value[..]),
        Value::SimpleString(value) => call.arg(value),
        Value::Int(value) => call.arg(*value),
        // A function answers nothing else.
        _ => call.arg(""),
    };
}
