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
    /// Claim `scope`: what it may do beyond its own user's things, separated by spaces.
    pub scope: Option<Box<str>>,
    /// Claim `vestibule_session`: made by a login here, and good only while that is not ended.
    pub is_login: bool,
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

    /// Whether the token has a scope, for example `events:write`.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        let scopes = self.0.scope.as_deref().unwrap_or_default();
        scopes.split(' ').any(|own| own == scope)
    }

    /// Whether a login here made the token: then its session must be known and not ended. Tokens
    /// made elsewhere are good unless they were revoked.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.0.is_login
    }

    /// When the token ends, with what clocks may differ. A socket that it opened ends then too.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Another user, for whom this one acts: in the same rooms, for as long, without its scopes.
    #[must_use]
    pub fn acting_for(&self, user: UserId) -> Self {
        Self::from(Parts {
            user,
            name: None,
            scope: None,
            ..(*self.0).clone()
        })
    }

    /// True once the token has ended.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.0.expires_at
    }
}
