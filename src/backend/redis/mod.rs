//! Connections to Redis servers.
//!
//! A [`Connection`] never reconnects by itself: whoever holds it learns that it broke, opens another and
//! first looks at whose answers it now gets (the run id). That is what makes a restarted server, which
//! may have lost its last writes, impossible to overlook.

mod name;
mod place;
mod rings;
mod shards;

use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, PushInfo, RedisError, Value};

use crate::types::{Kind, Secret};

pub use name::{hashed, name};
pub use place::{Place, PlaceError};
pub use rings::PutError;
pub use shards::{Scripted, ShardOptions, Shards};

/// Where a server is, and how long it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is, or who knows.
    pub place: Place,
    /// Certificates of the authorities to trust, in PEM; `None` for the machine's own. For `rediss`.
    pub authority: Option<Vec<u8>>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take. A call that took longer may still have taken effect.
    pub response_timeout: Duration,
}

impl Options {
    /// A server at this address, with the usual times.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self::at(Place::Server(Secret::new(url)))
    }

    /// A server at this place, with the usual times.
    #[must_use]
    pub const fn at(place: Place) -> Self {
        Self {
            place,
            authority: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(3),
        }
    }
}

/// Why a server was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none; it is not shown, because it may hold a password.
    #[error("the address of a redis server is not a redis:// URL")]
    Url,
    /// No Sentinel knows the primary, or no node of the cluster has the slot.
    #[error("no redis server was found: {0}")]
    Nowhere(&'static str),
    /// The server cannot be reached, is loading, or takes too long.
    #[error("redis does not answer: {0}")]
    Unavailable(RedisError),
    /// The server refused the call, or answered what it must not.
    #[error("redis refused: {0}")]
    Refused(RedisError),
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Unavailable(_) | Self::Nowhere(_) => Kind::Unavailable,
            Self::Url | Self::Refused(_) => Kind::Internal,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Nowhere(_))
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        // A server that starts, stops, fails over or is full answers with these; each of them heals.
        const PASSING: [&str; 11] = [
            "LOADING",
            "READONLY",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "NOREPLICAS",
            "BUSY",
            "OOM",
            "MISCONF",
            // The slot is on another master now: whoever asks next looks where.
            "MOVED",
            "ASK",
        ];
        let is_passing = error.code().is_some_and(|code| PASSING.contains(&code));
        if is_passing || error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
        {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}

/// One connection, shared by any number of askers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    link: MultiplexedConnection,
    run_id: String,
}

impl Connection {
    /// Connects, and asks the server who it is.
    ///
    /// # Errors
    /// When it cannot be reached in time.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        Self::connect(options, None).await
    }

    /// The same, for a connection that also hears what is published (RESP3). `heard` is called by the
    /// task that reads the socket: it must not wait. When the connection ends it is told so once, with
    /// [`redis::PushKind::Disconnection`].
    ///
    /// # Errors
    /// When it cannot be reached in time.
    pub async fn open_hearing(
        options: &Options,
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::connect(options, Some(Box::new(heard))).await
    }

    async fn connect(options: &Options, heard: Option<Heard>) -> Result<Self, Error> {
        let client = place::find(options, heard.is_some()).await?;
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.response_timeout))
            .set_pipeline_buffer_size(PIPELINE);
        if let Some(heard) = heard {
            config = config.set_push_sender(move |push: PushInfo| {
                heard(push);
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let mut link = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut link)
            .await?;
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run_id = run_id.unwrap_or_default().trim().to_owned();
        Ok(Self { link, run_id })
    }

    /// Changes with every start of the server process.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Asks one command. After an error that is not a refusal the connection is to be dropped.
    ///
    /// # Errors
    /// When there was no answer, or a refusal.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        Ok(command.query_async(&mut self.link.clone()).await?)
    }

    /// Asks many commands at once; the server runs them in this order. The answers come in the same
    /// order, each an answer or a refusal of its own.
    ///
    /// # Errors
    /// When there was no answer; then any first part of them may have taken effect.
    pub async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let values = self
            .link
            .clone()
            .req_packed_commands(commands, 0, commands.len())
            .await?;
        let each = |value: Value| value.extract_error().map_err(Error::from);
        Ok(values.into_iter().map(each).collect())
    }
}

/// What is called with everything that a connection hears.
type Heard = Box<dyn Fn(PushInfo) + Send + Sync>;

/// Commands that may wait for the socket: more than a poll of the log brings.
const PIPELINE: usize = 1_024;
