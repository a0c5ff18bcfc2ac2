//! The logs of embedded mode, which share their memory of what is recent.

use std::sync::Arc;

use super::core::Core;
use super::{disk, memory};

/// A log within this process.
#[derive(Debug, Clone)]
pub(super) enum Embedded {
    Memory(memory::Log),
    Sql(disk::Log),
}

impl Embedded {
    pub(super) fn core(&self) -> &Arc<Core> {
        match self {
            Self::Memory(log) => log.core(),
            Self::Sql(log) => log.core(),
        }
    }
}
