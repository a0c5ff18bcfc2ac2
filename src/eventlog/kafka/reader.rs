//! The thread that polls Kafka for one consumer.
//!
//! librdkafka runs its callbacks on the thread that polls, and a rebalance may have to wait for a
//! member to finish; so polling has a thread of its own. It hands records over one by one into a
//! bounded queue. When that stays full for a second it pauses its partitions and polls on, because a
//! consumer that does not poll is put out of its group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::oneshot;

use super::course::Verdict;
use super::handover::{Handover, Seek, Shared};
use super::names::Names;
use super::rebalance::Context;
use super::spot::Spot;
use super::standing::Standing;
use super::{Assignment, Error, Headers, Record};
use crate::backend::kafka;
use crate::telemetry::metrics;
use crate::types::Timestamp;

pub(super) type Client = BaseConsumer<Context>;

/// What the thread, its callbacks and the member share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) handover: Handover,
    pub(super) names: Arc<Names>,
    pub(super) standing: Standing,
}

/// Where a consumer begins.
pub(super) enum Start {
    /// A member of a group, by the topics' names at the brokers.
    Group(Vec<String>),
    /// Exactly these partitions, from these offsets.
    At(Vec<(Spot, u64)>),
}

/// The polling thread.
pub(super) struct Reader {
    client: Arc<Client>,
    link: Shared,
    /// Polled, and not handed over for want of room.
    stash: VecDeque<Record>,
    full_since: Option<Instant>,
    seeks: Vec<Seek>,
    looked_at: Instant,
}

impl Reader {
    /// Begins to read.
    pub(super) fn start(
        config: &ClientConfig,
        link: &Shared,
        start: Start,
    ) -> Result<JoinHandle<()>, Error> {
        let context = Context::new(Arc::clone(link));
        let client: Client = config.create_with_context(context)?;
        match start {
            Start::Group(topics) => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                client.subscribe(&topics)?;
            }
            Start::At(places) => assign(&client, link, &places)?,
        }
        let client = Arc::new(client);
        let committing = commits(&client, link)?;
        let mut reader = Self {
            client,
            link: Arc::clone(link),
            stash: VecDeque::new(),
            full_since: None,
            seeks: Vec::new(),
            looked_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("kafka-poll".to_owned());
        let run = move || {
            let end = reader.run();
            reader.link.handover.end(end);
            reader.link.standing.clear();
            // Leaves the group; what is revoked by that, nobody waits for.
            reader.link.handover.leave();
            // What was asked for before the member left is committed before it leaves the group.
            committing.join().ok();
        };
        let thread = thread.spawn(run);
        thread.map_err(|error| kafka::Error::Other(error.to_string()).into())
    }

    fn run(&mut self) -> Error {
        loop {
            self.obey();
            if self.link.handover.is_reader_gone() {
                return Error::Closed;
            }
            self.hand_over();
            match self.look_after() {
                // Handed over at once, if there is room.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return error,
            }
            // Judged before the poll: what that brings is handed over at once as well.
            let is_full = !self.stash.is_empty();
            let patience = if is_full { Duration::ZERO } else { POLL };
            if (!is_full || self.context().is_paused())
                && let Err(error) = self.poll(patience)
            {
                return error;
            }
            if is_full {
                self.link.handover.wait(POLL);
            }
        }
    }

    /// Whether anything was there.
    fn poll(&mut self, patience: Duration) -> Result<bool, Error> {
        let outcome = self.client.poll(patience);
        let went = self.context().went();
        if !went.is_empty() {
            // Were a partition to come back before these are handed over, it would seem to begin with them.
            self.stash
                .retain(|record| !went.contains(&Spot::of(record)));
        }
        let link = &self.link;
        let is_there = outcome.is_some();
        match outcome {
            Some(Ok(message)) => {
                if let Some(record) = record(&message, &link.names) {
                    self.judge(record);
                }
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                tracing::error!(%code, "a consumer can not go on");
                return Err(KafkaError::MessageConsumptionFatal(code).into());
            }
            // The client heals by itself, or an operator has to: either way it goes on trying.
            Some(Err(error)) if is_outage(&error) => {
                tracing::debug!(%error, "kafka could not be read; trying again");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "kafka could not be read; trying again");
            }
            None => {}
        }
        Ok(is_there)
    }

    /// Takes a record, unless some before it seem to be missing.
    fn judge(&mut self, record: Record) {
        let spot = Spot::of(&record);
        match self.client.context().judge(&spot, record.offset) {
            Verdict::Take => self.stash.push_back(record),
            Verdict::Found => {
                tracing::warn!(topic = %spot.topic, partition = spot.partition, offset = record.offset,
                    "a record that the kafka client had passed over was found by looking again");
                self.stash.push_back(record);
            }
            Verdict::Drop => {}
            Verdict::LookAgain(from) => {
                tracing::debug!(topic = %spot.topic, partition = spot.partition, from, came = record.offset,
                    "records seem to have been passed over; looking again");
                self.look_again(spot, from);
            }
        }
    }

    /// Reads a partition again from here on, unless its member wants it from elsewhere.
    fn look_again(&mut self, spot: Spot, offset: u64) {
        metrics::EVENTLOG_REREAD.add(1);
        if self.seeks.iter().all(|seek| seek.spot != spot) {
            let (done, _nobody_waits) = oneshot::channel();
            self.seeks.push(Seek { spot, offset, done });
        }
    }

    /// Looks now and then whether partitions stand still. Whether something came.
    fn look_after(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now.duration_since(self.looked_at) < LOOK_EVERY {
            return Ok(false);
        }
        // What waits here, or is paused, is not the brokers' or the client's fault.
        if !self.stash.is_empty() || self.context().is_paused() {
            self.looked_at = now;
            self.context().rest();
            return Ok(false);
        }
        // Nor is what was fetched and waits its turn behind other partitions.
        if self.poll(Duration::ZERO)? {
            return Ok(true);
        }
        self.looked_at = now;
        for (spot, from) in self.context().stuck() {
            tracing::warn!(topic = %spot.topic, partition = spot.partition, from,
                "a partition has more than was read and brings nothing; reading it again");
            self.look_again(spot, from);
        }
        Ok(false)
    }

    fn hand_over(&mut self) {
        let is_current = |record: &Record| self.client.context().reads(&Spot::of(record));
        while let Some(record) = self.stash.pop_front() {
            if !is_current(&record) {
                continue;
            }
            if !self.link.handover.has_room() {
                self.stash.push_front(record);
                break;
            }
            self.link.handover.push(record);
        }
        let now = Instant::now();
        if self.stash.is_empty() {
            self.full_since = None;
        } else {
            self.full_since.get_or_insert(now);
        }
        let context = self.client.context();
        let is_long = |since: Instant| now.duration_since(since) > PAUSE_AFTER;
        if !context.is_paused() && self.full_since.is_some_and(is_long) {
            context.pause(&self.client);
        } else if context.is_paused() && self.stash.is_empty() && self.link.handover.is_light() {
            context.resume(&self.client);
        }
    }

    /// Does what the member asked.
    fn obey(&mut self) {
        while let Some(seek) = self.link.handover.sought() {
            // A later seek of the same partition takes the place of an earlier one.
            self.seeks.retain(|earlier| earlier.spot != seek.spot);
            self.seeks.push(seek);
        }
        if !self.seeks.is_empty() && self.context().is_paused() {
            // What is paused goes on from where it was paused, whatever was sought meanwhile.
            self.context().resume(&self.client);
        }
        for seek in std::mem::take(&mut self.seeks) {
            if self.context().reads(&seek.spot) && !self.seek(&seek.spot, seek.offset) {
                self.seeks.push(seek);
                continue;
            }
            self.context().sought(&seek.spot, seek.offset);
            self.stash.retain(|record| Spot::of(record) != seek.spot);
            self.link.handover.arrived(&seek.spot);
            seek.done.send(Ok(())).ok();
        }
    }

    /// False if the partition can not be moved yet: its first fetch is still being prepared.
    fn seek(&self, spot: &Spot, offset: u64) -> bool {
        let Ok(topic) = self.link.names.topic(&spot.topic) else {
            return true;
        };
        let to = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        let partition = i32::try_from(spot.partition).unwrap_or(i32::MAX);
        let outcome = self.client.seek(&topic.kafka, partition, to, SEEK_WITHIN);
        outcome
            .inspect_err(|error| tracing::debug!(%error, "a seek is tried again"))
            .is_ok()
    }

    fn context(&self) -> &Context {
        self.client.context()
    }
}

/// The thread that commits: a coordinator that is away must not keep records from being read.
fn commits(client: &Arc<Client>, link: &Shared) -> Result<JoinHandle<()>, Error> {
    let (client, link) = (Arc::clone(client), Arc::clone(link));
    let run = move || {
        while let Some(commits) = link.handover.commits() {
            client.context().commit(&client, commits);
        }
    };
    let thread = std::thread::Builder::new().name("kafka-commit".to_owned());
    let thread = thread.spawn(run);
    thread.map_err(|error| kafka::Error::Other(error.to_string()).into())
}

/// Reads exactly these partitions.
fn assign(client: &Client, link: &Shared, places: &[(Spot, u64)]) -> Result<(), Error> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    let mut assigned = Vec::with_capacity(places.len());
    for (spot, offset) in places {
        let topic = link.names.topic(&spot.topic)?;
        let partition = i32::try_from(spot.partition).unwrap_or(i32::MAX);
        let at = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&topic.kafka, partition, at)?;
        assigned.push(Assignment {
            topic: Arc::clone(&spot.topic),
            partition: spot.partition,
            committed: Some(*offset),
            metadata: None,
        });
    }
    client.context().begin(assigned);
    client.assign(&list)?;
    Ok(())
}

/// What Kafka holds, as a record; `None` if it is in no topic of ours.
pub(super) fn record(message: &BorrowedMessage<'_>, names: &Names) -> Option<Record> {
    let topic = names.of(message.topic())?;
    let headers = message.headers().map_or_else(Headers::default, |headers| {
        let pairs = headers.iter().map(|header| {
            let value = header.value.map_or_else(Bytes::new, Bytes::copy_from_slice);
            (header.key.to_owned(), value)
        });
        Headers::new(pairs.collect())
    });
    // Who writes into Kafka directly may leave out the key; what is no text is no key of ours.
    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
    Some(Record {
        topic: Arc::clone(&topic.name),
        partition: u32::try_from(message.partition()).ok()?,
        offset: u64::try_from(message.offset()).ok()?,
        key: Arc::from(key),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        at: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or_default()),
        headers,
    })
}

/// Adds where a partition is to a list.
pub(super) fn add(list: &mut TopicPartitionList, kafka: &str, partition: u32, offset: Offset) {
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    // Only offsets below zero are refused, and none of ours is.
    list.add_partition_offset(kafka, partition, offset).ok();
}

/// Told again and again as long as brokers are away.
fn is_outage(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut)
    )
}

/// Also how long a seek may wait to be begun.
const POLL: Duration = Duration::from_millis(10);
/// A queue that is full for so long is not a burst.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How often is looked whether partitions stand still.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SEEK_WITHIN: Duration = Duration::from_millis(1_000);
