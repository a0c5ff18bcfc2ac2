//! What a topic may be called, and how many there may be.

use super::Error;

/// Refuses what is no name of a topic.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(Error::Topic(name.chars().take(64).collect()))
    }
}

/// Kafka's limit.
const NAME_BYTES_MAX: usize = 249;

/// Far above any catalogue, far below what would cost memory.
pub(super) const TOPICS_MAX: usize = 1_024;
