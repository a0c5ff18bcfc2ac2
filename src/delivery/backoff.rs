//! How long to wait before trying the same again.

use std::time::Duration;

use crate::telemetry::metrics;

/// Grows with each failure in a row, with jitter, so that many who wait for one thing do not come
/// back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next time to wait, up to five seconds.
    pub(super) fn next(&mut self) -> Duration {
        let most = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        most.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// True before the first wait.
    pub(super) const fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// Waits that long.
    pub(super) async fn wait(&mut self) {
        metrics::DELIVERY_RETRIES.add(1);
        tokio::time::sleep(self.next()).await;
    }
}

/// Redis and Kafka clients recover from a dropped connection in about this time.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
