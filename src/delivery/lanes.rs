//! What one shard has to do for the pump.

use std::collections::VecDeque;

use super::apply::Work;
use super::settle::Acked;
use crate::types::Epoch;

/// What one shard has to do.
#[derive(Default)]
pub(super) struct Lane {
    /// The epoch in which this pump's records are in their places; 0 before there are any.
    pub(super) epoch: Epoch,
    pub(super) queue: VecDeque<Work>,
    pub(super) is_busy: bool,
    pub(super) acked: Vec<Acked>,
    pub(super) is_settling: bool,
    /// Whether anything was settled that no gate has been asked about.
    pub(super) is_ungated: bool,
}
