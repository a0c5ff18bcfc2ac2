//! Which topics a consumer reads, while the catalogue may be reloaded.

use std::sync::Arc;
use std::time::Duration;

use crate::events::{Catalogue, Vocabulary};

/// Resolves when the catalogue in force has other topics (or those of them that `of` picks) than
/// these: then a consumer finishes what it has begun and joins its group anew, over the new ones.
pub(super) async fn changed(
    vocabulary: &Vocabulary,
    of: fn(&Catalogue) -> Vec<Arc<str>>,
    topics: Vec<Arc<str>>,
) {
    while of(&vocabulary.current()) == topics {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A new topic is read at most this late.
const LOOK_EVERY: Duration = Duration::from_secs(1);
