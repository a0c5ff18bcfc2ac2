//! PostgreSQL, where several nodes keep what is kept for good.
//!
//! A call gets one connection of a few, and every step of it a time. A server that stops answering
//! is an error that says "later" ([`Error::Unavailable`]), within a bound; when it is back, so are the
//! calls. What the server took back itself (a deadlock, a restart in the middle) is done again here.
//!
//! All transactions are `READ COMMITTED`: each statement sees what was committed before *it* began,
//! so whoever needs the last word about a row first changes that row, which waits for others.
//!
//! Not here: a copy of what is written. Who is told `Unavailable` has it, and tries again.

mod fault;
mod migrate;
mod pool;
mod values;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, timeout_at};

use self::pool::Pool;
use super::error::Error;
use super::statement::{Row, Statement};
use crate::telemetry::metrics;
use crate::types::Secret;

pub use self::pool::Connection;
pub use self::values::{Query, storable};

/// Where a server is, and how long it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://user:password@host:port/database`, with `?sslmode=verify-full` for TLS.
    pub url: Secret<String>,
    /// Connections of this node at most.
    pub connections: u32,
    /// How long a call waits for a connection, a free one or a new one.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long opening waits for a server that is not there yet.
    pub open_timeout: Duration,
}

impl Options {
    /// A server at this address, with the usual times.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self {
            url: Secret::new(url),
            connections: 10,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_secs(30),
        }
    }

    fn server(&self) -> Result<PgConnectOptions, Error> {
        let url = self.url.reveal().as_str();
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(Error::Address);
        }
        let server = PgConnectOptions::from_str(url).map_err(|_shows_the_url| Error::Address)?;
        let server = match server.get_application_name() {
            Some(_) => server,
            None => server.application_name("vestibule"),
        };
        Ok(server
            .disable_statement_logging()
            .statement_cache_capacity(STATEMENTS))
    }

    /// How long an answer is waited for: a statement that takes too long is told so by the server
    /// first, unless the server is not there.
    fn answer_timeout(&self) -> Duration {
        self.statement_timeout + GRACE
    }

    fn greeting(&self) -> String {
        format!(
            "SET statement_timeout = {};
            SET idle_in_transaction_session_timeout = {};
            SET default_transaction_isolation = 'read committed';
            SET jit = off;
            SELECT set_config('synchronous_commit', 'on', false)
                WHERE current_setting('synchronous_commit') = 'off'",
            self.statement_timeout.as_millis(),
            // Locks of a node that was stopped in its tracks are not held longer than this.
            (self.answer_timeout() * 2).as_millis(),
        )
    }
}

/// Work that is one transaction. It is run again when the server took it back.
pub trait Work: Sync {
    /// What it answers.
    type Answer: Send;

    /// Does it, within a transaction that is open.
    fn run<'a>(&'a self, connection: &'a mut Connection) -> Working<'a, Self::Answer>;
}

/// What [`Work::run`] returns.
pub type Working<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The server's database. Clones share its connections.
#[derive(Clone)]
pub struct Database(Arc<Pool>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Connects and brings the schema forward. A server that is not there yet is waited for.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Denied`] and [`Error::Newer`] at once; [`Error::Unavailable`]
    /// when the server has not answered in `open_timeout`.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let server = options.server()?;
        let until = Instant::now() + options.open_timeout;
        let mut wait = OPEN_WAIT_MIN;
        loop {
            let migrated = timeout_at(until, migrate::migrate(&server)).await;
            let error = match migrated {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error,
                Err(_elapsed) => fault::late(options.open_timeout),
            };
            let may_heal = error.retry() && !matches!(error, Error::Denied(_));
            if !may_heal || Instant::now() + wait >= until {
                return Err(error);
            }
            tracing::warn!(%error, source = ?std::error::Error::source(&error), "waiting for PostgreSQL");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(OPEN_WAIT_MAX);
        }
        Ok(Self(Arc::new(Pool::new(
            server,
            options.greeting(),
            options.connections.max(1),
            options.connect_timeout,
            options.answer_timeout(),
        ))))
    }

    /// Runs a batch as one transaction and answers the rows of each statement; returns when it is
    /// durable. When cancelled, it may or may not be done.
    ///
    /// # Errors
    /// [`Error::Unmet`] and [`Error::Unique`] say that nothing of this batch was done, and why. After
    /// [`Error::Unavailable`] it may have been done: the answer was lost.
    pub async fn write(&self, batch: Vec<Statement>) -> Result<Vec<Vec<Row>>, Error> {
        match batch.as_slice() {
            [] => Ok(Vec::new()),
            // A statement alone is a transaction, in one step instead of three.
            [only] if !only.is_must => Ok(vec![timed(self.run(only, fault::is_answer)).await?]),
            _ => self.transact(&Batch(batch)).await,
        }
    }

    /// Runs a statement that only reads. It sees every batch that was answered before.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn read(&self, statement: &Statement) -> Result<Vec<Row>, Error> {
        timed(self.run(statement, |_| true)).await
    }

    /// Runs a statement; again, after a fault that may be repeated.
    async fn run(
        &self,
        statement: &Statement,
        is_repeatable: fn(&Error) -> bool,
    ) -> Result<Vec<Row>, Error> {
        let mut attempt = 0;
        loop {
            let mut connection = self.0.take().await?;
            let error = match connection.run(statement).await {
                Ok(rows) => {
                    connection.release();
                    return Ok(rows);
                }
                Err(error) => error,
            };
            if fault::keeps_connection(&error) {
                connection.release();
            } else {
                connection.discard();
            }
            if !is_repeatable(&error) {
                return Err(error);
            }
            rest(error, &mut attempt).await?;
        }
    }

    /// Runs work as one transaction; returns when it is durable.
    ///
    /// # Errors
    /// What the work failed with: nothing of it was done. After [`Error::Unavailable`] all of it may
    /// have been done: the answer was lost.
    pub async fn transact<W: Work>(&self, work: &W) -> Result<W::Answer, Error> {
        timed(self.attempts(work)).await
    }

    async fn attempts<W: Work>(&self, work: &W) -> Result<W::Answer, Error> {
        let mut attempt = 0;
        loop {
            let mut connection = self.0.take().await?;
            let mut is_committing = false;
            let error = match attempt_once(&mut connection, work, &mut is_committing).await {
                Ok(answer) => {
                    connection.release();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if fault::keeps_connection(&error) && connection.command("ROLLBACK").await.is_ok() {
                connection.release();
            } else {
                connection.discard();
            }
            // Nobody knows whether it was committed: whoever asked knows whether that matters.
            if is_committing && !fault::is_answer(&error) {
                return Err(error);
            }
            rest(error, &mut attempt).await?;
        }
    }

    /// Lets running work end and closes the connections.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

async fn timed<T>(call: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = call.await;
    metrics::POSTGRES_TIME.record(began.elapsed());
    answer
}

async fn attempt_once<W: Work>(
    connection: &mut Connection,
    work: &W,
    is_committing: &mut bool,
) -> Result<W::Answer, Error> {
    connection.command("BEGIN").await?;
    let answer = work.run(connection).await?;
    *is_committing = true;
    connection.command("COMMIT").await?;
    Ok(answer)
}

/// Waits before another attempt, or gives the error back when that would not help.
async fn rest(error: Error, attempt: &mut u32) -> Result<(), Error> {
    let is_conflict = matches!(error, Error::Conflict(_));
    if *attempt >= ATTEMPTS_MAX || !(is_conflict || fault::is_lost(&error)) {
        return Err(error);
    }
    *attempt += 1;
    metrics::POSTGRES_REPEATS.add(1);
    tracing::debug!(%error, attempt, "PostgreSQL took work back; doing it again");
    if is_conflict {
        // Those who were in each other's way must not meet again.
        let most = CONFLICT_WAIT * 2u32.saturating_pow(*attempt);
        tokio::time::sleep(most.mul_f64(rand::random_range(0.2..=1.0))).await;
    }
    Ok(())
}

struct Batch(Vec<Statement>);

impl Work for Batch {
    type Answer = Vec<Vec<Row>>;

    fn run<'a>(&'a self, connection: &'a mut Connection) -> Working<'a, Self::Answer> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(self.0.len());
            for (index, statement) in self.0.iter().enumerate() {
                let rows = connection.run(statement).await?;
                if statement.is_must && rows.is_empty() {
                    return Err(Error::Unmet(index));
                }
                answers.push(rows);
            }
            Ok(answers)
        })
    }
}

/// More than the program has texts, so that each is compiled once for each connection.
const STATEMENTS: usize = 256;

/// How much later than the server this node gives up on a statement.
const GRACE: Duration = Duration::from_secs(1);

const OPEN_WAIT_MIN: Duration = Duration::from_millis(100);
const OPEN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Times that work is done again before its fault is the caller's.
const ATTEMPTS_MAX: u32 = 5;

/// A short transaction's time.
const CONFLICT_WAIT: Duration = Duration::from_millis(5);
