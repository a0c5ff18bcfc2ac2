//! When something was last said in a conversation, as far as lists show it.
//!
//! A message changes the lists of all members, who may be many; so lists are not forgotten by user.
//! Each list remembers when it was read, each conversation when it changed, and a list that is older
//! than one of its conversations is read again. Only what is in the cached page can be told so: a
//! conversation that was beyond it comes up when the list expires.
//!
//! A list that another node read has an age instead. It counts as read a little earlier than that, and
//! not at all if this node did not listen all the time since.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times are microseconds since the start, and at least one later with each change and each look. A fixed number of places, so that
/// they need no care: conversations that share one are read again a little more often.
pub(super) struct Activity {
    start: Instant,
    clock: AtomicU64,
    /// Since when every change was heard.
    listens_since: AtomicU64,
    changed_at: Box<[AtomicU64]>,
}

/// At 8 bytes each.
const PLACES: usize = 4_096;
/// A shard's clock may be adjusted by so much while a list is there, and a change may have been on its way so
/// long when the list was read.
const MARGIN: Duration = Duration::from_secs(1);

impl Default for Activity {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            clock: AtomicU64::new(0),
            listens_since: AtomicU64::new(0),
            changed_at: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Activity {
    fn of(&self, conversation: &str) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        conversation.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or(0);
        &self.changed_at[index]
    }

    /// To be called when the change can be read from the store.
    pub(super) fn changed(&self, conversation: &str) {
        let at = self.tick();
        self.of(conversation).fetch_max(at, Ordering::AcqRel);
    }

    /// To be called before the store is read.
    pub(super) fn now(&self) -> u64 {
        self.tick()
    }

    /// When a list of that age was read; `None` if changes since may not have been heard.
    pub(super) fn ago(&self, age: Duration) -> Option<u64> {
        let at = self.tick().checked_sub(micros(age + MARGIN))?;
        (at >= self.listens_since.load(Ordering::Acquire)).then_some(at)
    }

    /// Changes may not have been heard.
    pub(super) fn lost(&self) {
        let at = self.tick();
        self.listens_since.fetch_max(at, Ordering::AcqRel);
    }

    /// A time after every one before.
    fn tick(&self) -> u64 {
        let now = micros(self.start.elapsed());
        let next = |last: u64| Some((last + 1).max(now));
        let last = self
            .clock
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let (Ok(last) | Err(last)) = last;
        (last + 1).max(now)
    }

    /// Whether a conversation changed after a time.
    pub(super) fn is_newer(&self, conversation: &str, than: u64) -> bool {
        self.of(conversation).load(Ordering::Acquire) > than
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_after_a_list_was_read_is_newer() {
        let activity = Activity::default();
        activity.changed("a");
        let read_at = activity.now();
        assert!(!activity.is_newer("a", read_at) && !activity.is_newer("b", read_at));
        activity.changed("b");
        assert!(activity.is_newer("b", read_at));
        assert!(!activity.is_newer("a", read_at));
        assert!(!activity.is_newer("b", activity.now()));
    }

    #[test]
    fn a_list_of_another_node_is_as_old_as_it_is() {
        let mut activity = Activity::default();
        assert_eq!(activity.ago(Duration::ZERO), None, "just begun");
        activity.start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let read_at = activity.ago(Duration::from_secs(10)).unwrap();
        assert!(!activity.is_newer("a", read_at));
        activity.changed("a");
        let again = activity.ago(Duration::ZERO).unwrap();
        assert!(activity.is_newer("a", read_at) && activity.is_newer("a", again));
        activity.lost();
        assert_eq!(activity.ago(Duration::ZERO), None);
    }
}
