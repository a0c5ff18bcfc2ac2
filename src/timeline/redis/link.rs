//! The connection of a shard: made, entered, forgotten when it breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::time::Instant;

use super::shard::{Shard, lock};
use crate::backend::redis::{Connection, Error as ServerError};
use crate::timeline::Error;
use crate::types::{Epoch, ShardPosition, ShardSeq};

/// Who enters does so alone.
#[derive(Debug, Default)]
pub(super) struct Entering {
    /// How often it was entered.
    count: u64,
    failed_at: Option<Instant>,
}

/// The functions, and their library's version in its name: two versions live side by side.
const LIBRARY: &str = concat!(
    include_str!("timeline.lua"),
    include_str!("moves.lua"),
    include_str!("since.lua")
);

/// How long a call waits for an epoch to be raised before it is refused.
const RAISED_WITHIN: Duration = Duration::from_secs(2);
/// How often is looked whether another node has raised it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Shard {
    /// Connects if there is no connection: loads the functions and looks whether the server is the
    /// process that the shard knows.
    ///
    /// # Errors
    /// When the server does not answer, or the shard's epoch has to be raised first.
    pub(super) async fn enter(&self) -> Result<(), ServerError> {
        self.entered().await.map(drop)
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        let entered = self.entered().await;
        let (_, connection) = entered.map_err(|error| self.gone(&error))?;
        let ping: Result<Value, ServerError> = connection.ask(&cmd("PING")).await;
        if let Err(error) = ping {
            self.forget_link(&connection);
            return Err(self.gone(&error));
        }
        Ok(())
    }

    pub(super) fn is_entered(&self) -> bool {
        lock(&self.link).is_some()
    }

    pub(super) fn needs_raise(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whoever waits for the raise looks whether it was done.
    pub(super) fn look_again(&self) {
        self.waits.store(false, Ordering::Release);
        self.looked_again.notify_waiters();
    }

    /// A connection with the functions loaded, which has not entered.
    pub(super) async fn connect(&self) -> Result<Connection, ServerError> {
        let connection = Connection::open(&self.options).await?;
        let mut load = cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
        let _: Value = connection.ask(&load).await?;
        Ok(connection)
    }

    async fn entered(&self) -> Result<(u64, Connection), ServerError> {
        if let Some(link) = self.link() {
            return Ok(link);
        }
        let asked_at = Instant::now();
        let mut entering = self.entering.lock().await;
        if let Some(link) = self.link() {
            return Ok(link);
        }
        // Each of many callers waits for one attempt, not for those of all before it.
        if entering.failed_at.is_some_and(|at| at > asked_at) {
            return Err(ServerError::Nowhere("it did not answer a moment ago"));
        }
        match self.enter_anew().await {
            Ok(connection) => {
                entering.count += 1;
                let link = (entering.count, connection);
                *lock(&self.link) = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                entering.failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    async fn enter_anew(&self) -> Result<Connection, ServerError> {
        let connection = self.connect().await?;
        let until = Instant::now() + RAISED_WITHIN;
        loop {
            let mut look = cmd("FCALL");
            look.arg("vb1_stand").arg(1).arg(self.keys.shard());
            look.arg(connection.run_id())
                .arg(&self.name)
                .arg(self.top().epoch.0);
            let parts: Vec<String> = connection.ask(&look).await?;
            match parts.first().map(String::as_str) {
                Some("CURRENT") => {
                    let number = |index: usize| parts.get(index).and_then(|text| text.parse().ok());
                    self.heard(ShardPosition {
                        epoch: Epoch(number(1).unwrap_or_default()),
                        shard_seq: ShardSeq(number(2).unwrap_or_default()),
                    });
                    break;
                }
                Some("RAISE") => self.wait_for_raise(until).await?,
                _ => {
                    let other = parts.get(1).map_or("", String::as_str);
                    tracing::error!(shard = %self.id, name = %self.name, other,
                        "this server is another shard's: the order of the configured shards was changed");
                    return Err(ServerError::Nowhere("the server belongs to another shard"));
                }
            }
        }
        self.waits.store(false, Ordering::Release);
        Ok(connection)
    }

    async fn wait_for_raise(&self, until: Instant) -> Result<(), ServerError> {
        if !self.is_raised {
            let nothing = |_: Error| ServerError::Nowhere("its epoch could not be raised");
            if let Some(raise) = self.begin_raise().await.map_err(nothing)? {
                self.end_raise(raise, 0).await.map_err(nothing)?;
            }
            return Ok(());
        }
        let looked_again = self.looked_again.notified();
        self.waits.store(true, Ordering::Release);
        self.needs_raise.notify_one();
        if Instant::now() >= until {
            return Err(ServerError::Nowhere("its epoch is being raised"));
        }
        // Another node may do it, of which nothing is heard here.
        let _another_node_may = tokio::time::timeout(LOOK_EVERY, looked_again).await;
        Ok(())
    }

    fn link(&self) -> Option<(u64, Connection)> {
        lock(&self.link).clone()
    }

    /// Whoever asks next enters anew and so notices a server that is another one.
    fn forget(&self, number: u64) {
        let mut link = lock(&self.link);
        if link.as_ref().is_some_and(|(current, _)| *current == number) {
            *link = None;
        }
    }

    fn forget_link(&self, connection: &Connection) {
        let mut link = lock(&self.link);
        if link
            .as_ref()
            .is_some_and(|(_, current)| current.run_id() == connection.run_id())
        {
            *link = None;
        }
    }

    pub(super) fn gone(&self, error: &ServerError) -> Error {
        match error.retry() {
            true => tracing::debug!(shard = %self.id, %error, "a shard did not answer"),
            false => tracing::error!(shard = %self.id, %error, "a shard refused a call"),
        }
        Error::Unavailable { shard: self.id }
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Error> {
        let (number, connection) = self.entered().await.map_err(|error| self.gone(&error))?;
        connection.ask(command).await.map_err(|error| {
            self.forget(number);
            self.gone(&error)
        })
    }

    /// Asks many at once; each answer, or why there is none. After a refusal that may heal the
    /// connection is another one.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Vec<Result<Value, Error>> {
        let failed = |error: Error| (0..commands.len()).map(|_| Err(error.clone())).collect();
        let (number, connection) = match self.entered().await {
            Ok(link) => link,
            Err(error) => return failed(self.gone(&error)),
        };
        match connection.ask_all(commands).await {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| {
                    answer.map_err(|error| {
                        self.forget(number);
                        self.gone(&error)
                    })
                })
                .collect(),
            Err(error) => {
                self.forget(number);
                failed(self.gone(&error))
            }
        }
    }

    /// A shard said that it is in another epoch. One that went back was emptied while its server went on
    /// (FLUSHALL): whoever asks next enters anew, and so has it raised.
    pub(super) fn stale(&self, epoch: Epoch) -> Result<(), Error> {
        if epoch < self.top().epoch {
            tracing::error!(shard = %self.id, %epoch, "a shard went back to an epoch that is over");
            *lock(&self.link) = None;
            return Err(Error::Unavailable { shard: self.id });
        }
        self.heard(ShardPosition {
            epoch,
            shard_seq: ShardSeq(0),
        });
        Ok(())
    }
}
