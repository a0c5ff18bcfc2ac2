//! Connections to Redis servers.
//!
//! A [`Connection`] never reconnects by itself: whoever holds it learns that it broke, opens another and
//! first looks at whose answers it now gets (the run id). That is what makes a restarted server, which
//! may have lost its last writes, impossible to overlook.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};

use crate::types::{Kind, Secret};

/// Where a server is, and how long it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// `redis://[user:password@]host:port` or `rediss://…`.
    pub url: Secret<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take. A call that took longer may still have taken effect.
    pub response_timeout: Duration,
}

impl Options {
    /// A server at this address, with the usual times.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self {
            url: Secret::new(url),
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
            Self::Unavailable(_) => Kind::Unavailable,
            Self::Url | Self::Refused(_) => Kind::Internal,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        // A server that starts, stops, fails over or is full answers with these; each of them heals.
        const PASSING: [&str; 9] = [
            "LOADING",
            "READONLY",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "NOREPLICAS",
            "BUSY",
            "OOM",
            "MISCONF",
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
        let client = Client::open(options.url.reveal().as_str()).map_err(|_| Error::Url)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.response_timeout))
            .set_pipeline_buffer_size(PIPELINE);
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
}

/// Commands that may wait for the socket: more than a poll of the log brings.
const PIPELINE: usize = 1_024;
