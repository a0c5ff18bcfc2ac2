//! A few connections to one server, shared by all who ask.
//!
//! A connection is given back only by whoever ended its work in order; every other way out, a fault,
//! a time that ran out, a caller that went away, closes it. So none is ever in a state that nobody
//! knows, and nothing waits for a server that has stopped answering.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::fault;
use super::values::{self, Query};
use crate::backend::error::Error;
use crate::backend::statement::{Row, Statement};
use crate::telemetry::metrics;

pub(super) struct Pool {
    pub(super) server: PgConnectOptions,
    /// What each new connection is told first.
    pub(super) greeting: String,
    pub(super) connect_timeout: Duration,
    /// How long an answer may take.
    pub(super) answer_timeout: Duration,
    connections: u32,
    permits: Arc<Semaphore>,
    /// Places for those who wait for one of them.
    places: Semaphore,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    /// The one used last is at the back.
    idle: VecDeque<Idle>,
    /// When a connection was found broken last.
    broken_at: Option<Instant>,
    is_closed: bool,
}

struct Idle {
    raw: PgConnection,
    born: Instant,
    since: Instant,
}

/// A connection that nobody else uses.
pub struct Connection {
    raw: PgConnection,
    born: Instant,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(
        server: PgConnectOptions,
        greeting: String,
        connections: u32,
        connect_timeout: Duration,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            server,
            greeting,
            connect_timeout,
            answer_timeout,
            connections,
            permits: Arc::new(Semaphore::new(connections as usize)),
            places: Semaphore::new(WAITING_MAX),
            free: Mutex::default(),
        }
    }

    /// A connection that answers: one that is free, or a new one. Waits for one at most the time
    /// that connecting may take.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Connection, Error> {
        let deadline = Instant::now() + self.connect_timeout;
        let Ok(permit) = timeout_at(deadline, self.permit()).await else {
            return Err(fault::late(self.connect_timeout));
        };
        let permit = permit?;
        while let Some((mut idle, is_doubtful)) = self.pop()? {
            // However many are broken, all of it has one time.
            let limit = deadline.min(Instant::now() + PING);
            let answers =
                !is_doubtful || matches!(timeout_at(limit, idle.raw.ping()).await, Ok(Ok(())));
            if answers {
                return Ok(Connection {
                    raw: idle.raw,
                    born: idle.born,
                    pool: Arc::clone(self),
                    _permit: permit,
                });
            }
            self.note_broken();
        }
        let raw = timeout_at(deadline, self.connect()).await;
        Ok(Connection {
            raw: raw.map_err(|_elapsed| fault::late(self.connect_timeout))??,
            born: Instant::now(),
            pool: Arc::clone(self),
            _permit: permit,
        })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(fault::crowded(WAITING_MAX));
        };
        let _waiting = metrics::POSTGRES_WAITING.raised();
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|_closed| Error::Closed)
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut raw = self.server.connect().await.map_err(fault::of)?;
        let greeting = sqlx::raw_sql(sqlx::AssertSqlSafe(self.greeting.as_str()));
        raw.execute(greeting).await.map_err(fault::of)?;
        Ok(raw)
    }

    /// The connection used last, and whether it has to prove that it answers.
    fn pop(&self) -> Result<Option<(Idle, bool)>, Error> {
        let mut free = self.lock();
        if free.is_closed {
            return Err(Error::Closed);
        }
        let broken_at = free.broken_at;
        Ok(free.idle.pop_back().map(|idle| {
            let is_old = idle.since.elapsed() > TRUSTED_FOR;
            let is_doubtful = is_old || broken_at.is_some_and(|broken_at| broken_at >= idle.since);
            (idle, is_doubtful)
        }))
    }

    /// What was idle until now may be broken too.
    fn note_broken(&self) {
        metrics::POSTGRES_BROKEN.add(1);
        self.lock().broken_at = Some(Instant::now());
    }

    /// Lets running work end and closes the connections.
    pub(super) async fn close(&self) {
        let idle: Vec<Idle> = {
            let mut free = self.lock();
            free.is_closed = true;
            free.idle.drain(..).collect()
        };
        for idle in idle {
            // A server that does not answer has nothing to lose.
            timeout(PING, idle.raw.close()).await.ok();
        }
        let all = self.permits.acquire_many(self.connections);
        timeout(self.answer_timeout, all).await.ok();
        self.permits.close();
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Runs a statement.
    ///
    /// # Errors
    /// When it is refused, or not answered in time.
    pub async fn run(&mut self, statement: &Statement) -> Result<Vec<Row>, Error> {
        let rows = self.fetch(values::query(statement)).await?;
        let rows = rows.iter().map(values::values).collect::<Result<_, _>>();
        rows.map_err(fault::of)
    }

    /// Runs a query; how many rows it changed.
    ///
    /// # Errors
    /// When it is refused, or not answered in time.
    pub async fn execute(&mut self, query: Query<'_>) -> Result<u64, Error> {
        let limit = self.pool.answer_timeout;
        let done = timeout(limit, query.execute(&mut self.raw)).await;
        let done = done.map_err(|_elapsed| fault::late(limit))?;
        Ok(done.map_err(fault::of)?.rows_affected())
    }

    /// Runs a text without arguments.
    ///
    /// # Errors
    /// When it is refused, or not answered in time.
    pub async fn command(&mut self, sql: &'static str) -> Result<(), Error> {
        let limit = self.pool.answer_timeout;
        let done = timeout(limit, self.raw.execute(sqlx::raw_sql(sql))).await;
        done.map_err(|_elapsed| fault::late(limit))?
            .map_err(fault::of)?;
        Ok(())
    }

    async fn fetch(&mut self, query: Query<'_>) -> Result<Vec<PgRow>, Error> {
        let limit = self.pool.answer_timeout;
        let rows = timeout(limit, query.fetch_all(&mut self.raw)).await;
        rows.map_err(|_elapsed| fault::late(limit))?
            .map_err(fault::of)
    }

    /// Gives it back: its work ended, no transaction is open.
    pub(super) fn release(self) {
        let now = Instant::now();
        let mut free = self.pool.lock();
        let is_young = now.duration_since(self.born) < LIFETIME;
        if is_young && !free.is_closed {
            free.idle.push_back(Idle {
                raw: self.raw,
                born: self.born,
                since: now,
            });
        }
        // After a crowd has gone, so do the connections that it needed.
        let is_spare = |idle: &Idle| now.duration_since(idle.since) > IDLE_MAX;
        let spare = free.idle.pop_front_if(|idle| is_spare(idle));
        drop(free);
        drop(spare);
    }

    /// Closes it: it is broken, and others may be.
    pub(super) fn discard(self) {
        self.pool.note_broken();
    }
}

/// Callers that wait for a connection: seconds of work. Whoever comes later is told at once.
const WAITING_MAX: usize = 4_096;

/// A connection that was used so recently is taken to be there.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a connection may take to show that it is there, before another is opened.
const PING: Duration = Duration::from_secs(1);

/// So that a server that was added behind a balancer gets its share in time.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// How long a connection is kept that nobody needs.
const IDLE_MAX: Duration = Duration::from_secs(300);
