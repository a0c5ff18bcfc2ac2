//! Reading ahead: what a user is about to need, when it logs in and as long as it is active.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Directory;
use crate::types::UserId;

/// The users that were active lately. Bounded; who finds no place is read for when it asks.
#[derive(Default)]
pub(super) struct Active(Mutex<HashMap<UserId, Instant>>);

/// Active users that are read ahead for.
const ACTIVE_MAX: usize = 10_000;
/// Who has not asked for anything this long is not active.
const ACTIVE_FOR: Duration = Duration::from_secs(15 * 60);
/// Users read ahead for at once, so that those who ask now are not kept waiting.
const AT_ONCE: usize = 2;

impl Active {
    pub(super) fn note(&self, user: &UserId) {
        let mut users = self.lock();
        if let Some(at) = users.get_mut(user) {
            *at = Instant::now();
        } else if users.len() < ACTIVE_MAX {
            users.insert(user.clone(), Instant::now());
        }
    }

    fn users(&self) -> Vec<UserId> {
        let mut users = self.lock();
        users.retain(|_, at| at.elapsed() < ACTIVE_FOR);
        users.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// Reads what a user is about to need: at login, at sign-up, at CONNECT. A failure is not told:
    /// whoever asks for the value is.
    pub async fn warm(&self, user: &UserId) {
        self.0.active.note(user);
        // Nothing that is fresh is read.
        self.refresh(user, Duration::ZERO).await;
    }

    /// Keeps what active users need from expiring. Never ends.
    pub async fn keep_warm(self) {
        let every = self.0.warm_every;
        loop {
            tokio::time::sleep(every).await;
            let users = futures_util::stream::iter(self.0.active.users());
            // With room for the round after the next to begin late.
            let refresh = |user| {
                let directory = self.clone();
                async move { directory.refresh(&user, every + every / 4).await }
            };
            users.for_each_concurrent(AT_ONCE, refresh).await;
        }
    }

    async fn refresh(&self, user: &UserId, fresh_for: Duration) {
        let caches = &self.0.caches;
        let key = user.as_str();
        let account = caches
            .users
            .refresh(key, fresh_for, || self.load_user(user));
        let groups = caches
            .groups
            .refresh(key, fresh_for, || self.load_groups(user));
        let list = caches
            .lists
            .refresh(key, fresh_for, || self.load_list(user));
        for outcome in [account.await, groups.await, list.await] {
            if let Err(error) = outcome {
                tracing::debug!(%error, "could not read ahead");
            }
        }
    }
}
