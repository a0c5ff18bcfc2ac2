//! Ids as newtypes, each parsed once.
//!
//! Cloning is a reference count, never a copy of the text. None of them may be empty, hold control
//! characters or pass its length limit, so they are safe in logs, keys and JSON.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// The text is empty.
    Empty(&'static str),
    /// The text is longer than the limit, in bytes: what, length, limit.
    TooLong(&'static str, usize, usize),
    /// The text holds a character that is not allowed: what, character.
    Character(&'static str, char),
    /// The text does not have the one length that is allowed, in bytes: what, length, expected.
    Length(&'static str, usize, usize),
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(what) => write!(f, "{what} is empty"),
            Self::TooLong(what, length, limit) => {
                write!(f, "{what} is {length} bytes, the limit is {limit}")
            }
            Self::Character(what, c) => write!(f, "{what} holds the character {c:?}"),
            Self::Length(what, length, expected) => {
                write!(f, "{what} is {length} bytes, expected {expected}")
            }
        }
    }
}

impl std::error::Error for IdError {}

fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty(what));
    }
    if text.len() > limit {
        return Err(IdError::TooLong(what, text.len(), limit));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(IdError::Character(what, c)),
        None => Ok(()),
    }
}

fn check_token(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.len() != TOKEN_BYTES {
        return Err(IdError::Length(what, text.len(), TOKEN_BYTES));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    {
        Some(c) => Err(IdError::Character(what, c)),
        None => Ok(()),
    }
}

/// Session and socket ids have this length: other Socket.IO servers tell a private room from a
/// public one by it.
const TOKEN_BYTES: usize = 20;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, |$text:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Parses a ", $what, ".")]
            pub fn parse($text: &str) -> Result<Self, IdError> {
                $check?;
                Ok(Self(Arc::from($text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// One process. At most 64 bytes, letters, digits, `-`, `_` and `.`.
    NodeId, "node id", |text| {
        check_text("node id", text, 64).and_then(|()| {
            match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
                Some(c) => Err(IdError::Character("node id", c)),
                None => Ok(()),
            }
        })
    }
}
text_id! {
    /// An Engine.IO session: 20 characters of `[A-Za-z0-9_-]`. A bearer secret: never logged whole.
    SessionId, "session id", |text| check_token("session id", text)
}
text_id! {
    /// A Socket.IO socket (one per namespace): 20 characters of `[A-Za-z0-9_-]`, public.
    SocketId, "socket id", |text| check_token("socket id", text)
}
text_id! {
    /// By which a client comes back to its socket: 20 characters of `[A-Za-z0-9_-]`. A secret between it and
    /// the nodes: never logged.
    PrivateId, "private id", |text| check_token("private id", text)
}
text_id! {
    /// Who a token names. At most 128 bytes.
    UserId, "user id", |text| check_text("user id", text, 128)
}
text_id! {
    /// A conversation, as its room `conversation:{id}` carries it. At most 128 bytes.
    ConversationId, "conversation id", |text| check_text("conversation id", text, 128)
}
text_id! {
    /// A domain event. At most 64 bytes.
    EventId, "event id", |text| check_text("event id", text, 64)
}
text_id! {
    /// A named set of sockets, for example `conversation:42`. At most 256 bytes.
    RoomName, "room name", |text| check_text("room name", text, 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_exists_is_valid() {
        assert!(RoomName::parse("conversation:42").is_ok());
        assert_eq!(RoomName::parse(""), Err(IdError::Empty("room name")));
        assert_eq!(
            RoomName::parse(&"x".repeat(300)).unwrap_err().to_string(),
            "room name is 300 bytes, the limit is 256"
        );
        assert_eq!(
            UserId::parse("a\nb"),
            Err(IdError::Character("user id", '\n'))
        );
        assert_eq!(
            SessionId::parse("short"),
            Err(IdError::Length("session id", 5, 20))
        );
        assert!(SocketId::parse("abcdefghij-_ABCDEF01").is_ok());
        assert!(serde_json::from_str::<UserId>("\"\"").is_err());
        assert!(NodeId::parse("node/1").is_err());
    }
}
