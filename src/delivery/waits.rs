//! Waiting for what may not be there.

use std::future::Future;
use std::pin::Pin;

use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::eventlog::{Consumer, Error, Polled};

/// Work under way, which keeps its own handles.
pub(super) type Doing<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Polls, not before a time if there is one.
pub(super) async fn poll(
    consumer: &mut Consumer,
    after: Option<Instant>,
    max: usize,
) -> Result<Polled, Error> {
    if let Some(after) = after {
        tokio::time::sleep_until(after).await;
    }
    consumer.poll(max).await
}

/// Waits for a future if there is one; gives nothing at once if there is none.
pub(super) async fn maybe<F: Future + Unpin>(future: Option<&mut F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}
