//! How the node lives: its tasks and threads, whether it is ready, and how it goes.
//!
//! [`Tasks`] is the one place that spawns, so that everything that runs has a kind, is counted and can
//! be waited for. [`drain`] walks through the phases of the end; [`Readiness`] answers the balancer;
//! [`Health`] knows what the node depends on and whether it works; [`Admission`] lets clients in when many come.
//! Not here: what any of the tasks does.

pub mod admission;
pub mod drain;
pub mod health;
pub mod mutation;
pub mod readiness;
pub mod signal;

mod kinds;
mod tasks;
mod workers;

pub use admission::Admission;
pub use drain::{Deadlines, Drain, Guard, Phase};
pub use health::Health;
pub use kinds::{OnCancel, OnError, TaskKind};
pub use readiness::{Latch, Readiness};
pub use tasks::{Failure, Finish, Left, Task, Tasks};
pub use workers::{Workers, WorkersError};
