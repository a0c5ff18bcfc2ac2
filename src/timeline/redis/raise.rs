//! The raise of a shard's epoch: the server is another process than the shard knows, so it may have lost
//! what was written last.
//!
//! One node at a time puts back what was settled and is missing (it reads topic `timeline` for that), then
//! begins the next epoch. Until then every call to the shard answers [`Error::Unavailable`]. What was not
//! settled is applied again from the log: no commit covers it.
//!
//! Which settled entries can be missing is known without a clock. Settling notes the offset of the entry's
//! record in topic `timeline`. A lost entry was applied after the last write that the server still has, so
//! its record stands behind every offset that the server knows.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, Value, cmd};

use super::Timeline;
use super::keys;
use super::reply::{self, Strange};
use super::shard::{Shard, ms};
use crate::backend::redis::{Connection, Error as ServerError};
use crate::timeline::entry::Entry;
use crate::timeline::{Error, RoomTop};
use crate::types::{Epoch, RoomName, ShardId, ShardPosition, ShardSeq};

/// A raise that this process has begun.
#[derive(Debug)]
pub struct Raise {
    /// The shard.
    pub shard: ShardId,
    /// Where its server stands.
    pub at: ShardPosition,
    /// The highest offset in each partition of topic `timeline` that the server knows of; what it
    /// misses stands behind these, or in partitions that are not named.
    pub offsets: BTreeMap<u32, u64>,
    connection: Connection,
    /// The last place that was put back, by epoch.
    ends: BTreeMap<u64, u64>,
}

impl Raise {
    /// Whether the server has nothing at all: it is new, or came back empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at.epoch.0 == 0
    }

    /// The epoch that begins is above this one.
    pub(super) fn is_above(&mut self, epoch: Epoch) {
        self.ends.entry(epoch.0).or_default();
    }

    pub(super) async fn ask(&self, call: &Cmd) -> Result<Value, ServerError> {
        self.connection.ask(call).await
    }
}

impl Timeline {
    /// Resolves when a shard waits for its epoch to be raised. Cancel-safe.
    pub async fn raise_needed(&self) -> ShardId {
        loop {
            let woken = self.0.needs_raise.notified();
            if let Some(shard) = self.0.shards.iter().find(|shard| shard.needs_raise()) {
                return shard.id;
            }
            woken.await;
        }
    }

    /// Begins to raise a shard's epoch, if it is to be done and nobody else does it.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn begin_raise(&self, shard: ShardId) -> Result<Option<Raise>, Error> {
        self.shard(shard).begin_raise().await
    }

    /// Puts entries back that the shard does not have; each room's in their order.
    ///
    /// # Errors
    /// When the shard does not answer, or somebody else has taken the raise over.
    pub async fn restore_entries(&self, raise: &mut Raise, entries: &[Entry]) -> Result<(), Error> {
        let shard = self.shard(raise.shard);
        let mut rooms: Vec<&RoomName> = entries.iter().map(|entry| &entry.room).collect();
        rooms.dedup();
        for room in rooms {
            self.fetch_raising(raise, room).await?;
        }
        for batch in entries.chunks(BATCH) {
            let mut calls = Pipeline::with_capacity(batch.len());
            for entry in batch {
                let end = raise.ends.entry(entry.epoch.0).or_default();
                if entry.shard == shard.id {
                    *end = entry.shard_seq.0.max(*end);
                }
                calls.add_command(shard.restoring(entry));
            }
            shard.put_back(raise, &calls).await?;
        }
        Ok(())
    }

    /// Lets rooms go on above these places, though what is before them is not put back.
    ///
    /// # Errors
    /// When the shard does not answer, or somebody else has taken the raise over.
    pub async fn restore_tops(&self, raise: &Raise, tops: &[RoomTop]) -> Result<(), Error> {
        let shard = self.shard(raise.shard);
        for batch in tops.chunks(BATCH) {
            let mut calls = Pipeline::with_capacity(batch.len());
            for (room, top) in batch {
                let mut call = cmd("FCALL");
                call.arg("vb1_restore_top").arg(4).arg(shard.keys.raise());
                call.arg(shard.keys.meta(room))
                    .arg(shard.keys.stream(room))
                    .arg(shard.keys.open(room));
                call.arg(&shard.token).arg(RAISE_MS);
                call.arg(top.epoch.0).arg(top.seq.0);
                calls.add_command(call);
            }
            shard.put_back(raise, &calls).await?;
        }
        Ok(())
    }

    /// Begins the next epoch.
    ///
    /// # Errors
    /// When the shard does not answer, or somebody else has taken the raise over.
    pub async fn end_raise(&self, raise: Raise) -> Result<Epoch, Error> {
        let fence = self.view().plan.fence;
        self.shard(raise.shard).end_raise(raise, fence).await
    }
}

impl Shard {
    pub(super) async fn begin_raise(&self) -> Result<Option<Raise>, Error> {
        let connection = self.connect().await.map_err(|error| self.gone(&error))?;
        let mut begin = cmd("FCALL");
        begin.arg("vb1_raise_begin").arg(2);
        begin.arg(self.keys.shard()).arg(self.keys.raise());
        begin.arg(connection.run_id()).arg(&self.name);
        begin.arg(self.top().epoch.0).arg(&self.token).arg(RAISE_MS);
        let answer: Value = connection
            .ask(&begin)
            .await
            .map_err(|error| self.gone(&error))?;
        let begun = reply::list(answer).and_then(|parts| {
            // Else somebody has done it, or does it.
            let is_ours = reply::text(parts.first())? == "YOURS";
            Ok(is_ours.then_some(parts))
        });
        let begun = begun.map_err(|strange| self.strange(&strange))?;
        let Some(parts) = begun else {
            self.look_again();
            return Ok(None);
        };
        let read = || {
            let number = |index: usize| reply::number(parts.get(index));
            let mut offsets = BTreeMap::new();
            for index in (3..parts.len()).step_by(2) {
                let partition =
                    u32::try_from(number(index)?).map_err(|_| Strange("not a partition"))?;
                offsets.insert(partition, number(index + 1)?);
            }
            let at = ShardPosition {
                epoch: Epoch(number(1)?),
                shard_seq: ShardSeq(number(2)?),
            };
            Ok(Raise {
                shard: self.id,
                at,
                offsets,
                connection,
                ends: BTreeMap::new(),
            })
        };
        read()
            .map(Some)
            .map_err(|strange: Strange| self.strange(&strange))
    }

    fn restoring(&self, entry: &Entry) -> Cmd {
        let limits = &self.limits;
        let [ids, ..] = self.keys.ids(&entry.room, entry.at, limits.dedup_window);
        let mut call = cmd("FCALL");
        call.arg("vb1_restore").arg(5).arg(self.keys.raise());
        call.arg(self.keys.meta(&entry.room))
            .arg(self.keys.stream(&entry.room))
            .arg(self.keys.open(&entry.room))
            .arg(ids);
        call.arg(&self.token).arg(RAISE_MS);
        call.arg(entry.epoch.0)
            .arg(entry.seq.0)
            .arg(entry.shard_seq.0);
        call.arg(keys::source(&entry.source)).arg(entry.offset);
        call.arg(entry.id.as_str())
            .arg(entry.at.as_millis())
            .arg(&entry.payload[..]);
        call.arg(limits.entries_max).arg(ms(limits.dedup_window));
        match entry.shard == self.id {
            true => call.arg(""),
            false => call.arg(entry.shard.0),
        };
        call
    }

    async fn put_back(&self, raise: &Raise, calls: &Pipeline) -> Result<(), Error> {
        let answers = raise.connection.ask_all(calls).await;
        for answer in answers.map_err(|error| self.gone(&error))? {
            let answer = answer.map_err(|error| self.gone(&error))?;
            let word = reply::list(answer).and_then(|parts| reply::text(parts.first()));
            if word.map_err(|strange| self.strange(&strange))? != "OK" {
                return Err(Error::Unavailable { shard: self.id });
            }
        }
        Ok(())
    }

    pub(super) async fn end_raise(&self, raise: Raise, fence: u64) -> Result<Epoch, Error> {
        let mut end = cmd("FCALL");
        end.arg("vb1_raise_end")
            .arg(2)
            .arg(self.keys.shard())
            .arg(self.keys.raise());
        end.arg(&self.token)
            .arg(raise.connection.run_id())
            .arg(&self.name);
        end.arg(self.top().epoch.0).arg(fence);
        for (epoch, shard_seq) in &raise.ends {
            end.arg(epoch).arg(shard_seq);
        }
        let answer: Value = raise
            .connection
            .ask(&end)
            .await
            .map_err(|error| self.gone(&error))?;
        let parts = reply::list(answer).map_err(|strange| self.strange(&strange))?;
        let epoch =
            reply::number(parts.get(1)).map_err(|_| Error::Unavailable { shard: self.id })?;
        tracing::info!(shard = %self.id, epoch, "an epoch begins");
        self.look_again();
        Ok(Epoch(epoch))
    }
}

/// Whoever raises says at least this often that it is still at it.
const RAISE_MS: u64 = 10_000;
const BATCH: usize = 256;
