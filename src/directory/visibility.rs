//! Who may see whether whom is online.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Directory;
use super::caches::pair;
use crate::store;
use crate::types::UserId;

/// A number for each user that changes when what the user belongs to does. Part of the key of each
/// pair of users, it lets all pairs of a user be forgotten without knowing them. A fixed number of
/// them, so that they need no care: users that share one forget a little more.
pub(super) struct Stamps(Box<[AtomicU64]>);

/// At 8 bytes each.
const STAMPS: usize = 4_096;

impl Default for Stamps {
    fn default() -> Self {
        Self((0..STAMPS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Stamps {
    fn of(&self, user: &str) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % STAMPS as u64).unwrap_or(0);
        &self.0[index]
    }

    /// All pairs of a user are to be asked for anew.
    pub(super) fn renew(&self, user: &str) {
        self.of(user).fetch_add(1, Ordering::AcqRel);
    }

    fn key(&self, one: &UserId, other: &UserId) -> String {
        let (one, other) = (one.min(other).as_str(), one.max(other).as_str());
        let stamp = |user| self.of(user).load(Ordering::Acquire);
        let stamps = pair(&stamp(one).to_string(), &stamp(other).to_string());
        pair(&pair(one, other), &stamps)
    }
}

impl Directory {
    /// Whether `viewer` may see whether `user` is online: itself, an accepted connection, a shared
    /// conversation or course.
    pub async fn is_visible(&self, viewer: &UserId, user: &UserId) -> Result<bool, store::Error> {
        if viewer == user {
            return Ok(true);
        }
        let load = || {
            let (store, one, other) = (self.0.store.clone(), viewer.clone(), user.clone());
            async move {
                Ok(store.are_connected(&one, &other).await?
                    || store.share_conversation(&one, &other).await?
                    || store.share_course(&one, &other).await?)
            }
        };
        let key = self.0.stamps.key(viewer, user);
        Ok(self.0.caches.visibility.get_with(&key, load).await?.value)
    }
}
