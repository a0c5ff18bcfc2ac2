//! `docs/METRICS.md`, made from the table.

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::path::PathBuf;

    use crate::telemetry::family::{Metric, Values};
    use crate::telemetry::metrics::TABLE;

    const HEAD: &str = "\
# Metrics

Served as Prometheus text at `/metrics` of the operations listener. This page is made from the table in
`src/telemetry/metrics.rs`; a test fails when the two differ or when something else is exported
(`cargo test --lib write_the_metrics_page -- --ignored` writes it anew).

A label's values are closed sets, or named by the configuration and few. No label ever carries a room, a
user or a socket. Metrics with at most one such closed label are exported with the value 0 from the start;
the others appear when they first happen. Histograms are in seconds, with buckets from 100 µs to 30 s.

| metric | kind | unit | labels | what it says |
|---|---|---|---|---|
";

    fn page() -> String {
        let mut page = HEAD.to_owned();
        for series in TABLE {
            let metric = series.metric();
            let (name, kind) = (metric.name, metric.kind.text());
            let labels = labels(metric);
            writeln!(
                page,
                "| `{name}` | {kind} | {} | {labels} | {} |",
                metric.unit, metric.help
            )
            .unwrap();
        }
        page
    }

    fn labels(metric: &Metric) -> String {
        let label = |info: &crate::telemetry::LabelInfo| match &info.values {
            Values::Fixed(values) => format!("`{}`: {}", info.name, values.join(", ")),
            Values::Configured(what) => format!("`{}`: {what}", info.name),
        };
        metric
            .labels
            .iter()
            .map(label)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")
    }

    #[test]
    fn the_metrics_page_is_the_table() {
        let written = fs::read_to_string(path()).unwrap();
        assert!(
            written == page(),
            "docs/METRICS.md is not what the table says"
        );
    }

    #[test]
    #[ignore = "writes docs/METRICS.md"]
    fn write_the_metrics_page() {
        fs::create_dir_all(path().parent().unwrap()).unwrap();
        fs::write(path(), page()).unwrap();
    }
}
