//! Latencies of a run, kept in one HDR histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A histogram of microseconds, three significant digits, up to ten minutes.
pub(super) struct Latencies(Histogram<u32>);

/// The figures people quote, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// The mean, which parts of a path add up to.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// 99 of 100 values are at most this.
    pub p99_ms: f64,
    /// 999 of 1,000 values are at most this.
    pub p999_ms: f64,
    /// The largest value.
    pub max_ms: f64,
}

const LONGEST_US: u64 = 600_000_000;

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are constants and valid"))
    }

    /// Records nanoseconds; what is longer than ten minutes counts as ten minutes.
    pub(super) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds / 1_000);
    }

    /// Adds what another one has recorded.
    pub(super) fn add(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms have the same bounds");
    }

    /// `None` if nothing was recorded.
    pub(super) fn summary(&self) -> Option<Summary> {
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Summary {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e3,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(self.0.max()),
        })
    }
}

fn ms(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for ms in 1..=10_000_u64 {
            latencies.record(ms * 1_000_000);
        }
        let summary = latencies.summary().unwrap();
        let near = |is: f64, should: f64| (is - should).abs() <= should / 1_000.0;
        assert_eq!(summary.count, 10_000);
        assert!(
            near(summary.p50_ms, 5_000.0) && near(summary.p99_ms, 9_900.0),
            "{summary:?}"
        );
        assert!(
            near(summary.p999_ms, 9_990.0) && near(summary.max_ms, 10_000.0),
            "{summary:?}"
        );
    }

    #[test]
    fn extremes_are_kept_in_range() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        latencies.record(0);
        latencies.record(u64::MAX);
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.p50_ms, 0.0);
        assert!((summary.max_ms - 600_000.0).abs() < 600.0, "{summary:?}");
    }
}
