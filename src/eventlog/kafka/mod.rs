//! The log in Kafka.
//!
//! | file | what it holds |
//! |---|---|
//! | `producer`, `flight` | appends: two lanes, bounded, in the order of the calls |
//! | `reader`, `rebalance`, `handover` | the polling thread, its callbacks, and what it hands over |
//! | `course` | whether partitions are read without a gap and without standing still |
//! | `member` | the reading side: stored, committed, seek |
//! | `standing`, `measure` | how far groups are behind |
//! | `cursor`, `replay` | reading a topic once; offsets at a time |
//! | `topics` | making topics and checking them |

mod course;
mod cursor;
mod flight;
mod handover;
mod measure;
mod member;
mod names;
mod producer;
mod reader;
mod rebalance;
mod replay;
mod spot;
mod standing;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use self::cursor::Queries;
use self::handover::Handover;
use self::measure::Measure;
use self::names::Names;
use self::producer::Producer;
use self::reader::{Link, Reader, Start};
use self::spot::Spot;
use self::standing::Standing;
use super::committing::Committing;
use super::polled::Hold;
use super::{
    Append, Appended, Assignment, Error, Headers, Lag, Patience, Polled, RECORD_BYTES_MAX, Record,
    Request, Revocation, TopicSpec, meter, topic_name,
};
use crate::backend::kafka;
use crate::types::Timestamp;

pub(in crate::eventlog) use self::member::Member;
pub(in crate::eventlog) use self::replay::Replay;

/// How the log in Kafka is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The brokers.
    pub connection: kafka::Options,
    /// Put before the name of each topic and group, so that several installations can share the
    /// brokers.
    pub prefix: String,
    /// Records of each lane, ordinary and patient, that may wait to become durable.
    pub in_flight_records: usize,
    /// Bytes of keys and values of each lane that may wait.
    pub in_flight_bytes: usize,
    /// When a sender is told that Kafka does not answer. The record may still get in.
    pub answer_within: Duration,
    /// When an ordinary record that Kafka does not take is given up.
    pub delivery_timeout: Duration,
    /// When a member that is not heard of loses its partitions.
    pub session_timeout: Duration,
    /// Records that were read and not handed out.
    pub read_records: usize,
    /// Bytes of them.
    pub read_bytes: usize,
    /// How often the groups' lag is measured.
    pub lag_every: Duration,
}

impl Options {
    /// With the usual bounds and times.
    #[must_use]
    pub const fn new(connection: kafka::Options) -> Self {
        Self {
            connection,
            prefix: String::new(),
            in_flight_records: 10_000,
            in_flight_bytes: 64 << 20,
            answer_within: Duration::from_secs(5),
            delivery_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(6),
            read_records: 8_192,
            read_bytes: 32 << 20,
            lag_every: Duration::from_secs(1),
        }
    }
}

/// A log in Kafka.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    names: Arc<Names>,
    producer: Producer,
    queries: Arc<Queries>,
    measure: Measure,
    threads: Mutex<Vec<JoinHandle<()>>>,
    generations: RwLock<HashMap<Arc<str>, u32>>,
}

impl Log {
    pub(super) fn open(options: Options) -> Result<Self, Error> {
        let names = Arc::new(Names::new(&options.prefix));
        let queries = Arc::new(Queries::new(&options, Arc::clone(&names))?);
        Ok(Self(Arc::new(Inner {
            producer: Producer::start(&options)?,
            measure: Measure::start(&queries, options.lag_every)?,
            names,
            queries,
            threads: Mutex::default(),
            generations: RwLock::default(),
            options,
        })))
    }

    pub(super) fn append(&self, request: Request<'_>) -> Result<Append, Error> {
        let bytes = request.key.len() + request.value.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::TooLarge {
                bytes,
                limit: RECORD_BYTES_MAX,
            });
        }
        let topic = self.0.names.topic(request.topic)?;
        self.0.producer.append(&topic, request)
    }

    pub(super) async fn probe(&self, topic: &str) -> Result<(), Error> {
        if self.0.producer.is_stuck() {
            let retry_after = RETRY_AFTER_LOAD;
            return Err(Error::Unreachable { retry_after });
        }
        let (queries, topic) = (Arc::clone(&self.0.queries), topic.to_owned());
        cursor::blocking(move || queries.probe(&topic)).await
    }

    pub(super) fn join(
        &self,
        group: &str,
        topics: &[&str],
        gather: Option<Duration>,
    ) -> Result<Member, Error> {
        let names = topics.iter().map(|name| self.0.names.topic(name));
        let names: Vec<_> = names
            .map(|topic| Ok(topic?.kafka.clone()))
            .collect::<Result<_, Error>>()?;
        let mut config = self.reading()?;
        let is_set = |name: &str| self.0.options.connection.properties.contains_key(name);
        if let Some(gather) = gather.filter(|_| !is_set("fetch.min.bytes")) {
            // More than comes in that time, which then decides.
            config.set("fetch.min.bytes", "262144");
            config.set("fetch.wait.max.ms", gather.as_millis().to_string());
        }
        let session = self.0.options.session_timeout.as_millis();
        config
            .set("group.id", self.0.names.group(group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.to_string())
            .set("heartbeat.interval.ms", (session / 4).max(200).to_string());
        self.read(&config, Some(Arc::from(group)), Start::Group(names))
    }

    pub(super) fn assigned(&self, starts: &[(&str, u32, u64)]) -> Result<Member, Error> {
        let starts = starts.iter().map(|(topic, partition, offset)| {
            let topic = self.0.names.topic(topic)?;
            Ok((Spot::new(Arc::clone(&topic.name), *partition), *offset))
        });
        let starts = starts.collect::<Result<_, Error>>()?;
        let mut config = self.reading()?;
        config.set("group.id", self.0.names.group(ALONE));
        self.read(&config, None, Start::At(starts))
    }

    fn read(
        &self,
        config: &ClientConfig,
        group: Option<Arc<str>>,
        start: Start,
    ) -> Result<Member, Error> {
        let is_alone = group.is_none();
        let options = &self.0.options;
        let link = Arc::new(Link {
            handover: Handover::new(options.read_records, options.read_bytes),
            names: Arc::clone(&self.0.names),
            standing: Standing::new(group),
        });
        let thread = Reader::start(config, &link, start)?;
        self.0.measure.watch(&link);
        let mut threads = self.threads();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(Member::new(link, is_alone))
    }

    fn reading(&self) -> Result<ClientConfig, Error> {
        Ok(cursor::reading(&self.0.options.connection)?)
    }

    pub(super) async fn replay(
        &self,
        topic: &str,
        groups: &[&str],
        from: (Duration, BTreeMap<u32, u64>),
    ) -> Result<Replay, Error> {
        Replay::start(&self.0.queries, topic, groups, from).await
    }

    pub(super) async fn offsets_at(
        &self,
        topic: &str,
        partitions: &[u32],
        at: Timestamp,
    ) -> Result<Vec<(u32, u64)>, Error> {
        let queries = Arc::clone(&self.0.queries);
        let (topic, partitions) = (topic.to_owned(), partitions.to_vec());
        cursor::blocking(move || queries.offsets_at(&topic, &partitions, at)).await
    }

    pub(super) async fn committed(
        &self,
        group: &str,
        partitions: Vec<(Arc<str>, u32)>,
    ) -> Result<Vec<(Arc<str>, u32, u64)>, Error> {
        let (queries, group) = (Arc::clone(&self.0.queries), group.to_owned());
        cursor::blocking(move || {
            let spots = partitions.into_iter().map(|(topic, n)| Spot::new(topic, n));
            let spots: Vec<Spot> = spots.collect();
            let committed = queries.committed(&group, &spots)?;
            let place = |spot: Spot| {
                let next = committed.get(&spot).copied().unwrap_or(0);
                (spot.topic, spot.partition, next)
            };
            Ok(spots.into_iter().map(place).collect())
        })
        .await
    }

    pub(super) async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), Error> {
        let found = topics::ensure(&self.0.options.connection, &self.0.names, specs).await?;
        let mut generations = self
            .0
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        generations.extend(found);
        Ok(())
    }

    pub(super) fn generation(&self, topic: &str) -> u32 {
        let generations = self
            .0
            .generations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        generations.get(topic).copied().unwrap_or_default()
    }

    pub(super) fn lag(&self) -> Vec<Lag> {
        self.0.measure.lag()
    }

    /// Takes no more appends, and waits until what was taken is durable and members have left, as
    /// long as that may take.
    pub(super) async fn close(&self) {
        self.0.producer.close();
        let mut threads = self.0.producer.threads();
        threads.append(&mut self.threads());
        let until = Instant::now() + CLOSE_WITHIN;
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        kafka::Error::from(error).into()
    }
}

/// The group of readers that are in none: it is named to the brokers and never joined.
const ALONE: &str = "alone";

/// A record with its key, its headers and what Kafka adds.
const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX + (64 << 10);

const RETRY_AFTER_LOAD: Duration = Duration::from_millis(250);

/// Longer than appends and members may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(12);
