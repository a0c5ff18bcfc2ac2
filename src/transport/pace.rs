//! Tells a connection that rests between two requests from one whose next request comes too slowly.
//!
//! HTTP gives one timer for both, so the connection itself says when bytes arrive, and who answers
//! says when a request is whole and when it is answered.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// What a connection is waiting for. Its one reader and its one server are tasks of one thread.
#[derive(Debug)]
pub struct Pace {
    state: AtomicU8,
    changed: Notify,
}

/// Nothing of the next request has come.
const RESTING: u8 = 0;
/// The head of a request is coming.
const COMING: u8 = 1;
/// A request is being answered.
const ANSWERING: u8 = 2;

impl Pace {
    /// Of a fresh connection, whose first request is expected at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(COMING),
            changed: Notify::new(),
        }
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        if self.state() == RESTING {
            self.enter(COMING);
        }
    }

    /// A request is whole.
    pub fn answering(&self) {
        self.enter(ANSWERING);
    }

    /// It has its answer.
    pub fn answered(&self) {
        self.enter(RESTING);
    }

    /// Resolves when a head has been coming for longer than this. Cancel-safe.
    pub async fn is_late(&self, limit: Duration) {
        loop {
            while self.state() != COMING {
                self.changed.notified().await;
            }
            let whole = async {
                while self.state() == COMING {
                    self.changed.notified().await;
                }
            };
            if tokio::time::timeout(limit, whole).await.is_err() {
                return;
            }
        }
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    fn enter(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.changed.notify_one();
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_the_time_of_a_head_counts() {
        let pace = Pace::new();
        let mut late = std::pin::pin!(pace.is_late(SECOND * 2));
        assert!((&mut late).now_or_never().is_none());
        sleep(SECOND).await;
        // Answering may take any time, and resting too.
        pace.answering();
        assert!((&mut late).now_or_never().is_none());
        sleep(SECOND * 100).await;
        pace.received();
        pace.answered();
        assert!((&mut late).now_or_never().is_none());
        sleep(SECOND * 100).await;
        pace.received();
        let began = Instant::now();
        late.await;
        assert_eq!(began.elapsed(), SECOND * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_at_first_is_late() {
        let began = Instant::now();
        Pace::new().is_late(SECOND).await;
        assert_eq!(began.elapsed(), SECOND);
    }
}
