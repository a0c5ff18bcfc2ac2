//! Consumer groups: what each has committed, and whether somebody reads for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::core::Core;
use super::recent::Row;
use super::topics::TopicIndex;

/// How far a group is behind in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Durable records that it has not committed.
    pub records: u64,
}

/// One commit: what a group has done.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) group: Arc<str>,
    /// The next offset of each partition that changed.
    pub(super) offsets: Vec<(TopicIndex, u32, u64)>,
    /// Every record of the group's topics before this row is done.
    pub(super) row: Row,
    pub(super) metadata: String,
}

/// What is known of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) row: Row,
    pub(super) offsets: HashMap<(TopicIndex, u32), u64>,
    pub(super) metadata: Option<String>,
    topics: Vec<(TopicIndex, u32)>,
    has_member: bool,
}

impl Group {
    /// A group that has committed, its offsets yet to be filled in.
    pub(super) fn stored(row: Row, metadata: String) -> Self {
        Self {
            row,
            metadata: Some(metadata),
            ..Self::default()
        }
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<HashMap<Arc<str>, Group>>);

impl Groups {
    /// The groups as they were stored.
    pub(super) fn new(stored: HashMap<Arc<str>, Group>) -> Self {
        Self(Mutex::new(stored))
    }

    /// Makes the caller the member of a group; gives where the group stands.
    pub(super) fn join(
        &self,
        name: &Arc<str>,
        topics: Vec<(TopicIndex, u32)>,
    ) -> Result<Group, Error> {
        let mut groups = self.lock();
        let group = groups.entry(Arc::clone(name)).or_default();
        if group.has_member {
            return Err(Error::Member(Arc::clone(name)));
        }
        group.has_member = true;
        group.topics = topics;
        Ok(group.clone())
    }

    /// The member is gone.
    pub(super) fn leave(&self, name: &str) {
        if let Some(group) = self.lock().get_mut(name) {
            group.has_member = false;
        }
    }

    /// Takes over a commit that is durable.
    pub(super) fn commit(&self, commit: Commit) {
        let mut groups = self.lock();
        let group = groups.entry(commit.group).or_default();
        group.row = commit.row;
        group.metadata = Some(commit.metadata);
        let offsets = commit.offsets.into_iter();
        group
            .offsets
            .extend(offsets.map(|(topic, partition, next)| ((topic, partition), next)));
    }

    /// The row before which every group is done; `None` without groups.
    pub(super) fn low(&self) -> Option<Row> {
        self.lock().values().map(|group| group.row).min()
    }

    /// The row before which all of these groups are done; 0 if one has not committed.
    pub(super) fn low_of(&self, names: &[&str]) -> Option<Row> {
        let groups = self.lock();
        names
            .iter()
            .map(|name| groups.get(*name).map_or(0, |group| group.row))
            .min()
    }

    pub(super) fn metadata(&self, name: &str) -> Option<String> {
        self.lock()
            .get(name)
            .and_then(|group| group.metadata.clone())
    }

    pub(super) fn lag(&self, core: &Core) -> Vec<Lag> {
        let groups = self.lock();
        let mut lags = Vec::new();
        for (name, group) in groups.iter() {
            for (topic, partitions) in &group.topics {
                let topic_name = core.topics.name(*topic);
                lags.extend((0..*partitions).map(|partition| {
                    let done = group
                        .offsets
                        .get(&(*topic, partition))
                        .copied()
                        .unwrap_or(0);
                    Lag {
                        group: Arc::clone(name),
                        topic: Arc::clone(&topic_name),
                        partition,
                        records: core.recent.top(*topic, partition).saturating_sub(done),
                    }
                }));
            }
        }
        lags
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
