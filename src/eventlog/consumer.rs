//! One member of a consumer group, in any backend.

use super::committing::Committing;
use super::embedded::Embedded;
use super::polled::Polled;
use super::{Error, kafka, local};

/// A member of a group. Dropping it leaves the group; what was stored and not committed is handed
/// out again to the next member.
#[derive(Debug)]
pub struct Consumer(Member);

#[derive(Debug)]
enum Member {
    Local(local::Member),
    Kafka(kafka::Member),
}

impl Consumer {
    pub(super) fn join(log: Embedded, group: &str, topics: &[&str]) -> Result<Self, Error> {
        let member = local::Member::join(log, group, topics)?;
        Ok(Self(Member::Local(member)))
    }

    pub(super) const fn of(member: kafka::Member) -> Self {
        Self(Member::Kafka(member))
    }

    /// What comes next: records, at most `max`, in order within each partition; or a change of the
    /// partitions that this member reads. Waits for one of them. An embedded log, where a group has
    /// one member, answers with records only. Cancel-safe: what is handed out is handed out by a
    /// call that returns it.
    pub async fn poll(&mut self, max: usize) -> Result<Polled, Error> {
        match &mut self.0 {
            Member::Local(member) => member.poll(max).await.map(Polled::Records),
            Member::Kafka(member) => member.poll(max).await,
        }
    }

    /// Notes that everything before `next_offset` of a partition is done: the next commit commits
    /// it. A lower offset than was stored before changes nothing; [`seek`](Self::seek) goes back.
    /// Nor does a partition that this member does not read, or no longer.
    pub fn store(&mut self, topic: &str, partition: u32, next_offset: u64) {
        match &mut self.0 {
            Member::Local(member) => member.store(topic, partition, next_offset),
            Member::Kafka(member) => member.store(topic, partition, next_offset),
        }
    }

    /// Makes what was stored durable, with a text to go with it, which the next reader of each of
    /// these partitions is given. The work is under way when this returns; the future tells when it
    /// is done, and holds nobody up: the caller may poll on. Does nothing when nothing was stored
    /// since the last commit. What failed, or was not waited for, the next commit does again.
    pub fn commit(&mut self, metadata: &str) -> Committing {
        match &mut self.0 {
            Member::Local(member) => member.commit(metadata),
            Member::Kafka(member) => member.commit(metadata),
        }
    }

    /// Goes to an offset of one partition: the next records handed out of it begin there (or at
    /// the oldest there is). Going back also takes back what was stored. Other partitions go on
    /// where they were. Does nothing for a partition that this member does not read.
    pub async fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        match &mut self.0 {
            Member::Local(member) => member.seek(topic, partition, offset).await,
            Member::Kafka(member) => member.seek(topic, partition, offset).await,
        }
    }
}
