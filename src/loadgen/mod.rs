//! The load generator: thousands of Socket.IO clients on one thread, and an honest account.
//!
//! It knows nothing of the server's code, so a mistake there cannot excuse itself here. Every event
//! carries who sent it, as its how-maniest, and when; what arrives is checked for loss, doubles and
//! order, per publisher and per room. Open loops keep their schedule however slow the server is, and
//! latency counts from when an event was due (no coordinated omission); how late the generator itself
//! was is reported apart. CPU and memory of the server come from `/proc`.
//!
//! A socket is a small task, a file descriptor and, while a frame is cut in two, a few bytes: the
//! generator usually shares its machine with the server. Not here: polling, upgrades from it,
//! reconnects, binary events.
//!
//! Reading order: [`plan`](Plan) → `run` (the phases) → `fleet` (the sockets) → `client` (one socket)
//! → `scene` (`fanout`, `echo`) → `check`, `latency`, `usage` → [`report`](Report); [`reads`] has REST.

mod check;
mod client;
mod dialect;
mod echo;
mod fanout;
mod fleet;
mod flight;
mod frame;
mod inbox;
mod latency;
mod link;
mod plan;
pub mod reads;
mod report;
mod run;
mod scene;
mod stamp;
mod table;
mod tls;
mod usage;

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;

use std::io;

pub use check::Verdict;
pub use dialect::Dialect;
pub use latency::Summary;
pub use plan::{Pace, Plan, Scenario, Target, Times};
pub use report::Report;

/// Why a run could not be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot work.
    #[error("{0}")]
    Plan(String),
    /// Not every socket got as far as taking part.
    #[error("{ready} of {wanted} sockets are ready; the others mostly: {reason}")]
    Opening {
        /// Sockets that take part.
        ready: u32,
        /// Sockets asked for.
        wanted: u32,
        /// The most frequent reason.
        reason: String,
    },
    /// A process's usage cannot be read.
    #[error("{path} tells nothing: is the process there?")]
    Usage {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime did not start.
    #[error("the runtime does not start")]
    Runtime(#[source] io::Error),
}

/// Plays `plan` on this thread and gives the account.
///
/// # Errors
/// If the plan cannot work, sockets do not get ready or `/proc` does not know a process. Faults of
/// the server under load are not errors but part of the report.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    run::play(plan)
}
