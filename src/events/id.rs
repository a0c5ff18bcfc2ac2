//! Event ids: 22 characters of base64url, 128 bits.
//!
//! An event for which the client gave an id of its own gets one that anybody can derive again, so
//! that a retry, on any node, is the same event. Its data is part of it: ids of clients that count
//! from 1 after each reload then collide with nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::types::EventId;

/// The id of an event that follows from these: the first 16 bytes of the SHA-256 of all, each after
/// its length, so that no two lists are the same bytes.
#[must_use]
pub fn derived_id(of: &[&str]) -> EventId {
    let mut hash = Sha256::new();
    for field in of {
        hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(field);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    random_id(head)
}

/// The id of an event for which the client gave none, of 16 random bytes.
#[must_use]
pub fn random_id(bytes: [u8; 16]) -> EventId {
    EventId::parse(&URL_SAFE_NO_PAD.encode(bytes)).expect("22 characters of base64url are an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_has_the_same_id_everywhere() {
        let one = ["ann", "r:1", "K", "1", "{}"];
        assert_eq!(derived_id(&one).as_str(), "3fEWDCnnBGldLqq6XAkW3w");
        let others: [&[&str]; 5] = [
            &["bob", "r:1", "K", "1", "{}"],
            &["ann", "r:1", "K1", "", "{}"],
            &["ann", "r:1", "", "K1", "{}"],
            &["ann", "r:1", "K", "1", "{ }"],
            &["ann", "r:1", "K", "1"],
        ];
        for other in others {
            assert_ne!(derived_id(other), derived_id(&one), "{other:?}");
        }
        assert_eq!(random_id([0xff; 16]).as_str(), "_____________________w");
    }
}
