//! Questions to the brokers, and reading a topic without a group.
//!
//! Everything here blocks its thread while it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::Offset;

use super::names::Names;
use super::reader::{add, record};
use super::spot::Spot;
use super::{ALONE, Error, Options, Record};
use crate::backend::kafka;
use crate::types::Timestamp;

/// A client that only hands its log on.
pub(super) struct Plain;

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        kafka::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "vestibule::kafka", %error, reason, "a client met an error");
    }
}

impl ConsumerContext for Plain {}

/// The settings of everything that reads.
pub(super) fn reading(connection: &kafka::Options) -> Result<ClientConfig, kafka::Error> {
    let mut config = connection.client()?;
    config
        .set("group.protocol", "classic")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false");
    let defaults = [
        ("check.crcs", "true"),
        ("max.poll.interval.ms", "120000"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "50"),
        ("fetch.queue.backoff.ms", "10"),
        ("queued.min.messages", "10000"),
        ("queued.max.messages.kbytes", "32768"),
    ];
    for (property, value) in defaults {
        if config.get(property).is_none() {
            config.set(property, value);
        }
    }
    Ok(config)
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(Error::Closed))
}

/// Asks the brokers where topics begin and end, and what groups have committed.
pub(super) struct Queries {
    client: BaseConsumer<Plain>,
    config: ClientConfig,
    pub(super) names: Arc<Names>,
}

/// Where a partition begins and ends.
pub(super) type Bounds = BTreeMap<Spot, (u64, u64)>;

impl Queries {
    pub(super) fn new(options: &Options, names: Arc<Names>) -> Result<Self, Error> {
        let config = reading(&options.connection)?;
        let client = config.create_with_context(Plain)?;
        Ok(Self {
            client,
            config,
            names,
        })
    }

    /// Takes what the client has to tell, which otherwise would pile up.
    pub(super) fn attend(&self) {
        drop(self.client.poll(Duration::ZERO));
    }

    /// The partitions of a topic; none if there is no such topic.
    pub(super) fn partitions(&self, topic: &str) -> Result<Vec<Spot>, Error> {
        let topic = self.names.topic(topic)?;
        let metadata = self.client.fetch_metadata(Some(&topic.kafka), ASK_WITHIN)?;
        let found = metadata.topics().iter().filter(|t| t.error().is_none());
        let ids = found.flat_map(|t| t.partitions().iter().map(|p| p.id()));
        let mut ids: Vec<u32> = ids.filter_map(|id| u32::try_from(id).ok()).collect();
        ids.sort_unstable();
        let spots = ids.into_iter();
        Ok(spots
            .map(|id| Spot::new(Arc::clone(&topic.name), id))
            .collect())
    }

    /// Whether records of a topic can be written: each partition has a leader, and one that is kept on
    /// three brokers or more has a second in step, without which nothing is confirmed.
    pub(super) fn probe(&self, topic: &str) -> Result<(), Error> {
        let topic = self.names.topic(topic)?;
        let metadata = self
            .client
            .fetch_metadata(Some(&topic.kafka), PROBE_WITHIN)?;
        let found = metadata.topics().iter().filter(|t| t.error().is_none());
        let is_writable = |p: &MetadataPartition| {
            p.error().is_none() && p.leader() >= 0 && (p.replicas().len() < 3 || p.isr().len() > 1)
        };
        let mut partitions = found.flat_map(|t| t.partitions().iter()).peekable();
        if partitions.peek().is_some() && partitions.all(is_writable) {
            return Ok(());
        }
        let retry_after = super::RETRY_AFTER_LOAD;
        Err(Error::Unreachable { retry_after })
    }

    /// The first offset of each partition that is not older than this, or its end.
    pub(super) fn offsets_at(
        &self,
        topic: &str,
        partitions: &[u32],
        at: Timestamp,
    ) -> Result<Vec<(u32, u64)>, Error> {
        let topic = self.names.topic(topic)?;
        let spot = |partition: &u32| Spot::new(Arc::clone(&topic.name), *partition);
        let spots: Vec<_> = partitions.iter().map(spot).collect();
        let found = self.look_up(&spots, Offset::Offset(at.as_millis().max(0)))?;
        let ends = self.look_up(&spots, Offset::End)?;
        let place = |spot: &Spot| {
            let end = ends.get(spot).copied().unwrap_or_default();
            (spot.partition, found.get(spot).copied().unwrap_or(end))
        };
        Ok(spots.iter().map(place).collect())
    }

    /// Where these partitions begin and end.
    pub(super) fn bounds(&self, spots: &[Spot]) -> Result<Bounds, Error> {
        let (oldest, ends) = (
            self.look_up(spots, Offset::Beginning)?,
            self.look_up(spots, Offset::End)?,
        );
        let both = ends.into_iter().map(|(spot, end)| {
            let first = oldest.get(&spot).copied().unwrap_or_default();
            (spot, (first, end))
        });
        Ok(both.collect())
    }

    /// The brokers take a time, or a name for one end, in the place of an offset.
    fn look_up(&self, spots: &[Spot], at: Offset) -> Result<BTreeMap<Spot, u64>, Error> {
        if spots.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = self.list(spots, |_| at)?;
        let found = self.client.offsets_for_times(list, ASK_WITHIN)?;
        self.read(&found)
    }

    /// What a group has committed of these partitions.
    pub(super) fn committed(
        &self,
        group: &str,
        spots: &[Spot],
    ) -> Result<BTreeMap<Spot, u64>, Error> {
        if spots.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut config = self.config.clone();
        config.set("group.id", self.names.group(group));
        let client: BaseConsumer<Plain> = config.create_with_context(Plain)?;
        let list = self.list(spots, |_| Offset::Invalid)?;
        let found = client.committed_offsets(list, ASK_WITHIN)?;
        self.read(&found)
    }

    fn list(
        &self,
        spots: &[Spot],
        at: impl Fn(&Spot) -> Offset,
    ) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::with_capacity(spots.len());
        for spot in spots {
            let topic = self.names.topic(&spot.topic)?;
            add(&mut list, &topic.kafka, spot.partition, at(spot));
        }
        Ok(list)
    }

    fn read(&self, found: &TopicPartitionList) -> Result<BTreeMap<Spot, u64>, Error> {
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            let topic = self.names.of(element.topic());
            let partition = u32::try_from(element.partition()).ok();
            let offset = match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            };
            if let (Some(topic), Some(partition), Some(offset)) = (topic, partition, offset) {
                offsets.insert(Spot::new(Arc::clone(&topic.name), partition), offset);
            }
        }
        Ok(offsets)
    }

    /// Reads one topic's partitions from these offsets.
    pub(super) fn cursor(&self, from: &BTreeMap<Spot, u64>) -> Result<Cursor, Error> {
        let mut config = self.config.clone();
        config
            .set("group.id", self.names.group(ALONE))
            .set("enable.partition.eof", "true");
        let client: BaseConsumer<Plain> = config.create_with_context(Plain)?;
        let spots: Vec<_> = from.keys().cloned().collect();
        let offset = |spot: &Spot| from.get(spot).and_then(|at| i64::try_from(*at).ok());
        let list = self.list(&spots, |spot| {
            Offset::Offset(offset(spot).unwrap_or(i64::MAX))
        })?;
        client.assign(&list)?;
        let open = spots.into_iter().map(|spot| spot.partition).collect();
        Ok(Cursor {
            client,
            names: Arc::clone(&self.names),
            open,
        })
    }
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").finish_non_exhaustive()
    }
}

/// One reading of partitions of a topic, to where each ends.
pub(super) struct Cursor {
    client: BaseConsumer<Plain>,
    names: Arc<Names>,
    /// Partitions whose end was not met.
    pub(super) open: Vec<u32>,
}

impl Cursor {
    /// The next record; `None` when every partition has been read to its end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Error> {
        let until = Instant::now() + READ_WITHIN;
        while !self.open.is_empty() {
            match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    if let Some(record) = record(&message, &self.names) {
                        return Ok(Some(record));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.done(partition),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a topic could not be read; trying again")
                }
                None => {}
            }
            if Instant::now() > until {
                let retry_after = super::RETRY_AFTER_LOAD;
                return Err(Error::Unreachable { retry_after });
            }
        }
        Ok(None)
    }

    /// Reads no more of a partition.
    pub(super) fn done(&mut self, partition: i32) {
        self.open
            .retain(|open| i32::try_from(*open) != Ok(partition));
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// A question that is asked every second.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
const ASK_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// Nothing for so long, and no end either: the brokers are away.
const READ_WITHIN: Duration = Duration::from_secs(15);
