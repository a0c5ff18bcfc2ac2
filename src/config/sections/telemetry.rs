//! `[telemetry]`: what the node says about itself.

use crate::config::section::{choice, section};

choice! {
    /// The form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line, for machines.
        Json = "json",
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
    }
}
