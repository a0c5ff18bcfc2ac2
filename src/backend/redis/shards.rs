//! The shards of a deployment, for state that is shared between nodes: limits, presence, sessions,
//! caches, leases.
//!
//! One connection for each shard, opened when it is first needed and again after it broke. Unlike the
//! timeline's own connections these may reconnect by themselves: what is kept through them is written
//! anew or expires, and no order depends on it. Functions are loaded with each connection, so that a
//! server that came back empty has them before the first call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Pipeline, Value, cmd};

use super::{Connection, Error, Options, rings};
use crate::placement::{PlanError, Rings, Shares, Target};
use crate::telemetry::{Spread, metrics};
use crate::types::ShardId;

/// One shard: its name on the ring, its share, its server.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Decides which rooms are on it; never changes.
    pub name: String,
    /// Its share of the rooms.
    pub weight: u32,
    /// Where it is.
    pub server: Options,
}

/// A library of functions that is loaded with every connection.
pub type Scripted = &'static str;

/// The shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shards(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rings: Rings,
    /// When the ring changed.
    adopted: Mutex<Instant>,
    shards: Vec<Shard>,
    libraries: Vec<Scripted>,
}

#[derive(Debug)]
struct Shard {
    name: String,
    weight: u32,
    options: Options,
    state: Mutex<State>,
    /// Held by the one that connects.
    opening: tokio::sync::Mutex<()>,
    /// How long its calls take.
    took: Spread,
}

#[derive(Debug, Default)]
struct State {
    /// Its number tells a late failure from a new connection's.
    link: Option<(u64, Connection)>,
    opened: u64,
    /// Nobody tries before this: a server that is away is asked by a few, not by everybody.
    not_before: Option<Instant>,
    failures: u32,
}

impl Shards {
    /// These shards, numbered in this order; nothing is connected yet. The libraries are loaded with
    /// each connection.
    ///
    /// # Errors
    /// When they cannot share a ring.
    pub fn new(shards: &[ShardOptions], libraries: &[Scripted]) -> Result<Self, PlanError> {
        let targets: Vec<Target> = (0..)
            .map(ShardId)
            .zip(shards)
            .map(|(id, shard)| Target {
                id,
                name: shard.name.clone(),
                weight: shard.weight,
            })
            .collect();
        let rings = Rings::new(&targets)?;
        let shards = shards.iter().map(|shard| Shard {
            name: shard.name.clone(),
            weight: shard.weight,
            options: shard.server.clone(),
            state: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            took: metrics::REDIS_TIME.of([&shard.name]),
        });
        Ok(Self(Arc::new(Inner {
            rings,
            adopted: Mutex::new(Instant::now()),
            shards: shards.collect(),
            libraries: [&[rings::LIBRARY], libraries].concat(),
        })))
    }

    /// Where a per-user key is kept.
    #[must_use]
    pub fn shard_of(&self, key: &str) -> ShardId {
        self.0.rings.view().key(key)
    }

    /// The ring, which may change; see [`keep_plan`](Self::keep_plan).
    #[must_use]
    pub fn rings(&self) -> &Rings {
        &self.0.rings
    }

    pub(super) fn adopted(&self) -> &Mutex<Instant> {
        &self.0.adopted
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u16::try_from(self.0.shards.len()).unwrap_or(u16::MAX);
        (0..count).map(ShardId)
    }

    /// A shard's name on the ring.
    #[must_use]
    pub fn name(&self, shard: ShardId) -> &str {
        &self.shard(shard).name
    }

    /// A shard's share of the rooms, of 1.
    #[must_use]
    pub fn share(&self, shard: ShardId) -> f64 {
        let view = self.0.rings.view();
        let all: u32 = view.plan.rooms.values().sum();
        let weight = view.plan.rooms.get(self.name(shard));
        f64::from(weight.copied().unwrap_or_default()) / f64::from(all.max(1))
    }

    /// Those that are configured with a weight.
    #[must_use]
    pub fn configured(&self) -> Shares {
        let share = |shard: &Shard| (shard.name.clone(), shard.weight);
        let on_ring = self.0.shards.iter().filter(|shard| shard.weight > 0);
        on_ring.map(share).collect()
    }

    /// How a shard is reached. A shard that does not exist is answered for by the last.
    #[must_use]
    pub fn options(&self, shard: ShardId) -> &Options {
        &self.shard(shard).options
    }

    /// The hash tag that keys of a shard share, with its braces.
    #[must_use]
    pub fn tag(shard: ShardId) -> String {
        format!("{{vb{}}}", shard.0)
    }

    /// Asks a shard one command.
    ///
    /// # Errors
    /// When there was no answer, or a refusal. The call may have taken effect.
    pub async fn ask<T: FromRedisValue>(&self, shard: ShardId, command: &Cmd) -> Result<T, Error> {
        let (number, connection) = self.link(shard).await?;
        let answer = self.timed(shard, connection.ask(command)).await;
        self.judged(shard, number, answer)
    }

    /// Asks a command that is made for one life of the server: it is given the run id of the server that
    /// answers it.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ask_alive<T: FromRedisValue>(
        &self,
        shard: ShardId,
        command: impl FnOnce(&str) -> Cmd,
    ) -> Result<T, Error> {
        let (number, connection) = self.link(shard).await?;
        let command = command(connection.run_id());
        let answer = self.timed(shard, connection.ask(&command)).await;
        self.judged(shard, number, answer)
    }

    /// Asks a shard many commands at once, which it runs in this order.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn ask_all(
        &self,
        shard: ShardId,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let (number, connection) = self.link(shard).await?;
        let answers = self.timed(shard, connection.ask_all(commands)).await;
        self.judged(shard, number, answers)
    }

    /// The run id of a shard's server: another one means that it may have lost what was written last.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn run_id(&self, shard: ShardId) -> Result<String, Error> {
        let (_, connection) = self.link(shard).await?;
        Ok(connection.run_id().to_owned())
    }

    async fn timed<T>(&self, shard: ShardId, call: impl Future<Output = T>) -> T {
        // Who does not wait for the answer any more has waited so long.
        let _timed = Timed(&self.shard(shard).took, Instant::now());
        call.await
    }

    fn judged<T>(&self, shard: ShardId, number: u64, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer
            && error.retry()
        {
            let mut state = lock(&self.shard(shard).state);
            if state
                .link
                .as_ref()
                .is_some_and(|(current, _)| *current == number)
            {
                state.link = None;
            }
        }
        answer
    }

    async fn link(&self, shard: ShardId) -> Result<(u64, Connection), Error> {
        let Shard {
            options,
            state,
            opening,
            ..
        } = self.shard(shard);
        if let Some(link) = ready(state)? {
            return Ok(link);
        }
        let _opening = opening.lock().await;
        if let Some(link) = ready(state)? {
            return Ok(link);
        }
        let opened = self.open(options).await;
        let mut state = lock(state);
        match opened {
            Ok(connection) => {
                state.opened += 1;
                state.failures = 0;
                state.not_before = None;
                let link = (state.opened, connection);
                state.link = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                let most = FIRST
                    .saturating_mul(1 << state.failures.min(5))
                    .min(LONGEST);
                state.failures += 1;
                let pause = most.mul_f64(rand::random_range(0.5..=1.0));
                state.not_before = Some(Instant::now() + pause);
                Err(error)
            }
        }
    }

    async fn open(&self, options: &Options) -> Result<Connection, Error> {
        let connection = Connection::open(options).await?;
        for library in &self.0.libraries {
            let mut load = cmd("FUNCTION");
            load.arg("LOAD").arg("REPLACE").arg(*library);
            let _: Value = connection.ask(&load).await?;
        }
        Ok(connection)
    }

    fn shard(&self, shard: ShardId) -> &Shard {
        &self.0.shards[usize::from(shard.0).min(self.0.shards.len() - 1)]
    }
}

/// A call, until its answer came or is not waited for.
struct Timed<'a>(&'a Spread, Instant);

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.0.record(self.1.elapsed());
    }
}

/// The connection, if there is one; an error while nobody is to try.
fn ready(state: &Mutex<State>) -> Result<Option<(u64, Connection)>, Error> {
    let state = lock(state);
    if let Some(link) = &state.link {
        return Ok(Some(link.clone()));
    }
    match state.not_before {
        Some(at) if Instant::now() < at => Err(Error::Nowhere("it did not answer a moment ago")),
        _ => Ok(None),
    }
}

pub(super) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
