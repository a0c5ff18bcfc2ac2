//! A value as it is kept, and how long.

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use tokio::time::Instant;

use super::Cached;

/// A value with its times.
#[derive(Clone)]
pub(super) struct Entry<V> {
    pub(super) value: V,
    pub(super) fresh_until: Instant,
    pub(super) kept_until: Instant,
    pub(super) is_stale: bool,
}

impl<V> Entry<V> {
    pub(super) fn cached(self) -> Cached<V> {
        Cached {
            value: self.value,
            is_stale: self.is_stale,
        }
    }
}

/// Entries go when their grace is over.
pub(super) struct Grace;

impl<V> Expiry<Arc<str>, Entry<V>> for Grace {
    fn expire_after_create(
        &self,
        _: &Arc<str>,
        entry: &Entry<V>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.kept_until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &Arc<str>,
        entry: &Entry<V>,
        at: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, at)
    }
}
