//! Which backend is behind each port, by mode.

use anyhow::Context as _;

use crate::accounts::Accounts;
use crate::archive::Archive;
use crate::auth::Authenticator;
use crate::backend::sql::{self, Database};
use crate::cluster::bus::Bus;
use crate::cluster::presence::Presence;
use crate::config::{Config, Mode};
use crate::delivery::archive::{self as archiving, Archiver};
use crate::delivery::effects::{self, Effects};
use crate::delivery::history::History;
use crate::delivery::publish::Publisher;
use crate::delivery::pump::{self, Pump};
use crate::delivery::restore::Restore;
use crate::directory::Directory;
use crate::eventlog::{self, EventLog, Retention};
use crate::events::Vocabulary;
use crate::lifecycle::{Drain, Phase, TaskKind, Tasks};
use crate::limits::Limits;
use crate::store::Store;
use crate::timeline::{self, Timeline};
use crate::types::NodeId;

/// The services of a node, with their backends inside.
pub struct Backends {
    /// This node.
    pub node: NodeId,
    /// What events mean.
    pub vocabulary: Vocabulary,
    /// Who a token names.
    pub authenticator: Authenticator,
    /// The durable log.
    pub log: EventLog,
    /// Rooms' order and recent events.
    pub timeline: Timeline,
    /// Between workers.
    pub bus: Bus,
    /// Rooms' past.
    pub archive: Archive,
    /// What is known for good.
    pub store: Store,
    /// The same, cached.
    pub directory: Directory,
    /// Logins.
    pub accounts: Accounts,
    /// How often who may do what.
    pub limits: Limits,
    /// Who is here.
    pub presence: Presence,
    /// Into the log.
    pub publisher: Publisher,
    /// Timeline and archive as one.
    pub history: History,
    database: Database,
    retention: std::time::Duration,
    archiving: archiving::Options,
}

impl Backends {
    /// Opens what the mode needs.
    ///
    /// # Errors
    /// When a store or a key cannot be opened.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match config.mode {
            Mode::Embedded => Self::embedded(config).await,
            Mode::Cluster => anyhow::bail!(
                "mode = \"cluster\" needs backends that this build does not have; use \"embedded\""
            ),
        }
    }

    async fn embedded(config: &Config) -> anyhow::Result<Self> {
        let mut options = sql::Options::new(&config.data);
        options.linger = config.eventlog.group_commit.linger.get();
        let database = Database::open(options)
            .await
            .with_context(|| format!("the data folder {} cannot be used", config.data.display()))?;
        let authenticator = Authenticator::open(config.auth.clone(), &config.data)?;
        if let Err(error) = authenticator.refresh().await {
            tracing::warn!(%error, "public keys could not be read; tokens are refused until they are");
        }
        let log = EventLog::sql(&database, log_options(config)).await?;
        let archive = Archive::sql(&database);
        let timeline = Timeline::Memory(timeline::Memory::new(timeline_limits(config)));
        let lookback = config
            .timeline
            .dedup_window
            .get()
            .max(config.timeline.ttl.get());
        let bus = Bus::memory();
        let restore = Restore {
            log: log.clone(),
            archive: archive.clone(),
            timeline: timeline.clone(),
            bus: bus.clone(),
        };
        let restored = restore.run(lookback).await?;
        tracing::info!(
            rooms = restored.rooms,
            events = restored.entries,
            "timeline restored"
        );
        let vocabulary = Vocabulary::builtin();
        let history = History::new(timeline.clone(), archive.clone(), vocabulary.clone());
        let store = Store::sqlite(&database);
        let directory = Directory::with(store.clone(), bus.clone(), &config.caches);
        let accounts = Accounts::new(authenticator.clone(), store.clone(), bus.clone());
        Ok(Self {
            store,
            directory,
            accounts,
            limits: limits(config),
            presence: Presence::memory(config.presence.grace.get()),
            node: node(config),
            publisher: Publisher::new(log.clone()),
            history,
            vocabulary,
            authenticator,
            log,
            timeline,
            bus,
            archive,
            database,
            retention: config.eventlog.retention.get(),
            archiving: archiving::Options {
                batch_max: config.archive.batch_max,
                linger: config.archive.linger.get(),
                ..archiving::Options::default()
            },
        })
    }

    /// Starts the services that run without being asked.
    pub(super) fn spawn(&self, tasks: &Tasks, drain: &Drain) {
        let parts = pump::Parts {
            log: self.log.clone(),
            timeline: self.timeline.clone(),
            bus: self.bus.clone(),
            vocabulary: self.vocabulary.clone(),
            node: self.node.clone(),
        };
        let pump = Pump::new(parts, pump::Options::default());
        let (log, archive, node) = (self.log.clone(), self.archive.clone(), self.node.clone());
        let archiver = Archiver::new(log, archive, node, self.archiving.clone());
        let retention = Retention::new(self.log.clone(), self.retention);
        tasks.spawn(
            TaskKind::Pump,
            guarded(drain.clone(), |stop| pump.run(stop)),
        );
        tasks.spawn(
            TaskKind::Archiver,
            guarded(drain.clone(), |stop| archiver.run(stop)),
        );
        let parts = effects::Parts {
            log: self.log.clone(),
            directory: self.directory.clone(),
            presence: self.presence.clone(),
            bus: self.bus.clone(),
            vocabulary: self.vocabulary.clone(),
            node: self.node.clone(),
        };
        let effects = Effects::new(parts, effects::Options::default());
        tasks.spawn(
            TaskKind::Effects,
            guarded(drain.clone(), |stop| effects.run(stop)),
        );
        tasks.spawn(TaskKind::Sweeper, self.directory.clone().keep_warm());
        tasks.spawn(TaskKind::Sweeper, sweep(self.limits.clone()));
        let stop = drain.clone();
        tasks.spawn(
            TaskKind::Sweeper,
            retention.run(async move {
                stop.reached(Phase::Flushing).await;
            }),
        );
    }

    /// Resolves when the pump has applied what the log held at start. Before that a room's top may be
    /// below what a client was shown, and a rejoin would be told to reload.
    pub(super) async fn caught_up(&self) {
        loop {
            let lag = self.log.lag();
            let mut pump = lag
                .iter()
                .filter(|lag| &*lag.group == pump::GROUP)
                .peekable();
            if pump.peek().is_some() && pump.all(|lag| lag.records == 0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Writes what waits and closes the stores.
    pub(super) async fn close(&self) {
        self.bus.close();
        self.database.close().await;
    }
}

/// How often limits that are full again are forgotten.
const LIMITS_SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs a service until the drain flushes, which waits for it.
async fn guarded<F: Future>(
    drain: Drain,
    run: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
) -> F::Output {
    let guard = drain.hold(Phase::Flushing);
    let result = run(Box::pin(
        async move { drain.reached(Phase::Flushing).await },
    ))
    .await;
    drop(guard);
    result
}

async fn sweep(limits: Limits) {
    let mut timer = tokio::time::interval(LIMITS_SWEEP_EVERY);
    loop {
        timer.tick().await;
        limits.sweep(std::time::SystemTime::now().into());
    }
}

fn limits(config: &Config) -> Limits {
    if config.limits.enabled {
        Limits::memory(config.limits.keys_max)
    } else {
        Limits::Off
    }
}

fn node(config: &Config) -> NodeId {
    config.node.clone().unwrap_or_else(|| {
        NodeId::parse(&crate::server::random_token()).expect("a token is a valid node id")
    })
}

fn log_options(config: &Config) -> eventlog::Options {
    let section = &config.eventlog;
    eventlog::Options {
        partitions: section.partitions,
        in_flight_records: section.in_flight_records,
        in_flight_bytes: section.in_flight_bytes.bytes(),
        batch_records: section.group_commit.max_batch,
        retention: section.retention.get(),
        ..eventlog::Options::default()
    }
}

fn timeline_limits(config: &Config) -> timeline::Limits {
    let section = &config.timeline;
    timeline::Limits {
        entries_max: section.entries_max,
        keep_min: section.keep_min,
        ttl: section.ttl.get(),
        dedup_window: section.dedup_window.get(),
        ..timeline::Limits::default()
    }
}
