//! How far one consumer is behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::spot::Spot;
use super::{Lag, meter};

/// The partitions of one member, and how far each is done.
#[derive(Debug)]
pub(super) struct Standing {
    /// `None` for a reader without a group.
    group: Option<Arc<str>>,
    places: Mutex<BTreeMap<Spot, Place>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    committed: Option<u64>,
    oldest: u64,
    end: u64,
}

impl Standing {
    pub(super) fn new(group: Option<Arc<str>>) -> Self {
        Self {
            group,
            places: Mutex::default(),
        }
    }

    pub(super) fn begin(&self, spot: &Spot, committed: Option<u64>) {
        let place = Place {
            committed,
            ..Place::default()
        };
        self.lock().insert(spot.clone(), place);
    }

    pub(super) fn committed(&self, spot: &Spot, offset: u64) {
        if let Some(place) = self.lock().get_mut(spot) {
            place.committed = Some(offset);
        }
    }

    /// Another member reads it now, and says how far it is.
    pub(super) fn end(&self, spot: &Spot) {
        if self.lock().remove(spot).is_some() {
            self.lag_of(spot, 0).iter().for_each(meter::lag);
        }
    }

    pub(super) fn clear(&self) {
        let spots: Vec<_> = self.spots();
        spots.iter().for_each(|spot| self.end(spot));
    }

    /// The partitions to ask about.
    pub(super) fn spots(&self) -> Vec<Spot> {
        match self.group {
            Some(_) => self.lock().keys().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Notes where a partition begins and ends.
    pub(super) fn found(&self, spot: &Spot, (oldest, end): (u64, u64)) {
        if let Some(place) = self.lock().get_mut(spot) {
            (place.oldest, place.end) = (oldest, end);
        }
    }

    /// Where each partition ended when it was measured last.
    pub(super) fn ends(&self) -> BTreeMap<Spot, u64> {
        let places = self.lock();
        let ends = places.iter().map(|(spot, place)| (spot.clone(), place.end));
        ends.collect()
    }

    pub(super) fn lag(&self) -> Vec<Lag> {
        let places = self.lock().clone();
        let lag = places.iter().filter_map(|(spot, place)| {
            let done = place.committed.unwrap_or(place.oldest);
            self.lag_of(spot, place.end.saturating_sub(done))
        });
        lag.collect()
    }

    fn lag_of(&self, spot: &Spot, records: u64) -> Option<Lag> {
        Some(Lag {
            group: Arc::clone(self.group.as_ref()?),
            topic: Arc::clone(&spot.topic),
            partition: spot.partition,
            records,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Spot, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
