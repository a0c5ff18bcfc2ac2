//! The backends of mode "cluster": Redis shards, Kafka, PostgreSQL.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::Notify;

use super::backends::{self, Backends, LoadProbe, Storage};
use crate::accounts::Accounts;
use crate::archive::Archive;
use crate::auth::Authenticator;
use crate::backend::redis::{Options as Server, Place, ShardOptions, Shards};
use crate::backend::{cache, kafka, postgres};
use crate::cluster::bus::Bus;
use crate::cluster::membership::{self, Load, Member, Membership, Times};
use crate::cluster::presence::{self, Presence};
use crate::cluster::recovery::{self, Recovery};
use crate::cluster::redis as bus;
use crate::config::{self, Config, SaslMechanism};
use crate::delivery::TIMELINE_TOPIC;
use crate::delivery::crowd::Crowds;
use crate::delivery::history::{self, History};
use crate::delivery::moving::Mover;
use crate::delivery::publish::Publisher;
use crate::delivery::raise::Raiser;
use crate::directory::Directory;
use crate::eventlog::{self, EventLog, TopicSpec, dead_letter_topic};
use crate::events::{Catalogue, Vocabulary};
use crate::limits::{self, Limits};
use crate::store::Store;
use crate::telemetry::process;
use crate::timeline::{Timeline, redis as timelines};
use crate::types::NodeId;

/// What only a cluster has.
pub(super) struct Servers {
    database: postgres::Database,
    pub(super) raiser: Raiser,
    pub(super) keeper: Keeper,
    pub(super) mover: Mover,
    /// When Kafka moves the partitions of a member that is silent.
    pub(super) session_timeout: Duration,
    /// Told when the lease may be given back.
    pub(super) leave: Arc<Notify>,
}

impl Servers {
    pub(super) async fn close(&self) {
        self.database.close().await;
    }
}

/// How long a start waits for servers that start at the same time.
const SERVERS_WITHIN: Duration = Duration::from_secs(60);
/// How long a shared limit may take until this node decides alone.
const TRY_EVERY: Duration = Duration::from_millis(500);

impl Backends {
    /// Opens the servers that the configuration names. `address` is where other nodes reach this one.
    pub(super) async fn cluster(
        config: &Config,
        (node, address): (NodeId, SocketAddr),
        load: LoadProbe,
    ) -> anyhow::Result<Self> {
        let Opened {
            vocabulary,
            specs,
            shards,
            database,
            authenticator,
            log,
            keeper,
        } = Opened::open(config, &node).await?;
        let archive = Archive::postgres(&database);
        let (rooms, raiser) = timelines(config, (specs, &shards), (&log, &archive)).await?;
        let timeline = Timeline::Redis(rooms.clone());
        let bus = Bus::redis(bus::Options {
            shards: shards.clone(),
            node: node.clone(),
        });
        let address = config.cluster.advertise.unwrap_or(address);
        let membership = join(&shards, (&node, address), load).await?;
        let store = Store::postgres(&database);
        let publisher = Publisher::new(log.clone());
        let history = History::new(history::Parts {
            timeline: timeline.clone(),
            archive: archive.clone(),
            store: store.clone(),
            vocabulary: vocabulary.clone(),
            recent: publisher.recent().clone(),
        });
        let directory = directory(config, &shards, (store.clone(), bus.clone()));
        let presence = presence(config, (&shards, &membership));
        let crowds = Crowds::new(store.clone(), presence.clone(), bus.clone());
        let accounts = Accounts::new(
            authenticator.clone(),
            directory.clone(),
            bus.clone(),
            backends::account_options(config),
        );
        let limits = shared_limits(config, shards.clone());
        let mover = mover(&shards, rooms, &membership);
        Ok(Self {
            membership,
            store,
            directory,
            accounts,
            limits,
            presence,
            recovery: recovery(&config.recovery, &shards),
            crowds,
            node,
            publisher,
            canary_every: backends::canary_every(config),
            history,
            vocabulary,
            authenticator,
            log,
            timeline,
            bus,
            archive,
            is_presence_for_all: config.presence.broadcast == config::Audience::All,
            storage: Storage::Servers(Box::new(Servers {
                database,
                raiser,
                keeper,
                mover,
                session_timeout: config.kafka.session_timeout.get(),
                leave: Arc::default(),
            })),
            archiving: backends::archiving(config),
        })
    }
}

/// What is opened before anything is composed.
struct Opened {
    vocabulary: Vocabulary,
    specs: Vec<ShardOptions>,
    shards: Shards,
    database: postgres::Database,
    authenticator: Authenticator,
    log: EventLog,
    keeper: Keeper,
}

impl Opened {
    async fn open(config: &Config, node: &NodeId) -> anyhow::Result<Self> {
        let vocabulary = Vocabulary::new(super::catalogue::load(&config.catalogue)?);
        let specs = shards(&config.redis)?;
        let libraries = [
            limits::redis::LIBRARY,
            membership::LIBRARY,
            presence::redis::LIBRARY,
            recovery::redis::LIBRARY,
            cache::shared::LIBRARY,
        ];
        let shards = Shards::new(&specs, &libraries).context("redis.shards")?;
        if !shards.look_for_plan().await? {
            tracing::warn!("the cluster has not agreed on a ring: its shards do not answer yet");
        }
        let options = postgres_options(&config.postgres);
        let database = postgres::Database::open(&options)
            .await
            .context("PostgreSQL (postgres.url) cannot be used")?;
        let authenticator = Authenticator::open(config.auth.clone(), &config.data)?;
        if let Err(error) = authenticator.refresh().await {
            tracing::warn!(%error, "public keys could not be read; tokens are refused until they are");
        }
        let log = EventLog::kafka(kafka_options(config, node))
            .await
            .context("[kafka]")?;
        let keeper = Keeper {
            log: log.clone(),
            vocabulary: vocabulary.clone(),
            partitions: config.eventlog.partitions,
            timeline_partitions: config.eventlog.timeline_partitions,
            retention: config.eventlog.retention.get(),
        };
        keeper.ensure_at_start().await?;
        Ok(Self {
            vocabulary,
            specs,
            shards,
            database,
            authenticator,
            log,
            keeper,
        })
    }
}

async fn join(
    shards: &Shards,
    (node, address): (&NodeId, SocketAddr),
    load: LoadProbe,
) -> anyhow::Result<Membership> {
    let member = Member {
        address: Some(address),
        shards: shards.configured().into_keys().collect(),
        ..backends::member(node.clone())
    };
    let busy = Busy::default();
    let load = move || Load {
        cpu: busy.since_last_asked(),
        ..load()
    };
    Membership::join(shards.clone(), member, Times::default(), load)
        .await
        .context("the cluster cannot be joined")
}

fn mover(shards: &Shards, timeline: timelines::Timeline, membership: &Membership) -> Mover {
    Mover {
        shards: shards.clone(),
        timeline,
        membership: membership.clone(),
    }
}

/// How busy this process is.
#[derive(Default)]
struct Busy(Mutex<Option<(Instant, f64)>>);

impl Busy {
    /// Processor seconds in a second, since this was asked last.
    fn since_last_asked(&self) -> f32 {
        let now = (Instant::now(), process::cpu_seconds().unwrap_or_default());
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, used)) = last.replace(now) else {
            return 0.0;
        };
        let time = now.0.duration_since(at).as_secs_f64().max(0.001);
        ((now.1 - used) / time) as f32
    }
}

/// Timelines on the shards, and who puts back what a shard lost.
async fn timelines(
    config: &Config,
    (specs, shards): (Vec<ShardOptions>, &Shards),
    (log, archive): (&EventLog, &Archive),
) -> anyhow::Result<(timelines::Timeline, Raiser)> {
    let limits = backends::timeline_limits(config);
    let options = timelines::Options {
        limits,
        is_raised: true,
        replicas: config.redis.replicas,
        rings: Some(shards.rings().clone()),
    };
    let timeline = timelines::Timeline::open(specs, options).await?;
    let raiser = Raiser {
        log: log.clone(),
        archive: archive.clone(),
        timeline: timeline.clone(),
        lookback: limits.dedup_window.max(limits.ttl),
        entries_max: limits.entries_max,
    };
    Ok((timeline, raiser))
}

fn presence(config: &Config, (shards, membership): (&Shards, &Membership)) -> Presence {
    let grace = config.presence.grace.get();
    Presence::redis(shards.clone(), membership.clone(), grace)
}

fn recovery(section: &config::Recovery, shards: &Shards) -> Recovery {
    match section.enabled {
        true => Recovery::redis(shards.clone(), section.window.get()),
        false => Recovery::Off,
    }
}

fn shared_limits(config: &Config, shards: Shards) -> Limits {
    if !config.limits.enabled {
        return Limits::Off;
    }
    let patience = config.limits.answer_within.get();
    Limits::redis(shards, patience, config.limits.keys_max)
}

/// Makes the topics that the catalogue names, also after it was reloaded.
#[derive(Clone)]
pub(super) struct Keeper {
    log: EventLog,
    vocabulary: Vocabulary,
    partitions: u32,
    timeline_partitions: u32,
    retention: Duration,
}

impl Keeper {
    fn specs(&self, catalogue: &Catalogue) -> Vec<TopicSpec> {
        let topics = catalogue.topics();
        let mut names: Vec<String> = vec![TIMELINE_TOPIC.to_owned()];
        names.extend(topics.iter().map(|topic| topic.to_string()));
        let dead: Vec<String> = names.iter().map(|name| dead_letter_topic(name)).collect();
        names.extend(dead);
        let spec = |name: String| TopicSpec {
            partitions: match &*name {
                TIMELINE_TOPIC => self.timeline_partitions,
                _ => self.partitions,
            },
            name,
            retention: self.retention,
        };
        names.into_iter().map(spec).collect()
    }

    async fn ensure_at_start(&self) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + SERVERS_WITHIN;
        let specs = self.specs(&self.vocabulary.current());
        loop {
            match self.log.ensure_topics(&specs).await {
                Err(error) if error.retry() && tokio::time::Instant::now() < end => {
                    tracing::warn!(%error, "the topics could not be looked at; trying again");
                    tokio::time::sleep(TRY_EVERY).await;
                }
                outcome => return outcome.context("the topics in Kafka cannot be used"),
            }
        }
    }

    /// Looks at the catalogue for ever.
    pub(super) async fn run(self) {
        let mut known: Vec<Arc<str>> = self.vocabulary.current().topics();
        loop {
            tokio::time::sleep(TRY_EVERY).await;
            let catalogue = self.vocabulary.current();
            let topics = catalogue.topics();
            if topics == known {
                continue;
            }
            match self.log.ensure_topics(&self.specs(&catalogue)).await {
                Ok(()) => known = topics,
                Err(error) => tracing::warn!(%error, "new topics could not be made; trying again"),
            }
        }
    }
}

/// The shards of `[redis]`.
pub(super) fn shards(section: &config::Redis) -> anyhow::Result<Vec<ShardOptions>> {
    let authority = section.authority.as_ref().map(|path| {
        std::fs::read(path)
            .with_context(|| format!("redis.authority: cannot read {}", path.display()))
    });
    let authority = authority.transpose()?;
    let server = |place| Server {
        authority: authority.clone(),
        connect_timeout: section.connect_timeout.get(),
        response_timeout: section.response_timeout.get(),
        ..Server::at(place)
    };
    if let Some(url) = &section.cluster {
        let bucket = |n: u32| {
            let tag = format!("vb{n}");
            let place = Place::parse(url.reveal(), &tag).context("redis.cluster")?;
            anyhow::ensure!(
                place.is_cluster(),
                "redis.cluster must begin with redis+cluster://"
            );
            Ok(ShardOptions {
                name: tag,
                weight: 1,
                server: server(place),
            })
        };
        return (0..section.buckets).map(bucket).collect();
    }
    let shard = |spec: &config::ShardSpec| {
        let place = Place::parse(spec.url.reveal(), "")
            .with_context(|| format!("redis.shards: the URL of {:?}", spec.name))?;
        anyhow::ensure!(
            !place.is_cluster(),
            "redis.shards: a Redis Cluster belongs into redis.cluster"
        );
        Ok(ShardOptions {
            name: spec.name.clone(),
            weight: spec.weight,
            server: server(place),
        })
    };
    section.shards.iter().map(shard).collect()
}

/// What is stored, cached here and, if so configured, on the shards.
fn directory(config: &Config, shards: &Shards, (store, bus): (Store, Bus)) -> Directory {
    let section = &config.caches;
    if !section.shared {
        return Directory::with(store, bus, section);
    }
    let options = cache::shared::Options {
        answer_within: section.shared_answer_within.get(),
        compress_over: section.compress_over.bytes(),
    };
    let shared = cache::Shared::new(shards.clone(), options);
    Directory::shared(store, bus, section, shared)
}

/// The log of `[kafka]`, with the bounds of `[eventlog]`.
pub(super) fn kafka_options(config: &Config, node: &NodeId) -> eventlog::kafka::Options {
    let section = &config.kafka;
    let tls = section.tls.then(|| kafka::Tls {
        authorities: section.authority.clone(),
        certificate: section.certificate.clone(),
        key: section.key.clone(),
    });
    let mechanism = section.sasl.map(|mechanism| match mechanism {
        SaslMechanism::Plain => kafka::Mechanism::Plain,
        SaslMechanism::ScramSha256 => kafka::Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => kafka::Mechanism::ScramSha512,
    });
    let password = section.password.clone().unwrap_or_default();
    let connection = kafka::Options {
        bootstrap: section.brokers.clone(),
        client_id: node.to_string(),
        tls,
        sasl: mechanism.map(|mechanism| kafka::Sasl {
            mechanism,
            username: section.username.clone(),
            password,
        }),
        ..kafka::Options::default()
    };
    eventlog::kafka::Options {
        prefix: section.prefix.clone(),
        in_flight_records: config.eventlog.in_flight_records,
        in_flight_bytes: config.eventlog.in_flight_bytes.bytes(),
        answer_within: section.answer_within.get(),
        session_timeout: section.session_timeout.get(),
        ..eventlog::kafka::Options::new(connection)
    }
}

fn postgres_options(section: &config::Postgres) -> postgres::Options {
    let url = section.url.clone().unwrap_or_default();
    postgres::Options {
        url,
        connections: section.connections,
        connect_timeout: section.connect_timeout.get(),
        statement_timeout: section.statement_timeout.get(),
        open_timeout: SERVERS_WITHIN,
    }
}
