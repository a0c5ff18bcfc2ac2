//! What the node says about itself: metrics in one table, logs in one format, traces of some events.
//!
//! A part records through the statics of [`metrics`] and never names a metric as text. Exporting is
//! [`expose`]'s work, log formatting is [`log`]'s. Not here: readiness and drain (`lifecycle`) and
//! the HTTP listener that serves the page (`app`).

pub mod expose;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod trace;

mod family;
#[cfg(test)]
mod page;
pub mod process;

pub use family::{
    Count, Counter, Family, Gauge, Histogram, Kind, LabelInfo, Level, Metric, Open, Raised,
    Sampled, Series, Spread, Values,
};
