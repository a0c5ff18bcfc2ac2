//! What handlers ask of the store, cached: who somebody is, who is in what, who sees whom.
//!
//! Cache-aside over [`Store`](crate::store::Store): a miss is read once however many ask
//! (single-flight), a change forgets the value here, where nodes share it and, over the bus, everywhere. When the store
//! does not answer, an old value is served and marked stale where there is one.
//!
//! Not here: writing (callers use the store, then say what changed), and messages.

mod access;
mod activity;
mod caches;
mod changes;
mod memberships;
mod people;
mod records;
mod visibility;
mod warm;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::backend::cache::{Cached, Late, Shared};
use crate::cluster::bus::Bus;
use crate::cluster::control::Control;
use crate::config;
use crate::store::Store;

use activity::Activity;
use caches::Caches;
use visibility::Stamps;
use warm::Active;

pub use memberships::MEMBERS_MAX;

/// A value, and whether it is older than it should be because the store did not answer.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// True when the store did not answer and this was kept.
    pub is_stale: bool,
}

impl<T> From<Cached<T>> for Found<T> {
    fn from(cached: Cached<T>) -> Self {
        Self {
            value: cached.value,
            is_stale: cached.is_stale,
        }
    }
}

/// The cached view. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: Store,
    bus: Bus,
    caches: Caches,
    stamps: Stamps,
    shared: Option<Shared>,
    activity: Arc<Activity>,
    active: Active,
    warm_every: std::time::Duration,
}

impl Directory {
    /// A view of this store, that tells and hears of changes over this bus.
    #[must_use]
    pub fn new(store: Store, bus: Bus) -> Self {
        Self::with(store, bus, &config::Caches::default())
    }

    /// The same with these times to live.
    #[must_use]
    pub fn with(store: Store, bus: Bus, section: &config::Caches) -> Self {
        Self::over(store, bus, section, None)
    }

    /// The same with caches that nodes share between them and the store;
    /// [`keep_shared`](Self::keep_shared) has to run.
    #[must_use]
    pub fn shared(store: Store, bus: Bus, section: &config::Caches, shared: Shared) -> Self {
        Self::over(store, bus, section, Some(shared))
    }

    fn over(store: Store, bus: Bus, section: &config::Caches, shared: Option<Shared>) -> Self {
        let activity = Arc::default();
        Self(Arc::new(Inner {
            store,
            bus,
            caches: Caches::new(section, shared.as_ref(), &activity),
            stamps: Stamps::default(),
            shared,
            activity,
            active: Active::default(),
            warm_every: section.warm_every.get(),
        }))
    }

    /// Takes to the shared caches what is to be kept and forgotten there. Never ends.
    pub async fn keep_shared(self) {
        let Some(shared) = self.0.shared.clone() else {
            return std::future::pending().await;
        };
        let again = |late| match late {
            Late::Key(cache, key) => self.say(cache, key),
            Late::All => {
                tracing::warn!("too much was to be forgotten at once; every node begins anew");
                self.forget_all();
                self.0.bus.control(Control::Recheck);
            }
        };
        shared.run(again).await;
    }

    /// The store behind it, for writing.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }
}
