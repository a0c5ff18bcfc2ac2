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
    /// How many single offsets in a row held no record when they were looked at twice.
    marks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It is to be read again from `next` on because something else came; what comes until then is old.
    Asked,
    /// The same because nothing came.
    Stuck,
    /// It is read again: whatever comes first is what there is.
    LookedTwice,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is next.
    Take,
    /// It is next, and had been passed over.
    Found,
    /// It is old, or will come again.
    Drop,
    /// Records before it seem to have been passed over: read again from this offset on.
    LookAgain(u64),
}

/// How long a partition may stand still at first. Clients come back to a broker within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many marks in a row are the work of somebody who writes in transactions: each leaves one behind its records.
const MARKS: u32 = 8;
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
            marks: 0,
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
        if matches!(place.doubt, Doubt::Asked | Doubt::Stuck) {
            return Verdict::Drop;
        }
        let is_mark = offset == place.next + 1 && place.marks >= MARKS;
        if offset > place.next && place.doubt == Doubt::None && !is_mark {
            place.doubt = Doubt::Asked;
            return Verdict::LookAgain(place.next);
        }
        let is_found = place.doubt == Doubt::LookedTwice && offset == place.next;
        let marks = match offset - place.next.min(offset) {
            0 if is_found => 0,
            0 => place.marks,
            1 => (place.marks + 1).min(MARKS),
            _ => 0,
        };
        *place = Place {
            next: offset + 1,
            doubt: Doubt::None,
            since: now,
            patience: PATIENCE,
            marks,
        };
        match is_found {
            true => Verdict::Found,
            false => Verdict::Take,
        }
    }

    /// Nothing is read now, so that nothing stands still.
    pub(super) fn rest(&mut self, now: Instant) {
        for place in self.places.values_mut() {
            place.since = now;
        }
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
            let is_sought = matches!(place.doubt, Doubt::Asked | Doubt::Stuck);
            if is_sought || now.duration_since(place.since) < place.patience {
                return None;
            }
            (place.since, place.doubt) = (now, Doubt::Stuck);
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
        assert_eq!(course.judge(&spot(), 6, now), Verdict::Found);
        assert_eq!(course.judge(&spot(), 7, now), Verdict::Take);
        // A mark, or a deleted record: it is not there.
        assert_eq!(course.judge(&spot(), 9, now), Verdict::LookAgain(8));
        course.sought(&spot(), 8, now);
        assert_eq!(course.judge(&spot(), 9, now), Verdict::Take);
        assert_eq!(course.judge(&spot(), 10, now), Verdict::Take);
    }

    #[test]
    fn marks_that_come_again_and_again_are_believed_until_one_was_none() {
        let (mut course, now) = course(Some(0));
        let mut next = 0;
        let mut take_with_mark = |course: &mut Course, is_looked_for: bool| {
            let verdict = course.judge(&spot(), next + 1, now);
            if is_looked_for {
                assert_eq!(verdict, Verdict::LookAgain(next));
                course.sought(&spot(), next, now);
                assert_eq!(course.judge(&spot(), next + 1, now), Verdict::Take);
            } else {
                assert_eq!(verdict, Verdict::Take);
            }
            next += 2;
        };
        for _ in 0..MARKS {
            take_with_mark(&mut course, true);
        }
        for _ in 0..3 {
            take_with_mark(&mut course, false);
        }
        // More than a mark, and it is there.
        assert_eq!(
            course.judge(&spot(), next + 2, now),
            Verdict::LookAgain(next)
        );
        course.sought(&spot(), next, now);
        assert_eq!(course.judge(&spot(), next, now), Verdict::Found);
        assert_eq!(
            course.judge(&spot(), next + 2, now),
            Verdict::LookAgain(next + 1)
        );
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
        assert_eq!(course.judge(&spot(), 6, at(90)), Verdict::Drop);
        course.sought(&spot(), 5, at(90));
        // What it stumbled over is still looked for.
        assert_eq!(course.judge(&spot(), 6, at(91)), Verdict::LookAgain(5));
        course.sought(&spot(), 5, at(91));
        assert_eq!(course.judge(&spot(), 5, at(91)), Verdict::Found);
        assert_eq!(
            course.stuck(end(7), at(96)),
            [(spot(), 6)],
            "patient as at first"
        );
        course.sought(&spot(), 6, at(96));
        course.rest(at(200));
        assert_eq!(
            course.stuck(end(7), at(201)),
            [],
            "nothing was read meanwhile"
        );
    }
}
