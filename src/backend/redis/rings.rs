//! The plan of the ring, as a cluster agrees on it: every shard keeps the newest that it has heard of, and
//! every node looks again and again, acts by the newest and tells it to shards that are behind.
//!
//! The first plan of a cluster is agreed on by its first shard, when all shards are there and none has any.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::cmd;

use super::shards::lock;
use super::{Error, Shards};
use crate::placement::{Plan, PlanError};
use crate::telemetry::metrics;
use crate::types::ShardId;

/// The function; loaded with every connection.
pub(super) const LIBRARY: &str = include_str!("rings.lua");

/// How often is looked for a newer plan.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For how long after a change ephemeral events go to the old place, which everybody still hears: all
/// nodes have looked by then.
const HEARD_BY_ALL: Duration = Duration::from_secs(3);

/// Why a plan was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// A shard did not answer.
    #[error("shard {0:?} does not answer")]
    Away(String, #[source] Error),
    /// A shard did not answer when others may have had the plan.
    #[error(
        "shard {0:?} did not answer, and the change may have begun on others, from where nodes take it up: see `vestibule ring show`"
    )]
    Unsure(String, #[source] Error),
    /// Somebody else was quicker.
    #[error("another plan was put meanwhile; look again")]
    Outrun,
    /// It cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Shards {
    /// Where a room is.
    #[must_use]
    pub fn shard_of_room(&self, room: &str) -> ShardId {
        self.rings().view().room(room)
    }

    /// Where a room's ephemeral events are published: where all nodes hear them.
    #[must_use]
    pub fn heard_at(&self, room: &str) -> ShardId {
        let view = self.rings().view();
        match view.was(room) {
            Some(was) if lock(self.adopted()).elapsed() < HEARD_BY_ALL => was,
            _ => view.room(room),
        }
    }

    /// Looks for a newer plan once, and tells it to shards that are behind. Whether there is an agreed one.
    ///
    /// # Errors
    /// When the newest cannot be used here.
    pub async fn look_for_plan(&self) -> Result<bool, PlanError> {
        let read = self
            .all()
            .map(async |shard| (shard, self.plan_on(shard).await));
        let plans = join_all(read).await;
        let known = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok());
        let newest = known
            .flatten()
            .max_by_key(|plan| plan.version)
            .cloned()
            .or_else(|| {
                let current = self.rings().view().plan.clone();
                (current.version > 0).then_some(current)
            });
        let newest = match newest {
            Some(newest) => newest,
            None if plans.iter().any(|(_, plan)| plan.is_err()) => return Ok(false),
            None => {
                let mut first = self.rings().view().plan.clone();
                first.version = 1;
                match self.put_plan_on(ShardId(0), &first).await {
                    Ok(Some(plan)) => plan,
                    _ => return Ok(false),
                }
            }
        };
        if self.adopt(newest)? {
            let view = self.rings().view();
            tracing::info!(version = view.plan.version, shards = ?view.plan.rooms, "the ring is another one");
        }
        let newest = self.rings().view().plan.clone();
        let is_behind = |plan: &Result<Option<Plan>, Error>| match plan {
            Ok(plan) => plan
                .as_ref()
                .is_none_or(|plan| plan.version < newest.version),
            Err(_) => false,
        };
        for (shard, _) in plans.iter().filter(|(_, plan)| is_behind(plan)) {
            if let Err(error) = self.put_plan_on(*shard, &newest).await {
                tracing::debug!(%shard, %error, "a shard was not told of the ring");
            }
        }
        Ok(true)
    }

    /// Looks for newer plans for ever.
    pub async fn keep_plan(self) {
        let mut told = None;
        loop {
            let plan = self.look_for_plan().await;
            for shard in self.all() {
                let share = metrics::RING_SHARE.of([self.name(shard)]);
                share.set(self.share(shard));
            }
            match plan {
                Ok(_) => told = None,
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::error!(%error, "the cluster's ring cannot be used by this node");
                        told = Some(text);
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Puts a plan in force: on every shard.
    ///
    /// # Errors
    /// When a shard does not answer (nodes tell it later), or another plan is newer.
    pub async fn put_plan(&self, plan: Plan) -> Result<(), PutError> {
        for shard in self.all() {
            let put = self.put_plan_on(shard, &plan).await;
            let put = put.map_err(|error| PutError::Unsure(self.name(shard).to_owned(), error))?;
            if put.as_ref() != Some(&plan) {
                return Err(PutError::Outrun);
            }
        }
        self.adopt(plan)?;
        Ok(())
    }

    /// Whether every shard answers.
    ///
    /// # Errors
    /// With the first that does not.
    pub async fn all_answer(&self) -> Result<(), PutError> {
        for shard in self.all() {
            let plan = self.plan_on(shard).await;
            plan.map_err(|error| PutError::Away(self.name(shard).to_owned(), error))?;
        }
        Ok(())
    }

    fn adopt(&self, plan: Plan) -> Result<bool, PlanError> {
        let fence = self.rings().view().plan.fence;
        let is_newer = self.rings().adopt(plan)?;
        if self.rings().view().plan.fence > fence {
            *lock(self.adopted()) = Instant::now();
        }
        Ok(is_newer)
    }

    async fn plan_on(&self, shard: ShardId) -> Result<Option<Plan>, Error> {
        let mut get = cmd("HGET");
        get.arg(format!("{}:s", Self::tag(shard))).arg("ring");
        let text: Option<String> = self.ask(shard, &get).await?;
        Ok(self.plan_of(shard, text))
    }

    async fn put_plan_on(&self, shard: ShardId, plan: &Plan) -> Result<Option<Plan>, Error> {
        let json = serde_json::to_string(plan).unwrap_or_default();
        let mut call = cmd("FCALL");
        call.arg("vb1_ring_put").arg(1);
        call.arg(format!("{}:s", Self::tag(shard)));
        call.arg(plan.version).arg(plan.fence).arg(json);
        let text: Option<String> = self.ask(shard, &call).await?;
        Ok(self.plan_of(shard, text))
    }

    fn plan_of(&self, shard: ShardId, text: Option<String>) -> Option<Plan> {
        let plan = serde_json::from_str(&text?);
        if let Err(error) = &plan {
            tracing::error!(shard = self.name(shard), %error, "a shard's ring is no plan; it is replaced");
        }
        plan.ok()
    }
}
