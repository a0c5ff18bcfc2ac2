//! A node as a process, and clients for it that are written by hand: what they send is what a test
//! says, right or wrong.

pub(crate) mod client;
pub(crate) mod node;
pub(crate) mod program;
pub(crate) mod scrape;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen, on a machine that has other work too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that only can be asked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The outcome of something that is expected to happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Looks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
