//! The reading side of a consumer: what was handed out, stored and committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::handover::{Commit, Next, Notice, Seek, Shared};
use super::spot::Spot;
use super::{Committing, Error, Hold, Polled};

/// A member of a group, or a reader without one.
#[derive(Debug)]
pub(in crate::eventlog) struct Member {
    link: Shared,
    places: HashMap<Spot, Place>,
    /// True when a commit failed or nobody waited for it.
    is_in_doubt: Arc<AtomicBool>,
    /// True for a reader without a group, which has nothing to commit to.
    is_alone: bool,
}

#[derive(Debug, Default)]
struct Place {
    /// The next offset that is not done; `None` while nothing is known to be.
    stored: Option<u64>,
    committed: Option<u64>,
    /// Set when the partition was revoked.
    hold: Option<Arc<Hold>>,
}

impl Place {
    fn is_ours(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| !hold.is_over())
    }
}

impl Member {
    pub(super) fn new(link: Shared, is_alone: bool) -> Self {
        Self {
            link,
            places: HashMap::new(),
            is_in_doubt: Arc::default(),
            is_alone,
        }
    }

    pub(in crate::eventlog) async fn poll(&mut self, max: usize) -> Result<Polled, Error> {
        self.places.retain(|_, place| place.is_ours());
        match self.link.handover.next(max).await? {
            Next::Records(records) => Ok(Polled::Records(records)),
            Next::Notice(Notice::Assigned(assigned)) => {
                for assignment in &assigned {
                    let place = Place {
                        stored: assignment.committed,
                        committed: assignment.committed,
                        hold: None,
                    };
                    let topic = Arc::clone(&assignment.topic);
                    self.places
                        .insert(Spot::new(topic, assignment.partition), place);
                }
                Ok(Polled::Assigned(assigned))
            }
            Next::Notice(Notice::Revoked(revocation)) => {
                for (topic, partition) in &revocation.partitions {
                    let spot = Spot::new(Arc::clone(topic), *partition);
                    if let Some(place) = self.places.get_mut(&spot) {
                        place.hold = Some(revocation.hold());
                    }
                }
                Ok(Polled::Revoked(revocation))
            }
        }
    }

    pub(in crate::eventlog) fn store(&mut self, topic: &str, partition: u32, next_offset: u64) {
        let spot = Spot::new(Arc::from(topic), partition);
        if let Some(place) = self.places.get_mut(&spot) {
            place.stored = place.stored.max(Some(next_offset));
        }
    }

    pub(in crate::eventlog) fn commit(&mut self, metadata: &str) -> Committing {
        if self.is_alone {
            return Committing::nothing();
        }
        if self.is_in_doubt.swap(false, Ordering::AcqRel) {
            self.places
                .values_mut()
                .for_each(|place| place.committed = None);
        }
        let is_due = |place: &Place| place.stored != place.committed && place.is_ours();
        let due = self.places.iter_mut().filter(|(_, place)| is_due(place));
        let offsets: Vec<_> = due
            .filter_map(|(spot, place)| {
                place.committed = place.stored;
                Some((spot.clone(), place.stored?))
            })
            .collect();
        if offsets.is_empty() {
            return Committing::nothing();
        }
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            offsets,
            metadata: metadata.to_owned(),
            done,
        };
        let asked = self.link.handover.commit(commit);
        Committing::of(asked.map(|()| answer), &self.is_in_doubt)
    }

    pub(in crate::eventlog) async fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<(), Error> {
        let spot = Spot::new(Arc::from(topic), partition);
        let Some(place) = self.places.get_mut(&spot) else {
            return Ok(());
        };
        let (done, answer) = oneshot::channel();
        self.link.handover.seek(Seek { spot, offset, done })?;
        place.stored = place.stored.map(|stored| stored.min(offset));
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.link.handover.leave();
    }
}
