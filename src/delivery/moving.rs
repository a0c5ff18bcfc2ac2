//! Brings the rooms that nobody asks for to their places after a change of the ring, and ends the change.
//!
//! A duty that must be done once, though doing it twice does no harm.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::backend::redis::Shards;
use crate::cluster::membership::{DUTY_RING, Membership};
use crate::telemetry::metrics;
use crate::timeline::Error;
use crate::timeline::redis::Timeline;
use crate::types::ShardId;

/// How often is looked whether the ring changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After the last room came over: its new place has written it to disk by then.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);
/// Rooms that are brought at once.
const AT_ONCE: usize = 16;

/// Moves rooms.
#[derive(Debug, Clone)]
pub struct Mover {
    /// Where the plan is kept.
    pub shards: Shards,
    /// The rooms.
    pub timeline: Timeline,
    /// Who has the duty.
    pub membership: Membership,
}

impl Mover {
    /// Looks after changes of the ring until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let is_moving = self.timeline.view().plan.before.is_some();
            metrics::RING_MOVING.set(if is_moving { 1.0 } else { 0.0 });
            if !is_moving || !self.membership.has_duty(DUTY_RING) {
                continue;
            }
            let end = tokio::select! {
                () = &mut stop => return,
                end = self.end_change() => end,
            };
            if let Err(error) = end {
                tracing::warn!(%error, "rooms cannot move yet");
            }
        }
    }

    /// Brings all rooms to their places, and says so.
    async fn end_change(&self) -> Result<(), Error> {
        let plan = self.timeline.view().plan.clone();
        let shards: Vec<ShardId> = self.timeline.shards().collect();
        for shard in &shards {
            // From now on no room begins at an old place.
            self.timeline.fence(*shard).await?;
        }
        let mut moved = 0;
        for shard in &shards {
            moved += self.clear(*shard, false).await?;
        }
        if moved > 0 {
            tracing::info!(
                rooms = moved,
                "rooms have moved to their places on the ring"
            );
            // Another look finds what a restarted shard put back meanwhile.
            return Ok(());
        }
        tokio::time::sleep(WRITTEN_WITHIN).await;
        for shard in &shards {
            self.clear(*shard, true).await?;
        }
        match self.shards.put_plan(plan.settled()).await {
            Ok(()) => tracing::info!("every room is at its place on the ring"),
            Err(error) => {
                tracing::warn!(%error, "the end of the ring's change is not known everywhere")
            }
        }
        Ok(())
    }

    /// Brings away what does not belong on a shard; how many rooms that were.
    async fn clear(&self, shard: ShardId, is_last: bool) -> Result<usize, Error> {
        let (mut cursor, mut moved) = (0, 0);
        loop {
            let strangers = self.timeline.strangers(shard, cursor).await?;
            moved += strangers.to_fetch.len();
            let mut fetches = JoinSet::new();
            for room in strangers.to_fetch {
                if fetches.len() == AT_ONCE {
                    joined(fetches.join_next().await)?;
                }
                let timeline = self.timeline.clone();
                fetches.spawn(async move { timeline.fetch(&room).await });
            }
            while !fetches.is_empty() {
                joined(fetches.join_next().await)?;
            }
            if is_last {
                self.timeline.forget(shard, &strangers.left).await?;
            }
            cursor = strangers.cursor;
            if cursor == 0 {
                return Ok(moved);
            }
        }
    }
}

fn joined(fetched: Option<Result<Result<(), Error>, JoinError>>) -> Result<(), Error> {
    match fetched {
        Some(Ok(fetched)) => {
            fetched?;
            metrics::RING_MOVED_ROOMS.add(1);
            Ok(())
        }
        // Aborted with this task, or its panic is this one's.
        Some(Err(ended)) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_aborted) => Ok(()),
        },
        None => Ok(()),
    }
}
