//! What is forgotten in time: sessions that ended, answers that nobody asks for again.

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::{Error, Store};
use crate::types::Timestamp;

/// Forgets periodically.
#[derive(Debug)]
pub struct Sweeper {
    store: Store,
    replies_for: Duration,
}

/// What one sweep forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Sessions whose tokens have expired.
    pub sessions: u64,
    /// Answers under idempotency keys.
    pub replies: u64,
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
                Ok(swept) => tracing::debug!(?swept, "store swept"),
                Err(error) => tracing::warn!(%error, "the store could not be swept; trying later"),
            }
        }
    }

    /// Forgets what has had its time by `now`.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, Error> {
        let (sessions, replies) = (earlier(now, LEEWAY), earlier(now, self.replies_for));
        Ok(Swept {
            sessions: self.store.forget_sessions(sessions).await?,
            replies: self.store.forget_replies(replies).await?,
        })
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(by))
}

/// A token is accepted for a little longer than it says; its revocation must outlive that.
const LEEWAY: Duration = Duration::from_secs(3_600);

/// Often enough that a sweep is short, seldom enough that nobody notices it.
const EVERY: Duration = Duration::from_secs(300);
