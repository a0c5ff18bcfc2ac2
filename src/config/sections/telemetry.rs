//! `[telemetry]`: what the node says about itself.

use crate::config::section::{choice, section};
use crate::types::Span;

choice! {
    /// The form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line, for machines.
        Json = "json",
    }
}

choice! {
    /// Where nodes send canaries.
    Canaries {
        /// Nowhere.
        Off = "off",
        /// Where there are servers between a sender and a member.
        Cluster = "cluster",
        /// In embedded mode too.
        Always = "always",
    }
}

section! {
    /// What the node says about itself.
    Telemetry = "telemetry" {
        /// The form of the log: "text" or "json", one object per line.
        log_format: LogFormat = LogFormat::Text;
        /// The level, "error", "warn", "info", "debug" or "trace"; by part too, like
        /// "info,vestibule::auth=debug". From "debug" on there are lines per event.
        log_level: String = "info".to_owned();
        /// Whether the node sends events of its own to a room on every shard and counts what arrives and
        /// after how long: "cluster" (in that mode), "always" or "off". They are not archived.
        canary: Canaries = Canaries::Cluster;
        /// Between two of them to one shard.
        canary_every: Span = Span::from_secs(5), in Span::from_millis(100) => Span::from_secs(3_600);
        /// Where the paths of events are exported to as traces: the base URL of a collector that takes OTLP over HTTP,
        /// like "http://127.0.0.1:4318". An event's id is its trace id. Unset: nowhere.
        otlp: Option<String> = None;
        /// One event in so many is traced.
        otlp_one_in: u32 = 100, in 1 => 1_000_000_000;
    }
}
