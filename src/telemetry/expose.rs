//! The metrics as Prometheus reads them.
//!
//! The recorder exists from its first use on and is never installed as a process-wide recorder, so
//! there is no order to keep at start and no counter that silently goes nowhere; tests read it too.

use std::sync::LazyLock;
use std::time::Duration;

use ::metrics::Recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::family::Kind;
use super::{metrics, process};

/// From well under the fastest append to beyond the longest poll.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

struct Exporter {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| {
    let builder = PrometheusBuilder::new()
        .set_buckets(SECONDS)
        .expect("the list of buckets is not empty");
    let recorder = builder.build_recorder();
    for series in metrics::TABLE {
        let metric = series.metric();
        match metric.kind {
            Kind::Counter => {
                recorder.describe_counter(metric.name.into(), None, metric.help.into())
            }
            Kind::Gauge => recorder.describe_gauge(metric.name.into(), None, metric.help.into()),
            Kind::Histogram => {
                recorder.describe_histogram(metric.name.into(), None, metric.help.into());
            }
        }
    }
    let handle = recorder.handle();
    Exporter { recorder, handle }
});

pub(super) fn recorder() -> &'static PrometheusRecorder {
    &EXPORTER.recorder
}

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics in the text format, sorted by name.
#[must_use]
pub fn render() -> String {
    let page = EXPORTER.handle.render();
    let mut metrics: Vec<&str> = page.split("\n\n").filter(|part| !part.is_empty()).collect();
    metrics.sort_unstable();
    let mut text = metrics.join("\n");
    text.push('\n');
    process::render(&mut text);
    text
}

/// Sums up what the histograms observed, again and again: they keep every observation until then, so
/// a node runs this for as long as it lives.
pub async fn upkeep() {
    /// Few enough observations in between at any rate, no work worth mentioning when idle.
    const INTERVAL: Duration = Duration::from_secs(5);
    loop {
        EXPORTER.handle.run_upkeep();
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::{AppendLane, Transport};

    #[test]
    fn values_appear_under_their_labels() {
        metrics::CONNECTIONS_OPENED.of(Transport::Websocket).add(3);
        let append = metrics::EVENTLOG_APPEND_TIME.of(AppendLane::Ordinary);
        append.record(Duration::from_millis(2));
        let page = render();
        assert!(page.contains("vestibule_connections_opened_total{transport=\"websocket\"} "));
        let bucket = "vestibule_eventlog_append_seconds_bucket{lane=\"ordinary\",le=\"0.0025\"} ";
        let counted = page
            .lines()
            .find_map(|line| line.strip_prefix(bucket))
            .unwrap();
        assert!(counted.parse::<u64>().unwrap() >= 1);
        assert!(!page.contains("\n\n"), "no blank lines");
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_goes_on_for_ever() {
        assert!(
            tokio::time::timeout(Duration::from_secs(60), upkeep())
                .await
                .is_err()
        );
    }
}
