//! What is done once a second: writing users again where a shard forgot them, telling what nobody told,
//! sweeping nodes that are gone.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;

use super::calls::Silent;
use super::{BATCH, Shared, lock};
use crate::cluster::membership::{DUTY_NODES, Gone, Partitions, View, duty_presence};
use crate::telemetry::metrics;
use crate::types::{NodeId, ShardId, Timestamp, UserId};

/// What nobody has told for so long is told by whoever has the duty.
const OVERDUE: Duration = Duration::from_secs(5);
/// Users of dead nodes that are swept on a shard within a second.
const SWEPT_MAX: usize = 10_240;
/// Everybody who was on a dead node is told to be offline so long after its lease ended, at most.
const GRACE_MAX: Duration = Duration::from_secs(8);
/// A node that is gone is remembered for so long after its sweep.
const REMEMBERED_FOR: Duration = Duration::from_secs(2);

impl Shared {
    /// Once a second, by the task that tells.
    pub(in crate::cluster::presence) async fn upkeep(&self) {
        self.0.local.with(|table| table.release());
        if !self.0.membership.holds_lease() {
            // The others may sweep this node: what it wrote now they would take off again.
            return;
        }
        let view = self.0.membership.view();
        let live = view.names();
        let shards = self.0.shards.all().map(async |shard| {
            if self.enter(shard, &live).await.is_err() {
                return;
            }
            // The duty is asked about again before each step: a lease may end meanwhile.
            if self.0.membership.has_duty(&duty_presence(shard)) {
                drop(self.take_over(shard).await);
            }
            let strays = self.strays(shard, &view).await.unwrap_or_default();
            for gone in view
                .gone
                .iter()
                .chain(&strays)
                .filter(|gone| self.is_due(gone))
            {
                if self.sweep(shard, gone).await.is_err() {
                    return;
                }
            }
        });
        join_all(shards).await;
        if self.0.membership.has_duty(DUTY_NODES) {
            self.forget(&view).await;
        }
    }

    /// Writes this node's users where the shard does not know that it has them.
    async fn enter(&self, shard: ShardId, live: &[String]) -> Result<(), Silent> {
        let calls = self.calls(shard);
        let entered = calls.enter(live).await?;
        let before = lock(&self.0.entered).get(&shard).cloned();
        if entered.is_written && before.as_ref().is_some_and(|b| b.begun == entered.begun) {
            return Ok(());
        }
        let is_mine = |user: &UserId| self.shard_of(user) == shard;
        let mut here = self.0.local.with(|table| table.told());
        here.retain(is_mine);
        tracing::info!(%shard, users = here.len(), "presence: this node's users are written to a shard");
        for users in here.chunks(BATCH) {
            for came in calls.correct(users, true, now()).await? {
                self.follow(came);
            }
        }
        // What the shard has of this node besides is from before: the node knows better. Of whom it is not sure
        // it says so itself.
        let known = calls.users_of(&self.0.me, None).await?;
        let others: Vec<UserId> = self.0.local.with(|table| {
            let others = known.into_iter().filter(|user| !table.is_known(user));
            others.collect()
        });
        for users in others.chunks(BATCH) {
            calls.correct(users, false, now()).await?;
        }
        if calls.written(&entered).await? {
            lock(&self.0.entered).insert(shard, entered);
            // Whether all have written is seen by the next call of the last.
            calls.enter(live).await?;
        }
        Ok(())
    }

    async fn take_over(&self, shard: ShardId) -> Result<(), Silent> {
        for came in self.calls(shard).overdue(OVERDUE, BATCH).await? {
            self.follow(came);
        }
        Ok(())
    }

    /// Nodes that the table forgot, because its own shard lost it while they died: they are gone when
    /// nothing was heard of them for long enough to be sure.
    async fn strays(&self, shard: ShardId, view: &View) -> Result<Vec<Gone>, Silent> {
        if !self.0.membership.has_duty(&duty_presence(shard)) {
            return Ok(Vec::new());
        }
        let mut writers = self.calls(shard).writers().await?;
        let live = view.names();
        let is_told = |name: &String| view.gone.iter().any(|gone| gone.name() == *name);
        writers.retain(|name| !live.contains(name) && !is_told(name));
        let mut strays = lock(&self.0.strays);
        strays.retain(|(of, name), _| *of != shard || writers.contains(name));
        let since = writers.into_iter().map(|name| {
            let known = strays.entry((shard, name.clone()));
            (name, *known.or_insert_with(Instant::now))
        });
        let patience = self.0.membership.times().ttl * 2;
        let gone = since.filter_map(|(name, since)| {
            let (node, boot) = name.split_once('/')?;
            (since.elapsed() > patience).then_some(Gone {
                node: NodeId::parse(node).ok()?,
                boot: boot.to_owned(),
                renewed: since,
                pumps: Partitions::default(),
            })
        });
        Ok(gone.collect())
    }

    /// A client of a node that died has its grace from the node's last sign of life on, as far as that is
    /// bounded; before the lease is over nothing is known.
    fn is_due(&self, gone: &Gone) -> bool {
        let most = self.0.membership.times().ttl + GRACE_MAX;
        gone.renewed.elapsed() >= self.0.grace.min(most)
    }

    /// Takes a dead node's users off it, each at once: who is nowhere else is offline.
    async fn sweep(&self, shard: ShardId, gone: &Gone) -> Result<(), Silent> {
        let (calls, node) = (self.calls(shard), gone.name());
        let seen = SystemTime::now().checked_sub(gone.renewed.elapsed());
        let seen = seen.unwrap_or_else(SystemTime::now).into();
        let (duty, mut swept) = (duty_presence(shard), 0);
        while swept < SWEPT_MAX && self.0.membership.has_duty(&duty) {
            let users = calls.users_of(&node, Some(BATCH)).await?;
            if users.is_empty() {
                return calls.forget(&node).await;
            }
            swept += users.len();
            metrics::PRESENCE_SWEPT.add(users.len() as u64);
            for came in calls.sweep(&node, &users, (now(), seen)).await? {
                if came == super::Came::Wait {
                    // Not every node was heard after a restart.
                    return Ok(());
                }
                self.follow(came);
            }
        }
        Ok(())
    }

    /// Forgets nodes of which nothing is left on any shard.
    async fn forget(&self, view: &View) {
        let ttl = self.0.membership.times().ttl;
        let is_old =
            |gone: &&Gone| self.is_due(gone) && gone.renewed.elapsed() > ttl + REMEMBERED_FOR;
        for gone in view.gone.iter().filter(is_old) {
            let node = gone.name();
            let asked = self
                .0
                .shards
                .all()
                .map(async |shard| self.calls(shard).is_swept(&node).await);
            let all = join_all(asked).await;
            if all.iter().all(|swept| matches!(swept, Ok(true)))
                && self.0.membership.forget(gone).await.is_ok()
            {
                tracing::info!(%node, "nothing is left of a node that is gone");
            }
        }
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
