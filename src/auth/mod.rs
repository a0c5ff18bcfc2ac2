//! Who somebody is and what they may do.
//!
//! A token (JWT) becomes an [`Identity`] or an [`Error`] that says what to do; an identity may join
//! and send to rooms by the rules of [`permissions`]. Tokens are never logged, and no error shows
//! one. The key decides the algorithm, so a token cannot choose how it is checked.
//!
//! A login's token is made here where there is a secret to sign it with.
//!
//! Not here: accounts, revocation, limits.

mod credentials;
pub mod csrf;
mod development;
mod error;
mod fetch;
mod globs;
mod identity;
pub mod issue;
mod jwks;
mod keys;
pub mod permissions;
mod token;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use crate::config::{self, Authentication};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, Secret, Timestamp};
use jwks::Jwks;
use keys::Key;

pub use credentials::Credentials;
pub use development::{Development, FILE_NAME as DEVELOPMENT_SECRET, SecretError};
pub use error::Error;
pub use fetch::FetchError;
pub use globs::{GlobError, Rooms};
pub use identity::{Identity, Parts};
pub use jwks::JwksError;
pub use keys::KeySetError;

/// Tells users by their tokens. Cheap to clone; shared by all threads.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    rules: token::Rules,
    secret: Option<Key>,
    jwks: Option<Jwks>,
    cookie: Option<String>,
    signing: Option<Secret<Vec<u8>>>,
    development: Option<Development>,
}

/// Why there is nothing to check tokens with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The development secret.
    #[error(transparent)]
    Development(#[from] SecretError),
    /// The file of `auth.secret_file` cannot be read.
    #[error("cannot read the secret in {0} (auth.secret_file)")]
    SecretFile(PathBuf, #[source] io::Error),
    /// Its secret is too short: path, length.
    #[error("the secret in {0} (auth.secret_file) is {1} bytes, expected at least 32")]
    ShortSecret(PathBuf, usize),
    /// The keys of `auth.jwks_file`.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// `auth.jwks_url` is no URL.
    #[error("auth.jwks_url is not a URL")]
    Url(#[from] http::uri::InvalidUri),
}

/// There is nothing to sign tokens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node can check tokens but not make them, because it has public keys only; \
     sign up and log in where its tokens come from, or set auth.secret_file"
)]
pub struct NoSecret;

impl From<NoSecret> for Problem {
    fn from(error: NoSecret) -> Self {
        Self::new(Code::Forbidden, error.to_string())
    }
}

impl Authenticator {
    /// Reads the secret or the key file; in development mode makes a secret in the data folder and
    /// says so loudly. Keys behind a URL come with the first [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// When a file cannot be read or holds nothing usable.
    pub fn open(config: config::Auth, data: &Path) -> Result<Self, OpenError> {
        let development = match config.mode {
            Authentication::Development => Some(development(data)?),
            Authentication::Token => None,
        };
        let signing = match &development {
            Some(development) => Some(Secret::new(development.secret().to_vec())),
            None => shared_secret(&config)?,
        };
        let secret = signing.as_ref().map(|secret| Key::secret(secret.reveal()));
        let jwks = match (&config.jwks_file, &config.jwks_url) {
            (Some(path), _) => Some(Jwks::file(path.clone(), &config)?),
            (None, Some(url)) => Some(Jwks::url(url.parse()?, &config)),
            (None, None) => None,
        };
        let rules = token::Rules {
            algorithms: config.algorithms,
            issuer: config.issuer,
            audience: config.audience,
            leeway: config.leeway,
        };
        let cookie = config.cookie;
        Ok(Self(Arc::new(Inner {
            rules,
            secret,
            jwks,
            cookie,
            signing,
            development,
        })))
    }

    /// Finds the token in what a client sent and verifies it. Waits only when the token names a key
    /// that is not known yet, for one reading of the keys. Cancel-safe.
    ///
    /// # Errors
    /// Why the client is not let in.
    pub async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Identity, Error> {
        let outcome = match credentials.token(self.0.cookie.as_deref()) {
            Ok(token) => self.verify(token.reveal(), now).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            metrics::AUTH_FAILURES.of(error.into()).add(1);
        }
        outcome
    }

    /// Verifies a token; waits as [`authenticate`](Self::authenticate) does. Cancel-safe.
    ///
    /// # Errors
    /// Why the token is refused.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, Error> {
        match (self.verify_now(token, now), &self.0.jwks) {
            (Err(Error::UnknownKey(_) | Error::KeysUnavailable), Some(jwks)) => {
                jwks.ask().await;
                self.verify_now(token, now)
            }
            (outcome, _) => outcome,
        }
    }

    /// Verifies a token with the keys at hand.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn verify_now(&self, token: &str, now: Timestamp) -> Result<Identity, Error> {
        let public = self.0.jwks.as_ref().map(Jwks::current);
        let keys = token::Keys {
            secret: self.0.secret.as_ref(),
            public: public.as_deref(),
        };
        token::verify(token, keys, &self.0.rules, now)
    }

    /// Makes a token that this node accepts: with the issuer and audience that it demands.
    ///
    /// # Errors
    /// [`NoSecret`] where there are only public keys, which check tokens but make none.
    pub fn issue(&self, grant: &issue::Grant, now: Timestamp) -> Result<Secret<String>, NoSecret> {
        let secret = self.0.signing.as_ref().ok_or(NoSecret)?;
        let mut claims = issue::claims(grant, now);
        let demanded = [
            ("iss", &self.0.rules.issuer),
            ("aud", &self.0.rules.audience),
        ];
        for (claim, value) in demanded {
            if let Some(value) = value {
                claims.insert(claim.to_owned(), value.as_str().into());
            }
        }
        Ok(Secret::new(issue::sign(secret.reveal(), &claims)))
    }

    /// The cookie in which browsers may send the token.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.0.cookie.as_deref()
    }

    /// Reads the keys once, where there are public keys. On an error the keys stay as they are.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Why they were not read.
    pub async fn refresh(&self) -> Result<(), JwksError> {
        match &self.0.jwks {
            Some(jwks) => jwks.refresh().await,
            None => Ok(()),
        }
    }

    /// Keeps the keys fresh; never returns. Without it a token with a new key is refused.
    pub async fn run(self) {
        match &self.0.jwks {
            Some(jwks) => jwks.run().await,
            None => std::future::pending().await,
        }
    }

    /// What makes tokens; only in development mode.
    #[must_use]
    pub fn development(&self) -> Option<&Development> {
        self.0.development.as_ref()
    }

    /// True if there is something to check tokens with; false until keys behind a URL have come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.secret.is_some() || self.0.jwks.as_ref().is_some_and(Jwks::is_ready)
    }
}

fn development(data: &Path) -> Result<Development, SecretError> {
    let development = Development::open(data)?;
    warn!(
        secret = %data.join(DEVELOPMENT_SECRET).display(),
        "DEVELOPMENT MODE: whoever can read this file can be any user; \
         set auth.mode = \"token\" before others may connect"
    );
    Ok(development)
}

fn shared_secret(config: &config::Auth) -> Result<Option<Secret<Vec<u8>>>, OpenError> {
    if let Some(secret) = &config.secret {
        return Ok(Some(Secret::new(secret.reveal().as_bytes().to_vec())));
    }
    let Some(path) = &config.secret_file else {
        return Ok(None);
    };
    let bytes = fs::read(path).map_err(|error| OpenError::SecretFile(path.clone(), error))?;
    let secret = bytes.trim_ascii_end();
    if secret.len() < config::SECRET_BYTES_MIN {
        return Err(OpenError::ShortSecret(path.clone(), secret.len()));
    }
    Ok(Some(Secret::new(secret.to_vec())))
}

#[cfg(test)]
mod tests;
