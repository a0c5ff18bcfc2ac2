//! Limits within this process.

/// One number for each key, in shards with a lock each.
#[derive(Debug, Clone, Default)]
pub struct Memory {}
