//! Telling a shard which of its entries are durable in topic `timeline`.

use std::sync::Arc;
use std::time::Instant;

use super::backoff::Backoff;
use super::meter;
use super::progress::Ticket;
use crate::eventlog::{Append, Error};
use crate::telemetry::labels::Stage;
use crate::timeline::{Entry, Settle, Settlement, Timeline};
use crate::types::{Epoch, ShardId, ShardPosition};

/// An entry whose record is durable.
pub(super) struct Acked {
    pub(super) ticket: Ticket,
    pub(super) settle: Settle,
    /// When the entry was in its place.
    pub(super) since: Instant,
}

/// Waits until an entry's record is durable.
pub(super) async fn acked(
    ticket: Ticket,
    (entry, seen_in): (Arc<Entry>, Epoch),
    append: Append,
) -> Result<Acked, Error> {
    let since = Instant::now();
    let at = append.await?;
    let record = Some((at.partition, at.offset));
    Ok(Acked {
        ticket,
        settle: Settle {
            entry,
            seen_in,
            record,
        },
        since,
    })
}

/// A batch that was told.
pub(super) struct Settled {
    pub(super) shard: ShardId,
    /// What is done, its place, and since when it was there.
    pub(super) done: Vec<(Ticket, ShardPosition, Instant)>,
    /// The shard's epoch, when it is another than that of the entries: they may be lost there.
    pub(super) raised: Option<Epoch>,
    /// What the shard has lost, or another one had before the room moved.
    pub(super) lost: Vec<Ticket>,
}

/// Tells a shard of a batch until it has answered for each.
pub(super) async fn settle(timeline: Timeline, shard: ShardId, mut batch: Vec<Acked>) -> Settled {
    let mut settled = Settled {
        shard,
        done: Vec::with_capacity(batch.len()),
        raised: None,
        lost: Vec::new(),
    };
    let mut backoff = Backoff::default();
    while !batch.is_empty() {
        let calls: Vec<_> = batch.iter().map(|acked| acked.settle.clone()).collect();
        let answers = timeline.settle_all(shard, &calls).await;
        let mut again = Vec::new();
        for (acked, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(Settlement::Done) => {
                    let entry = &acked.settle.entry;
                    let took = acked.since.elapsed();
                    meter::traced(&entry.id, Stage::Settled, took, &entry.room);
                    let at = entry.shard_position();
                    settled.done.push((acked.ticket, at, acked.since));
                }
                Ok(Settlement::Stale { epoch }) => {
                    settled.raised = settled.raised.max(Some(epoch));
                    settled.lost.push(acked.ticket);
                }
                Ok(Settlement::Lost) => settled.lost.push(acked.ticket),
                Err(error) => {
                    tracing::debug!(%error, "an entry could not be marked as settled; trying again");
                    again.push(acked);
                }
            }
        }
        batch = again;
        if !batch.is_empty() {
            backoff.wait().await;
        }
    }
    settled
}
