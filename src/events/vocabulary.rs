//! The catalogue in force, which an operator may change while the node runs.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::events::catalogue::Catalogue;

/// The catalogue in force, shared by everybody who reads events. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary(Arc<ArcSwap<Catalogue>>);

/// The catalogue as it was when it was asked for. Take a new one for each event; a
/// [`Row`](crate::events::Row) that is needed for longer is cloned out of it.
pub type Current = Guard<Arc<Catalogue>>;

impl Vocabulary {
    /// Starts with this catalogue.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(catalogue)))
    }

    /// Starts with the catalogue that comes with the program.
    #[must_use]
    pub fn builtin() -> Self {
        Self::new(Catalogue::builtin())
    }

    /// The catalogue in force: a few nanoseconds, no lock, no shared counter.
    #[must_use]
    pub fn current(&self) -> Current {
        self.0.load()
    }

    /// Puts another catalogue in force, for every event after this.
    pub fn replace(&self, catalogue: Catalogue) {
        self.0.store(Arc::new(catalogue));
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.current().rows().len();
        f.debug_struct("Vocabulary").field("rows", &rows).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_taken_outlives_its_catalogue() {
        let vocabulary = Vocabulary::builtin();
        let other = vocabulary.clone();
        let row = Arc::clone(vocabulary.current().by_type("MESSAGE_SENT").unwrap());
        other.replace(Catalogue::parse("").unwrap());
        assert!(vocabulary.current().by_type("MESSAGE_SENT").is_none());
        assert_eq!(&*row.kind, "MESSAGE_SENT");
    }
}
