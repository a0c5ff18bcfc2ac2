//! Reading one's own writes: waiting until what follows from an event can be read.
//!
//! Only the consumer makes changes, in the log's order; one who told an event and wants to see what
//! it did looks at the store until it did it.

use std::time::Duration;

use tokio::time::Instant;

use super::change::{Change, What};
use super::follow::change;
use crate::directory::Directory;
use crate::eventlog::Appended;
use crate::events::{Envelope, Row};
use crate::store;

/// An event that is in the log.
#[derive(Debug)]
pub struct Told<'a> {
    /// Its row.
    pub row: &'a Row,
    /// The event.
    pub event: &'a Envelope,
    /// Where it is.
    pub at: Appended,
}

/// The first look comes this soon; each later one twice as late.
const LOOK_AFTER: Duration = Duration::from_millis(2);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(100);

/// Waits until the effects of an event can be read here, at most this long; false if they cannot by
/// then. They will be all the same: the log has the event.
pub async fn applied(directory: &Directory, told: Told<'_>, within: Duration) -> bool {
    let place = (told.at.at, told.at.offset);
    let effects = told.row.effects.iter();
    // What cannot be made is the consumer's to put aside.
    let changes = effects.filter_map(|effect| change(effect, told.event, place).ok());
    let end = Instant::now() + within;
    for change in changes {
        let mut pause = LOOK_AFTER;
        // A store that does not answer now may by the next time.
        while !change.is_made(directory.store()).await.unwrap_or(false) {
            if Instant::now() + pause > end {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_EVERY_MAX);
        }
        change.forget(directory);
    }
    true
}

impl Change {
    /// Whether the store shows it, or something later.
    async fn is_made(&self, store: &store::Store) -> Result<bool, store::Error> {
        Ok(match &self.what {
            What::Upsert { kind, id, .. } => {
                let record = store.record(kind, id).await?;
                record.is_some_and(|record| record.version >= self.version)
            }
            What::Delete { kind, id } => {
                let record = store.record(kind, id).await?;
                record.is_none_or(|record| record.version > self.version)
            }
            What::Invalidate { .. } => true,
            What::Join { room, user } => store.is_in_group(room, user).await?,
            What::Leave { room, user } => !store.is_in_group(room, user).await?,
        })
    }

    /// The consumer does so too, but perhaps a moment after the store shows the change.
    fn forget(&self, directory: &Directory) {
        match &self.what {
            What::Upsert { kind, id, .. } | What::Delete { kind, id } => {
                directory.record_changed(kind, id);
            }
            What::Invalidate { kind, id } => directory.forget_record(kind, id),
            What::Join { user, .. } | What::Leave { user, .. } => directory.groups_changed(user),
        }
    }
}
