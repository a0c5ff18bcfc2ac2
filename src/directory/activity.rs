//! When something was last said in a conversation, as far as lists show it.
//!
//! A message changes the lists of all members, who may be many; so lists are not forgotten by user.
//! Each list remembers when it was read, each conversation when it changed, and a list that is older
//! than one of its conversations is read again. Only what is in the cached page can be told so: a
//! conversation that was beyond it comes up when the list expires.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// Times are numbers of a clock that goes on with each change. A fixed number of places, so that
/// they need no care: conversations that share one are read again a little more often.
pub(super) struct Activity {
    clock: AtomicU64,
    changed_at: Box<[AtomicU64]>,
}

/// At 8 bytes each.
const PLACES: usize = 4_096;

impl Default for Activity {
    fn default() -> Self {
        Self {
            clock: AtomicU64::new(0),
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
        let at = self.clock.fetch_add(1, Ordering::AcqRel) + 1;
        self.of(conversation).fetch_max(at, Ordering::AcqRel);
    }

    /// To be called before the store is read.
    pub(super) fn now(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// Whether a conversation changed after a time.
    pub(super) fn is_newer(&self, conversation: &str, than: u64) -> bool {
        self.of(conversation).load(Ordering::Acquire) > than
    }
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
}
