//! How often somebody may do something.
//!
//! One algorithm, the generic cell rate algorithm (GCRA, ITU-T I.371): one number for each key, exact,
//! no window edges at which twice the rate passes, and the time to wait falls out of it. The rules
//! are the catalogue's limiters and those of `[limits]`.
//!
//! Not here: what is limited (handlers and routes ask), and the bounds of one connection.

mod gcra;
mod memory;

use std::time::Duration;

use crate::types::{Problem, Timestamp};

/// So many per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How many.
    pub count: u32,
    /// The time in which they come back.
    pub per: Duration,
}

/// What a limiter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How many are allowed.
    pub limit: u32,
    /// How many are left now.
    pub remaining: u32,
    /// When all are back.
    pub reset: Duration,
    /// How long to wait, when it was refused.
    pub retry_after: Option<Duration>,
}

impl Decision {
    /// Passes, or the refusal for a client: `rate_limited` with a time to wait.
    /// # Errors
    /// When it was refused. `name` is the limiter's.
    pub fn check(&self, name: &str) -> Result<(), Problem> {
        todo!("{self:?} {name}")
    }
}

/// The limiters of a node, shared by its threads. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Limits {
    /// Nothing is limited.
    Off,
    /// Within this process.
    Memory(memory::Memory),
}

impl Limits {
    /// Limits within this process.
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(memory::Memory::default())
    }

    /// Takes one token of limiter `name` for `key` (a user id or an address), if the backend can
    /// tell at once; `None` means [`take`](Self::take) has to be awaited.
    #[must_use]
    pub fn take_now(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Option<Decision> {
        todo!("{name} {rule:?} {key} {now}")
    }

    /// Takes one token. When a shared backend does not answer, this process alone counts.
    pub async fn take(&self, name: &str, rule: Rule, key: &str, now: Timestamp) -> Decision {
        todo!("{name} {rule:?} {key} {now}")
    }

    /// Forgets keys that are full again; run now and then.
    pub fn sweep(&self, now: Timestamp) {
        todo!("{now}")
    }
}
