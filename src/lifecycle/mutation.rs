//! Deliberate mistakes: what the checker of `tests/chaos` has to find.
//!
//! Only a build with the feature `mutations` can make one, named in the environment variable
//! `VESTIBULE_MUTATION`; in every other build asking is a constant `false`.

/// A promise that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A retry under the same client id is another event.
    DedupOff,
    /// What the bus lost is not read again.
    RepairOff,
    /// A sender is answered before the log has the event.
    AckBeforeLog,
}

/// Whether this process makes this mistake.
#[cfg(feature = "mutations")]
#[must_use]
pub fn is_on(mutation: Mutation) -> bool {
    static ON: std::sync::LazyLock<Option<Mutation>> =
        std::sync::LazyLock::new(|| match std::env::var("VESTIBULE_MUTATION").as_deref() {
            Ok("dedup-off") => Some(Mutation::DedupOff),
            Ok("repair-off") => Some(Mutation::RepairOff),
            Ok("ack-before-log") => Some(Mutation::AckBeforeLog),
            _ => None,
        });
    *ON == Some(mutation)
}

/// Whether this process makes this mistake: never.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub const fn is_on(_: Mutation) -> bool {
    false
}
