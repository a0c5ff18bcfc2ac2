//! Which backend is behind each port, by mode.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use crate::accounts::{self, Accounts};
use crate::archive::Archive;
use crate::auth::Authenticator;
use crate::backend::sql::{self, Database};
use crate::cluster::bus::Bus;
use crate::cluster::membership::{Load, Member, Membership, Partitions};
use crate::cluster::presence::Presence;
use crate::cluster::recovery::Recovery;
use crate::config::{self, Config, Mode};
use crate::delivery::archive::{self as archiving, Archiver};
use crate::delivery::canary;
use crate::delivery::crowd::Crowds;
use crate::delivery::degraded;
use crate::delivery::effects::{self, Effects};
use crate::delivery::history::{self, History};
use crate::delivery::presence::{self as announcing, Announcer};
use crate::delivery::publish::Publisher;
use crate::delivery::pump::{self, Pump};
use crate::delivery::restore::Restore;
use crate::delivery::takeover::{self, Takeover};
use crate::directory::Directory;
use crate::eventlog::{self, EventLog, Retention};
use crate::events::Vocabulary;
use crate::lifecycle::{Drain, Phase, TaskKind, Tasks};
use crate::limits::Limits;
use crate::store::{Store, Sweeper};
use crate::timeline::{self, Timeline};
use crate::types::{NodeId, ShardId};

/// How long the shards are waited for at start. Nodes that start while one is away serve the others.
const SHARDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// The services of a node, with their backends inside.
pub struct Backends {
    /// This node.
    pub node: NodeId,
    /// Which nodes live.
    pub membership: Membership,
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
    /// What sockets were, for clients that come back.
    pub recovery: Recovery,
    /// Large conversations whose presence somebody watches.
    pub crowds: Crowds,
    /// Into the log.
    pub publisher: Publisher,
    /// Timeline and archive as one.
    pub history: History,
    /// Whether everybody is told who is online.
    pub is_presence_for_all: bool,
    pub(super) storage: Storage,
    pub(super) archiving: archiving::Options,
    /// Between two canaries, if any are sent.
    pub(super) canary_every: Option<Duration>,
}

/// Tells how busy this node is.
pub(super) type LoadProbe = Box<dyn Fn() -> Load + Send + Sync>;

/// What is behind the ports and has to be kept or closed.
pub(super) enum Storage {
    /// The file of embedded mode, and how long its log is kept.
    File(Database, Duration),
    /// The servers of a cluster.
    Servers(Box<super::servers::Servers>),
}

impl Backends {
    /// Opens what the mode needs. `internal` is where other nodes reach this one, if there may be some;
    /// `load` tells how busy this node is.
    ///
    /// # Errors
    /// When a store, a server or a key cannot be opened.
    pub async fn open(
        config: &Config,
        node: NodeId,
        (internal, load): (Option<std::net::SocketAddr>, LoadProbe),
    ) -> anyhow::Result<Self> {
        match (config.mode, internal) {
            (Mode::Embedded, _) => Self::embedded(config, node).await,
            (Mode::Cluster, Some(internal)) => Self::cluster(config, (node, internal), load).await,
            (Mode::Cluster, None) => anyhow::bail!("a node of a cluster needs edge.internal"),
        }
    }

    async fn embedded(config: &Config, node: NodeId) -> anyhow::Result<Self> {
        // The commonest mistakes are found before anything is written.
        let vocabulary = Vocabulary::new(super::catalogue::load(&config.catalogue)?);
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
        let bus = Bus::memory();
        let restore = Restore {
            log: log.clone(),
            archive: archive.clone(),
            timeline: timeline.clone(),
            bus: bus.clone(),
        };
        restored(config, restore).await?;
        let store = Store::sqlite(&database);
        let publisher = Publisher::new(log.clone());
        let history = History::new(history::Parts {
            timeline: timeline.clone(),
            archive: archive.clone(),
            store: store.clone(),
            vocabulary: vocabulary.clone(),
            recent: publisher.recent().clone(),
        });
        let directory = Directory::with(store.clone(), bus.clone(), &config.caches);
        let presence = Presence::memory(config.presence.grace.get());
        let crowds = Crowds::new(store.clone(), presence.clone(), bus.clone());
        let accounts = Accounts::new(
            authenticator.clone(),
            directory.clone(),
            bus.clone(),
            account_options(config),
        );
        Ok(Self {
            membership: Membership::alone(member(node.clone())),
            store,
            directory,
            accounts,
            limits: limits(config),
            presence,
            recovery: recovery(&config.recovery),
            crowds,
            node,
            publisher,
            history,
            vocabulary,
            authenticator,
            log,
            timeline,
            bus,
            archive,
            is_presence_for_all: config.presence.broadcast == config::Audience::All,
            storage: Storage::File(database, config.eventlog.retention.get()),
            archiving: archiving(config),
            canary_every: canary_every(config),
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
        self.spawn_takeover(parts.clone(), tasks, drain);
        let pump = Pump::new(parts, pump::Options::default()).telling(self.membership.clone());
        let parts = archiving::Parts {
            log: self.log.clone(),
            archive: self.archive.clone(),
            vocabulary: self.vocabulary.clone(),
            node: self.node.clone(),
        };
        let archiver = Archiver::new(parts, self.archiving.clone()).telling(self.directory.clone());
        self.spawn_storage(tasks, drain);
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
        let announcer = Announcer::new(self.telling());
        tasks.spawn(
            TaskKind::Presence,
            guarded(drain.clone(), |stop| announcer.run(stop)),
        );
        if let Some(every) = self.canary_every {
            let parts = canary::Parts {
                publisher: self.publisher.clone(),
                vocabulary: self.vocabulary.clone(),
                timeline: self.timeline.clone(),
                bus: self.bus.clone(),
                every,
            };
            let stop = drain.clone();
            let run = parts.run(async move { stop.reached(Phase::Unready).await });
            tasks.spawn(TaskKind::Canary, run);
        }
        tasks.spawn(TaskKind::Sweeper, self.directory.clone().keep_warm());
        tasks.spawn(TaskKind::Caches, self.directory.clone().keep_shared());
        tasks.spawn(TaskKind::Sweeper, sweep(self.limits.clone()));
        tasks.spawn(TaskKind::Sweeper, self.accounts.clone().keep_clean());
        let (sweeper, stop) = (Sweeper::new(self.store.clone(), REPLIES_FOR), drain.clone());
        tasks.spawn(
            TaskKind::Sweeper,
            sweeper.run(async move {
                stop.reached(Phase::Flushing).await;
            }),
        );
    }

    /// What is looked after, and clients are told of when it is away.
    pub(super) fn depends_on(&self) -> degraded::Parts {
        degraded::Parts {
            log: self.log.clone(),
            timeline: self.timeline.clone(),
            archive: self.archive.clone(),
        }
    }

    /// What only this mode has to run.
    fn spawn_storage(&self, tasks: &Tasks, drain: &Drain) {
        match &self.storage {
            Storage::File(_, keep) => {
                let retention = Retention::new(self.log.clone(), *keep);
                let stop = drain.clone();
                tasks.spawn(
                    TaskKind::Sweeper,
                    retention.run(async move {
                        stop.reached(Phase::Flushing).await;
                    }),
                );
            }
            Storage::Servers(servers) => {
                let raiser = servers.raiser.clone();
                tasks.spawn(
                    TaskKind::Raiser,
                    guarded(drain.clone(), |stop| raiser.run(stop)),
                );
                tasks.spawn(TaskKind::Ring, servers.mover.shards.clone().keep_plan());
                let mover = servers.mover.clone();
                tasks.spawn(
                    TaskKind::Ring,
                    guarded(drain.clone(), |stop| mover.run(stop)),
                );
                tasks.spawn(TaskKind::Sweeper, servers.keeper.clone().run());
                let (membership, leave) = (self.membership.clone(), servers.leave.clone());
                // Its lease outlasts what it has to hand over.
                tasks.spawn(
                    TaskKind::Membership,
                    membership.run(async move { leave.notified().await }),
                );
            }
        }
    }

    /// Where there are other nodes, whose partitions may be left without a reader.
    fn spawn_takeover(&self, parts: pump::Parts, tasks: &Tasks, drain: &Drain) {
        let Storage::Servers(servers) = &self.storage else {
            return;
        };
        let options = takeover::Options::new(servers.session_timeout);
        let takeover = Takeover::new(parts, self.membership.clone(), options);
        let stop = drain.clone();
        tasks.spawn(
            TaskKind::Takeover,
            takeover.run(async move {
                stop.reached(Phase::Flushing).await;
            }),
        );
    }

    fn telling(&self) -> announcing::Parts {
        announcing::Parts {
            presence: self.presence.clone(),
            crowds: self.crowds.clone(),
            directory: self.directory.clone(),
            publisher: self.publisher.clone(),
            vocabulary: self.vocabulary.clone(),
            bus: self.bus.clone(),
            node: self.node.clone(),
            is_for_all: self.is_presence_for_all,
        }
    }

    /// Resolves when the pump has applied what the log held at start. Before that a room's top may be
    /// below what a client was shown, and a rejoin would be told to reload.
    pub(super) async fn caught_up(&self) {
        // A cluster's shards outlive its nodes; but one that is new or was restarted has to begin its epoch.
        if let Timeline::Redis(timeline) = &self.timeline {
            let all = timeline.shards().map(|shard| entered(timeline, shard));
            if timeout(SHARDS_WITHIN, join_all(all)).await.is_err() {
                tracing::warn!("not all shards are there; clients are served all the same");
            }
            self.membership.is_known().await;
            return;
        }
        loop {
            let lag = self.log.lag();
            let mut pump = lag
                .iter()
                .filter(|lag| &*lag.group == pump::GROUP)
                .peekable();
            if pump.peek().is_some() && pump.all(|lag| lag.records == 0) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Writes what waits and closes the stores.
    pub(super) async fn close(&self) {
        if let Storage::Servers(servers) = &self.storage {
            servers.leave.notify_one();
        }
        self.bus.close();
        self.log.close().await;
        match &self.storage {
            Storage::File(database, _) => database.close().await,
            Storage::Servers(servers) => servers.close().await,
        }
    }
}

/// How long the answer to a request with an idempotency key is kept.
const REPLIES_FOR: Duration = Duration::from_secs(24 * 3_600);

/// How often limits that are full again are forgotten.
const LIMITS_SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Brings back what the timeline held.
async fn restored(config: &Config, restore: Restore) -> anyhow::Result<()> {
    let times = &config.timeline;
    let lookback = times.dedup_window.get().max(times.ttl.get());
    let restored = restore.run(lookback).await?;
    let (rooms, events) = (restored.rooms, restored.entries);
    tracing::info!(rooms, events, "timeline restored");
    Ok(())
}

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

fn recovery(section: &config::Recovery) -> Recovery {
    match section.enabled {
        true => Recovery::memory(section.window.get(), section.sessions_max),
        false => Recovery::Off,
    }
}

/// Between two canaries, if any are sent.
pub(super) fn canary_every(config: &Config) -> Option<Duration> {
    let section = &config.telemetry;
    let is_on = match section.canary {
        config::Canaries::Off => false,
        config::Canaries::Cluster => config.mode == Mode::Cluster,
        config::Canaries::Always => true,
    };
    is_on.then(|| section.canary_every.get())
}

fn limits(config: &Config) -> Limits {
    if config.limits.enabled {
        Limits::memory(config.limits.keys_max)
    } else {
        Limits::Off
    }
}

pub(super) fn node(config: &Config) -> NodeId {
    config.node.clone().unwrap_or_else(|| {
        NodeId::parse(&crate::server::random_token()).expect("a token is a valid node id")
    })
}

/// What this node says of itself.
pub(super) fn member(id: NodeId) -> Member {
    Member {
        id,
        boot: format!("{:016x}", rand::random::<u64>()),
        address: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: std::time::SystemTime::now().into(),
        shards: Vec::new(),
        load: Load::default(),
        pumps: Partitions::default(),
    }
}

pub(super) fn account_options(config: &Config) -> accounts::Options {
    let edge = &config.edge;
    let is_plain = edge.tls.certificate.is_none();
    accounts::Options {
        passwords: config.auth.passwords.clone(),
        session_ttl: config.auth.session_ttl.get(),
        may_sign_up: config.auth.sign_up,
        // Browsers keep cookies for encrypted connections from plain ones, also on this machine.
        is_secure: !(is_plain && edge.listen.ip().to_canonical().is_loopback()),
    }
}

async fn entered(timeline: &timeline::redis::Timeline, shard: ShardId) {
    while timeline.probe(shard).await.is_err() {
        sleep(PROBE_EVERY).await;
    }
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

pub(super) fn timeline_limits(config: &Config) -> timeline::Limits {
    let section = &config.timeline;
    timeline::Limits {
        entries_max: section.entries_max,
        keep_min: section.keep_min,
        ttl: section.ttl.get(),
        dedup_window: section.dedup_window.get(),
        ..timeline::Limits::default()
    }
}

pub(super) fn archiving(config: &Config) -> archiving::Options {
    archiving::Options {
        batch_max: config.archive.batch_max,
        linger: config.archive.linger.get(),
        ..archiving::Options::default()
    }
}
