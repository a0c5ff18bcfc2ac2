//! Whether each partition is read without a gap and without standing still.
//!
//! Offsets of a partition follow one another, except where records were deleted or a transaction left its mark.
//! A client that passes a record over, or stops to fetch a partition, breaks every promise made above it; and
//! brokers that come and go are what such clients have been seen to stumble over. So what seems to have been
//! passed over is read once more from where it should have begun, and so is a partition that has more
//! than was read of it and brings nothing for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::spot::Spot;

/// The partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Course {
    places: HashMap<Spot, Place>,
}

#[derive(Debug)]
struct Place {
    /// The offset that should come next.
    next: u64,
    doubt: Doubt,
    /// When something came last, or it was read again.
    since: Instant,
    /// How long nothing may come though there is something.
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It is to be read again from `next` on; what comes until then is old.
    Asked,
    /// It is read again: whatever comes first is what there is.
    LookedTwice,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is next.
    Take,
    /// It is old, or will come again.
    Drop,
    /// Records before it seem to have been passed over: read again from this offset on.
    LookAgain(u64),
}

/// How long a partition may stand still at first. Clients come back to a broker within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// And at most: a transaction that is open, or its mark at the end, looks the same.
const PATIENCE_MAX: Duration = Duration::from_secs(320);

impl Course {
    /// A partition is read from here on; nothing committed: from its oldest record on.
    pub(super) fn begin(&mut self, spot: &Spot, committed: Option<u64>, now: Instant) {
        let place = Place {
            next: committed.unwrap_or(0),
            doubt: Doubt::None,
            since: now,
            patience: PATIENCE,
        };
        self.places.insert(spot.clone(), place);
    }

    pub(super) fn end(&mut self, spot: &Spot) {
        self.places.remove(spot);
    }

    pub(super) fn reads(&self, spot: &Spot) -> bool {
        self.places.contains_key(spot)
    }

    /// It is read from this offset on, from now.
    pub(super) fn sought(&mut self, spot: &Spot, offset: u64, now: Instant) {
        if let Some(place) = self.places.get_mut(spot) {
            place.doubt = match place.doubt {
                Doubt::Asked if place.next == offset => Doubt::LookedTwice,
                _ => Doubt::None,
            };
            (place.next, place.since) = (offset, now);
        }
    }

    /// Judges a record that came.
    pub(super) fn judge(&mut self, spot: &Spot, offset: u64, now: Instant) -> Verdict {
        let Some(place) = self.places.get_mut(spot) else {
            return Verdict::Drop;
        };
        if place.doubt == Doubt::Asked {
            return Verdict::Drop;
        }
        if offset > place.next && place.doubt == Doubt::None {
            place.doubt = Doubt::Asked;
            return Verdict::LookAgain(place.next);
        }
        *place = Place {
            next: offset + 1,
            doubt: Doubt::None,
            since: now,
            patience: PATIENCE,
        };
        Verdict::Take
    }

    /// Partitions that have more (`end` says where they end) and bring nothing, and from where to read
    /// them again.
    pub(super) fn stuck(
        &mut self,
        end: impl Fn(&Spot) -> Option<u64>,
        now: Instant,
    ) -> Vec<(Spot, u64)> {
        let places = self.places.iter_mut();
        let stuck = places.filter_map(|(spot, place)| {
            let has_more = end(spot).is_some_and(|end| end > place.next);
            if !has_more {
                // Patience counts from when there is something to wait for.
                place.since = now;
                return None;
            }
            if now.duration_since(place.since) < place.patience || place.doubt == Doubt::Asked {
                return None;
            }
            (place.since, place.doubt) = (now, Doubt::Asked);
            place.patience = (place.patience * 2).min(PATIENCE_MAX);
            Some((spot.clone(), place.next))
        });
        stuck.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn spot() -> Spot {
        Spot::new(Arc::from("t"), 3)
    }

    fn course(committed: Option<u64>) -> (Course, Instant) {
        let (mut course, now) = (Course::default(), Instant::now());
        course.begin(&spot(), committed, now);
        (course, now)
    }

    #[test]
    fn what_was_passed_over_is_looked_for_once() {
        let (mut course, now) = course(Some(5));
        assert_eq!(course.judge(&spot(), 5, now), Verdict::Take);
        assert_eq!(course.judge(&spot(), 7, now), Verdict::LookAgain(6));
        assert_eq!(
            course.judge(&spot(), 8, now),
            Verdict::Drop,
            "until it is sought"
        );
        course.sought(&spot(), 6, now);
        assert_eq!(course.judge(&spot(), 6, now), Verdict::Take);
        assert_eq!(course.judge(&spot(), 7, now), Verdict::Take);
        // A mark, or a deleted record: it is not there.
        assert_eq!(course.judge(&spot(), 9, now), Verdict::LookAgain(8));
        course.sought(&spot(), 8, now);
        assert_eq!(course.judge(&spot(), 9, now), Verdict::Take);
        assert_eq!(course.judge(&spot(), 10, now), Verdict::Take);
    }

    #[test]
    fn the_first_record_counts_too_and_whoever_seeks_says_what_is_next() {
        let (mut course, now) = course(None);
        assert_eq!(course.judge(&spot(), 1, now), Verdict::LookAgain(0));
        // The member has another wish meanwhile.
        course.sought(&spot(), 3, now);
        assert_eq!(course.judge(&spot(), 3, now), Verdict::Take);
        course.sought(&spot(), 2, now);
        assert_eq!(course.judge(&spot(), 2, now), Verdict::Take);
        course.end(&spot());
        assert_eq!(course.judge(&spot(), 3, now), Verdict::Drop);
        assert!(!course.reads(&spot()));
    }

    #[test]
    fn what_stands_still_is_read_again_less_and_less_often() {
        let (mut course, start) = course(Some(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        let end = |end| move |_: &Spot| Some(end);
        assert_eq!(course.stuck(end(5), at(60)), [], "there is nothing");
        assert_eq!(course.stuck(end(6), at(64)), []);
        assert_eq!(course.stuck(end(6), at(65)), [(spot(), 5)]);
        assert_eq!(course.stuck(end(6), at(80)), [], "it is being sought");
        course.sought(&spot(), 5, at(80));
        assert_eq!(course.stuck(end(6), at(89)), []);
        assert_eq!(course.stuck(end(6), at(90)), [(spot(), 5)]);
        course.sought(&spot(), 5, at(90));
        assert_eq!(course.judge(&spot(), 5, at(91)), Verdict::Take);
        assert_eq!(
            course.stuck(end(7), at(96)),
            [(spot(), 6)],
            "patient as at first"
        );
    }
}
