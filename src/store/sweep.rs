//! What is forgotten in time: answers that nobody asks for again. (Sessions that ended are the
//! accounts' to forget, who know how long a token is accepted.)

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::{Error, Store};
use crate::types::Timestamp;

/// Forgets answers under idempotency keys, periodically.
#[derive(Debug)]
pub struct Sweeper {
    store: Store,
    replies_for: Duration,
}

impl Sweeper {
    /// A sweeper of this store that keeps answers for so long.
    #[must_use]
    pub const fn new(store: Store, replies_for: Duration) -> Self {
        Self { store, replies_for }
    }

    /// Sweeps every few minutes until `drain` resolves. A sweep that fails is repeated by the next.
    pub async fn run(self, drain: impl Future<Output = ()>) {
        let mut drain = std::pin::pin!(drain);
        loop {
            tokio::select! {
                () = &mut drain => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match self.sweep(SystemTime::now().into()).await {
                Ok(replies) => tracing::debug!(replies, "store swept"),
                Err(error) => tracing::warn!(%error, "the store could not be swept; trying later"),
            }
        }
    }

    /// Forgets what has had its time by `now`; answers how many there were.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, Error> {
        let age = i64::try_from(self.replies_for.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(age));
        self.store.forget_replies(before).await
    }
}

/// Often enough that a sweep is short, seldom enough that nobody notices it.
const EVERY: Duration = Duration::from_secs(300);
