//! argon2id, away from the async threads, a few at a time.
//!
//! A hash takes 20 ms of a core and 19 MiB on purpose. The places are counted, and so are those who
//! wait for one, so that a flood of logins costs the rest of the node a bounded share. A place is
//! given back when its hash is done, not when somebody stops waiting for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;
use crate::types::{Code, Problem, Secret};

/// Shorter ones are guessed.
pub(super) const BYTES_MIN: usize = 8;
/// Longer ones only cost time.
pub(super) const BYTES_MAX: usize = 128;
/// When to come back after a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hasher(Arc<Inner>);

struct Inner {
    params: Params,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// What a password is compared with when there is no account, so that it takes as long.
    decoy: Secret<String>,
}

/// One of those who wait; the count goes down whatever way the wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher {
    pub(super) fn new(config: &config::Passwords) -> Self {
        let memory_kib = u32::try_from(config.memory.bytes() >> 10).unwrap_or(u32::MAX);
        let params = Params::new(memory_kib, config.iterations, 1, None)
            .expect("the limits of the section are narrower than the algorithm's");
        Self(Arc::new(Inner {
            decoy: Secret::new(decoy(&params)),
            params,
            places: Arc::new(Semaphore::new(config.concurrent)),
            waiting: AtomicUsize::new(0),
            waiting_max: config.waiting_max,
        }))
    }

    /// A password's hash, in PHC form, with a salt of its own. Cancel-safe.
    pub(super) async fn hash(&self, password: Secret<String>) -> Result<Secret<String>, Problem> {
        let hasher = self.clone();
        let made = self.run(move || hasher.hash_now(password.reveal().as_bytes()));
        made.await?.map(Secret::new)
    }

    /// Whether the password is that of a hash; takes as long without one. Cancel-safe.
    pub(super) async fn is_right(
        &self,
        password: Secret<String>,
        stored: Option<Secret<String>>,
    ) -> Result<bool, Problem> {
        let hasher = self.clone();
        let compared = self.run(move || hasher.is_right_now(&password, stored.as_ref()));
        compared.await?
    }

    fn hash_now(&self, password: &[u8]) -> Result<String, Problem> {
        let hash = self.argon2().hash_password(password);
        hash.map(|hash| hash.to_string()).map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Problem::new(Code::Internal, "the password could not be hashed")
        })
    }

    fn is_right_now(
        &self,
        password: &Secret<String>,
        stored: Option<&Secret<String>>,
    ) -> Result<bool, Problem> {
        let text = stored.unwrap_or(&self.0.decoy).reveal();
        let hash = PasswordHash::new(text).map_err(|error| {
            tracing::error!(%error, "a stored password hash cannot be read");
            Problem::new(Code::Internal, "the account's password cannot be checked")
        })?;
        let outcome = self
            .argon2()
            .verify_password(password.reveal().as_bytes(), &hash);
        Ok(stored.is_some() && outcome.is_ok())
    }

    fn argon2(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.0.params.clone())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.place().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        done.await.map_err(|_| {
            tracing::error!("hashing a password panicked");
            Problem::new(Code::Internal, "the password could not be hashed")
        })
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() {
            return Ok(place);
        }
        let before = self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.0.waiting);
        let overloaded = || {
            let message = "too many people log in right now; try again";
            Problem::new(Code::Overloaded, message).retry_after(RETRY_AFTER)
        };
        if before >= self.0.waiting_max {
            return Err(overloaded());
        }
        let place = Arc::clone(&self.0.places).acquire_owned().await;
        place.map_err(|_| overloaded())
    }
}

/// A hash of nothing, with these parameters.
fn decoy(params: &Params) -> String {
    let (memory, passes) = (params.m_cost(), params.t_cost());
    let salt = STANDARD_NO_PAD.encode(rand::random::<[u8; 16]>());
    let hash = STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>());
    format!("$argon2id$v=19$m={memory},t={passes},p=1${salt}${hash}")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::types::ByteSize;

    fn hasher(concurrent: usize, waiting_max: usize) -> Hasher {
        Hasher::new(&config::Passwords {
            memory: ByteSize::new(1 << 20),
            iterations: 1,
            concurrent,
            waiting_max,
        })
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_only() {
        let hasher = hasher(2, 2);
        let hash = hasher.hash(secret("correct horse")).await.unwrap();
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=1024,t=1,p=1$"));
        let again = hasher.hash(secret("correct horse")).await.unwrap();
        assert_ne!(hash.reveal(), again.reveal(), "each has a salt of its own");
        for (password, stored, expected) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsE", Some(hash.clone()), false),
            ("", Some(hash), false),
            ("correct horse", None, false),
        ] {
            assert_eq!(
                hasher.is_right(secret(password), stored).await.unwrap(),
                expected,
                "{password}"
            );
        }
    }

    #[tokio::test]
    async fn hashes_made_with_other_parameters_still_count() {
        let hash = hasher(1, 1).hash(secret("battery staple")).await.unwrap();
        let stronger = Hasher::new(&config::Passwords {
            memory: ByteSize::new(2 << 20),
            iterations: 3,
            ..config::Passwords::default()
        });
        let right = stronger.is_right(secret("battery staple"), Some(hash));
        assert!(right.await.unwrap());
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_to_come_back() {
        let hasher = hasher(1, 1);
        let taken = Arc::clone(&hasher.0.places).try_acquire_owned().unwrap();
        let first = hasher.hash(secret("first waits"));
        let mut first = Box::pin(first);
        assert!((&mut first).now_or_never().is_none());
        let refused = hasher.hash(secret("second is refused")).await.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        assert!(refused.retry_after.is_some());
        drop(first);
        let mut third = Box::pin(hasher.hash(secret("third has its place")));
        assert!((&mut third).now_or_never().is_none());
        drop(taken);
        assert!(third.await.is_ok());
    }
}
