//! Who somebody is, once a token has been verified.

use std::sync::Arc;

use super::globs::Rooms;
use crate::types::{Timestamp, UserId};

/// The user that a verified token names and what it grants. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<Parts>);

/// What an identity is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Claim `sub`.
    pub user: UserId,
    /// Claim `name`: what others are shown.
    pub name: Option<Box<str>>,
    /// Claim `rooms`.
    pub rooms: Rooms,
    /// Claim `jti`.
    pub token_id: Option<Box<str>>,
    /// Claim `exp`, and what clocks may differ.
    pub expires_at: Timestamp,
}

impl From<Parts> for Identity {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Identity {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// The name that others are shown, if the token has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The rooms that the token grants.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// The token's own id, by which it can be revoked, if it has one.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.0.token_id.as_deref()
    }

    /// When the token ends, with what clocks may differ. A socket that it opened ends then too.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// True once the token has ended.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.0.expires_at
    }
}
