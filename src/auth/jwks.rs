//! Where public keys come from: a file or a URL, read again in the background.
//!
//! Stale is better than none: while the source cannot be read, or holds no usable key, the keys
//! last read stay in use. A token that names an unknown key asks for one more reading, at most one
//! per cooldown whatever clients send. All reading is done by [`Jwks::run`], so that a client that
//! hangs up midway cannot break off what others wait for.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::fetch::{self, FetchError};
use super::keys::{KeySet, KeySetError};
use crate::config;

/// Why keys were not read.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error("cannot read the keys in {0}")]
    File(String, #[source] io::Error),
    /// The URL does not answer as it should.
    #[error("cannot fetch the keys from {0}")]
    Url(String, #[source] FetchError),
    /// The text is no set of keys.
    #[error("cannot use the keys from {0}")]
    Set(String, #[source] KeySetError),
}

/// How often a file is looked at: a glance costs nothing.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

enum Place {
    File(PathBuf),
    Url(Uri),
}

/// Whether tokens with unknown keys want the source to be read.
#[derive(Default)]
struct Wanted {
    /// When the last of them was heard.
    last: Option<Instant>,
    /// True from then until the source has been read.
    is_pending: bool,
}

/// Keys that are kept fresh.
pub(super) struct Jwks {
    place: Place,
    interval: Duration,
    cooldown: Duration,
    timeout: Duration,
    current: ArcSwap<KeySet>,
    /// The text last read, so that only a change is reported.
    text: Mutex<Vec<u8>>,
    wanted: Mutex<Wanted>,
    asked: Notify,
    /// Counts finished readings.
    readings: watch::Sender<u64>,
}

impl Jwks {
    /// The keys of a file or URL; none are read yet.
    fn new(place: Place, config: &config::Auth) -> Self {
        let interval = match place {
            Place::File(_) => FILE_INTERVAL,
            Place::Url(_) => config.jwks_refresh.get(),
        };
        Self {
            place,
            interval,
            cooldown: config.jwks_cooldown.get(),
            timeout: config.jwks_timeout.get(),
            current: ArcSwap::default(),
            text: Mutex::default(),
            wanted: Mutex::default(),
            asked: Notify::new(),
            readings: watch::channel(0).0,
        }
    }

    /// The keys of a file, read once so that a bad file is noticed at the start.
    pub(super) fn file(path: PathBuf, config: &config::Auth) -> Result<Self, JwksError> {
        let text =
            fs::read(&path).map_err(|error| JwksError::File(path.display().to_string(), error))?;
        let jwks = Self::new(Place::File(path), config);
        jwks.take(text)?;
        Ok(jwks)
    }

    /// The keys behind a URL; none until the first [`refresh`](Self::refresh).
    pub(super) fn url(uri: Uri, config: &config::Auth) -> Self {
        Self::new(Place::Url(uri), config)
    }

    /// The keys last read.
    pub(super) fn current(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// True once keys have been read.
    pub(super) fn is_ready(&self) -> bool {
        self.current.load().len() > 0
    }

    /// Reads the source once. On an error the keys stay as they are. Cancel-safe.
    pub(super) async fn refresh(&self) -> Result<(), JwksError> {
        let text = match &self.place {
            Place::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| JwksError::File(self.source(), error))?,
            Place::Url(uri) => fetch::get(uri.clone(), self.timeout)
                .await
                .map_err(|error| JwksError::Url(self.source(), error))?
                .to_vec(),
        };
        self.take(text)
    }

    fn take(&self, text: Vec<u8>) -> Result<(), JwksError> {
        let mut last = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == text {
            return Ok(());
        }
        let set = KeySet::parse(&text).map_err(|error| JwksError::Set(self.source(), error))?;
        info!(source = %self.source(), keys = set.len(), left_out = set.left_out, "keys read");
        self.current.store(Arc::new(set));
        *last = text;
        Ok(())
    }

    /// Waits until the source has been read once more; returns at once when that was done for
    /// another unknown key too short a time ago. Cancel-safe.
    pub(super) async fn ask(&self) {
        let mut readings = self.readings.subscribe();
        if !self.wants_reading() {
            return;
        }
        // Longer than a reading takes: whoever waits here is a client that cannot come in yet.
        let patience = self.timeout + Duration::from_secs(1);
        if tokio::time::timeout(patience, readings.changed())
            .await
            .is_err()
        {
            warn!(source = %self.source(), "nobody reads the keys again");
        }
    }

    /// True if a reading is under way; starts one if the last is long enough ago.
    fn wants_reading(&self) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if wanted
            .last
            .is_none_or(|last| now.duration_since(last) >= self.cooldown)
        {
            *wanted = Wanted {
                last: Some(now),
                is_pending: true,
            };
            self.asked.notify_one();
        }
        wanted.is_pending
    }

    fn finish_reading(&self) {
        self.wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_pending = false;
        self.readings.send_modify(|count| *count += 1);
    }

    /// Reads the source at its interval and when asked, for ever.
    pub(super) async fn run(&self) {
        let mut is_failing = false;
        loop {
            // Without any key nobody can come in: do not wait for the usual interval.
            let wait = if self.is_ready() {
                self.interval
            } else {
                self.interval.min(RETRY)
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.asked.notified() => {}
            }
            match self.refresh().await {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        info!(source = %self.source(), "keys can be read again");
                    }
                }
                Err(error) if is_failing => tracing::debug!(%error, "keys still cannot be read"),
                Err(error) => {
                    is_failing = true;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "keys cannot be read; those last read stay in use");
                }
            }
            self.finish_reading();
        }
    }

    fn source(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Url(uri) => uri.to_string(),
        }
    }
}

/// How soon the first reading is tried again.
const RETRY: Duration = Duration::from_secs(5);
