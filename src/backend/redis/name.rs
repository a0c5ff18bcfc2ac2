//! Parts of keys that others make up.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Keys in their own words, at most; longer ones are hashed.
const LENGTH_MAX: usize = 96;

/// A text as the last part of a key: itself, or `#` and its hash if it is long, or looks like that. No two
/// texts have one name.
#[must_use]
pub fn name(text: &str) -> Cow<'_, str> {
    if text.len() <= LENGTH_MAX && !text.starts_with('#') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(hashed(text))
}

/// A text as the last part of a key that does not show it.
#[must_use]
pub fn hashed(text: &str) -> String {
    let hash = Sha256::digest(text);
    let hex: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("#{hex}")
}
