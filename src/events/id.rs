//! Event ids: 22 characters of base64url, 128 bits.
//!
//! An event for which the client gave an id of its own gets one that anybody can derive again, so
//! that a retry, on any node, is the same event. Its data is part of it: ids of clients that count
//! from 1 after each reload then collide with nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::types::{EventId, RoomName, UserId};

/// What makes two sends the same event.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The sender.
    pub user: &'a UserId,
    /// Where it goes.
    pub room: &'a RoomName,
    /// The event type.
    pub kind: &'a str,
    /// The id that the client gave.
    pub client_id: &'a str,
    /// The data's JSON text.
    pub data: &'a str,
}

/// The id of an event that has a client's id.
#[must_use]
pub fn event_id(identity: &Identity<'_>) -> EventId {
    let Identity {
        user,
        room,
        kind,
        client_id,
        data,
    } = identity;
    derived_id(&[user.as_str(), room.as_str(), kind, client_id, data])
}

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
        let (user, room) = (
            UserId::parse("ann").unwrap(),
            RoomName::parse("r:1").unwrap(),
        );
        let one = Identity {
            user: &user,
            room: &room,
            kind: "K",
            client_id: "1",
            data: "{}",
        };
        assert_eq!(event_id(&one).as_str(), "3fEWDCnnBGldLqq6XAkW3w");
        let other_user = UserId::parse("bob").unwrap();
        let other_room = RoomName::parse("r:2").unwrap();
        let others = [
            Identity {
                user: &other_user,
                ..one
            },
            Identity {
                room: &other_room,
                ..one
            },
            Identity {
                kind: "K1",
                client_id: "",
                ..one
            },
            Identity {
                kind: "",
                client_id: "K1",
                ..one
            },
            Identity {
                client_id: "2",
                ..one
            },
            Identity { data: "{ }", ..one },
        ];
        for other in others {
            assert_ne!(event_id(&other), event_id(&one), "{other:?}");
        }
        assert_eq!(random_id([0xff; 16]).as_str(), "_____________________w");
    }
}
