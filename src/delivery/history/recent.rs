//! In which room a message of a moment ago is.
//!
//! The store follows the log by moments. Who edits what was just sent names it by its id alone, so
//! the publisher notes where each message went. Bounded; the oldest are forgotten first, and by then
//! the store has them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::types::{EventId, RoomName};

/// The rooms of the last messages that this node published. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<EventId, RoomName>,
    order: VecDeque<EventId>,
}

impl Recent {
    /// Notes where a message goes.
    pub fn note(&self, id: &EventId, room: &RoomName) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rooms.insert(id.clone(), room.clone()).is_some() {
            return; // a retry
        }
        state.order.push_back(id.clone());
        if state.order.len() > MESSAGES_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.rooms.remove(&oldest);
        }
    }

    /// Where a message went, if it is one of the last.
    #[must_use]
    pub fn room(&self, id: &EventId) -> Option<RoomName> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rooms.get(id).cloned()
    }
}

/// Three seconds of the highest rate; about 3 MB. The archive is behind by a tenth of a second.
const MESSAGES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let recent = Recent::default();
        let room = RoomName::parse("conversation:1").unwrap();
        let id = |n: usize| EventId::parse(&format!("e{n}")).unwrap();
        for n in 0..=MESSAGES_MAX {
            recent.note(&id(n), &room);
            recent.note(&id(n), &room);
        }
        assert_eq!(recent.room(&id(0)), None);
        assert_eq!(recent.room(&id(1)), Some(room.clone()));
        assert_eq!(recent.room(&id(MESSAGES_MAX)), Some(room));
        assert_eq!(recent.0.lock().unwrap().rooms.len(), MESSAGES_MAX);
    }
}
