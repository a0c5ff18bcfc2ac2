//! What happens on the polling thread when partitions come and go, and when commits are answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;

use super::course::{Course, Verdict};
use super::handover::{Commit, Notice, Shared};
use super::reader::{Client, add};
use super::spot::Spot;
use super::{Assignment, Error, Revocation};
use crate::backend::kafka;
use crate::telemetry::metrics;

/// What the callbacks of one consumer know. They run on its polling thread only.
pub(super) struct Context {
    link: Shared,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    course: Course,
    paused: Option<TopicPartitionList>,
    /// Partitions that went since the reader looked: what it still has of them is old, though they came back.
    went: Vec<Spot>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        kafka::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "vestibule::kafka", %error, reason, "a consumer met an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        // Cooperating members are also told when nothing changes for them.
        if list.count() > 0 {
            metrics::EVENTLOG_REBALANCES.add(1);
        }
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoked(consumer, list),
            _ => consumer.unassign(),
        };
        if let Err(error) = done {
            tracing::error!(%error, "a change of partitions was not taken");
        }
    }
}

impl Context {
    pub(super) fn new(link: Shared) -> Self {
        Self {
            link,
            state: Mutex::default(),
        }
    }

    /// Whether this consumer reads a partition now.
    pub(super) fn reads(&self, spot: &Spot) -> bool {
        self.lock().course.reads(spot)
    }

    /// What to do with a record that came.
    pub(super) fn judge(&self, spot: &Spot, offset: u64) -> Verdict {
        self.lock().course.judge(spot, offset, Instant::now())
    }

    /// A partition is read from this offset on.
    pub(super) fn sought(&self, spot: &Spot, offset: u64) {
        self.lock().course.sought(spot, offset, Instant::now());
    }

    /// Nothing is read now.
    pub(super) fn rest(&self) {
        self.lock().course.rest(Instant::now());
    }

    /// Partitions that bring nothing though there is something, and from where to read them again.
    pub(super) fn stuck(&self) -> Vec<(Spot, u64)> {
        let ends = self.link.standing.ends();
        let end = |spot: &Spot| ends.get(spot).copied();
        self.lock().course.stuck(end, Instant::now())
    }

    /// Partitions that went since the last call.
    pub(super) fn went(&self) -> Vec<Spot> {
        std::mem::take(&mut self.lock().went)
    }

    /// Notes partitions that are read from now on.
    pub(super) fn begin(&self, assigned: Vec<Assignment>) {
        let mut state = self.lock();
        for assignment in &assigned {
            let spot = Spot::new(assignment.topic.clone(), assignment.partition);
            self.link.standing.begin(&spot, assignment.committed);
            state
                .course
                .begin(&spot, assignment.committed, Instant::now());
        }
        drop(state);
        self.link.handover.notify(Notice::Assigned(assigned));
    }

    fn assigned(&self, consumer: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
        if list.count() == 0 {
            return consumer.incremental_assign(list);
        }
        let Some(committed) = self.committed(consumer, list) else {
            // Leaving: what is taken now is given back at once.
            return consumer.incremental_assign(list);
        };
        let mut from = TopicPartitionList::with_capacity(committed.count());
        let mut assigned = Vec::with_capacity(committed.count());
        for element in committed.elements() {
            let (Some(topic), Ok(partition)) = (
                self.link.names.of(element.topic()),
                u32::try_from(element.partition()),
            ) else {
                continue;
            };
            let offset = match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            };
            let at = offset.map_or(Offset::Beginning, |_| element.offset());
            add(&mut from, element.topic(), partition, at);
            let metadata = Some(element.metadata()).filter(|text| !text.is_empty());
            assigned.push(Assignment {
                topic: topic.name.clone(),
                partition,
                committed: offset,
                metadata: metadata.map(str::to_owned),
            });
        }
        tracing::info!(partitions = assigned.len(), "partitions to read came");
        self.begin(assigned);
        consumer.incremental_assign(&from)?;
        let mut state = self.lock();
        if let Some(paused) = &mut state.paused {
            consumer.pause(&from)?;
            for element in from.elements() {
                paused.add_partition(element.topic(), element.partition());
            }
        }
        Ok(())
    }

    /// What the group has committed of these partitions; asked until there is an answer, because
    /// nothing may be read without it. `None` if the reader is gone.
    fn committed(
        &self,
        consumer: &Client,
        list: &TopicPartitionList,
    ) -> Option<TopicPartitionList> {
        while !self.link.handover.is_reader_gone() {
            let mut asked = TopicPartitionList::with_capacity(list.count());
            for element in list.elements() {
                asked.add_partition(element.topic(), element.partition());
            }
            match consumer.committed_offsets(asked, ASK_WITHIN) {
                Ok(found) if found.elements().iter().all(|e| e.error().is_ok()) => {
                    return Some(found);
                }
                Ok(_) => std::thread::park_timeout(ASK_AGAIN_AFTER),
                Err(error) => {
                    tracing::warn!(%error, "what a group has committed could not be read; asking again");
                    std::thread::park_timeout(ASK_AGAIN_AFTER);
                }
            }
        }
        None
    }

    fn revoked(&self, consumer: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
        let is_lost = consumer.assignment_lost();
        let spots = self.spots(list);
        self.link.handover.drop_partitions(&spots);
        if !spots.is_empty() && !self.link.handover.is_reader_gone() {
            tracing::info!(partitions = spots.len(), is_lost, "partitions to read went");
            self.let_finish(&spots, is_lost);
        }
        let mut state = self.lock();
        for spot in &spots {
            state.course.end(spot);
            self.link.standing.end(spot);
        }
        state.went.extend(spots);
        if let Some(paused) = state.paused.take() {
            // A partition that is paused stays so when it comes back: let it go on before it goes.
            consumer.resume(list).ok();
            let mut left = TopicPartitionList::new();
            for element in paused.elements() {
                if list
                    .find_partition(element.topic(), element.partition())
                    .is_none()
                {
                    left.add_partition(element.topic(), element.partition());
                }
            }
            state.paused = Some(left);
        }
        drop(state);
        consumer.incremental_unassign(list)
    }

    /// Lets the member finish what it has of these partitions, and commits it.
    fn let_finish(&self, spots: &[Spot], is_lost: bool) {
        let partitions = spots
            .iter()
            .map(|s| (s.topic.clone(), s.partition))
            .collect();
        let (revocation, hold) = Revocation::new(partitions, is_lost);
        if is_lost {
            hold.let_go();
            self.link.handover.notify(Notice::Revoked(revocation));
            return;
        }
        self.link.handover.notify(Notice::Revoked(revocation));
        let until = Instant::now() + FINISH_WITHIN;
        // A commit made while it was held is waited for too.
        while !hold.is_over() || self.link.handover.is_committing() {
            if Instant::now() >= until || self.link.handover.is_reader_gone() {
                break;
            }
            hold.wait(until);
        }
        hold.let_go();
    }

    /// Commits offsets, later ones of a partition over earlier ones.
    /// Waits for the answer: librdkafka gives none to the asynchronous commits of its bindings.
    pub(super) fn commit(&self, consumer: &Client, commits: Vec<Commit>) {
        let mut list = TopicPartitionList::new();
        for commit in &commits {
            for (spot, offset) in &commit.offsets {
                let Ok(topic) = self.link.names.topic(&spot.topic) else {
                    continue;
                };
                let at = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
                let partition = i32::try_from(spot.partition).unwrap_or(i32::MAX);
                if list.find_partition(&topic.kafka, partition).is_none() {
                    list.add_partition(&topic.kafka, partition);
                }
                if let Some(mut element) = list.find_partition(&topic.kafka, partition) {
                    element.set_offset(at).ok();
                    element.set_metadata(&commit.metadata);
                }
            }
        }
        let outcome = consumer
            .commit(&list, CommitMode::Sync)
            .map_err(Error::from);
        for commit in commits {
            if outcome.is_ok() {
                for (spot, offset) in &commit.offsets {
                    self.link.standing.committed(spot, *offset);
                }
            }
            commit.done.send(outcome.clone()).ok();
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.lock().paused.is_some()
    }

    /// Stops fetching. What was fetched and not polled is thrown away, and fetched again later.
    pub(super) fn pause(&self, consumer: &Client) {
        let Ok(all) = consumer.assignment() else {
            return;
        };
        if consumer.pause(&all).is_ok() {
            tracing::info!("reading pauses until what was read is worked off");
            self.lock().paused = Some(all);
        }
    }

    pub(super) fn resume(&self, consumer: &Client) {
        if let Some(paused) = self.lock().paused.take() {
            // A partition that is gone meanwhile can not be resumed, and need not.
            consumer.resume(&paused).ok();
        }
    }

    fn spots(&self, list: &TopicPartitionList) -> Vec<Spot> {
        let elements = list.elements();
        let spots = elements.iter().filter_map(|element| {
            let topic = self.link.names.of(element.topic())?;
            let partition = u32::try_from(element.partition()).ok()?;
            Some(Spot::new(topic.name.clone(), partition))
        });
        spots.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a member may take to finish what it has of partitions that go.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
const ASK_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
