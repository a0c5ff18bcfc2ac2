//! Sign-up, login, logout, sessions, bans.
//!
//! Passwords are hashed with argon2id away from the async threads, a few at a time; an unknown
//! e-mail costs as long as a wrong password. A login makes a token (JWT) whose id is its session:
//! 24 hours, listed, revocable, and sockets of a revoked one are closed on every node.

mod password;

use std::net::IpAddr;

use serde_json::value::RawValue;

use crate::auth::{Authenticator, Identity};
use crate::cluster::bus::Bus;
use crate::store::{Session, Store, User};
use crate::types::{Problem, Secret, Timestamp, UserId};

/// What a login gives.
#[derive(Debug)]
pub struct Login {
    /// The token.
    pub token: Secret<String>,
    /// Its session.
    pub session: Session,
    /// Whose.
    pub user: User,
}

/// A sign-up.
#[derive(Debug)]
pub struct SignUp {
    /// Any case; stored in lower case.
    pub email: String,
    /// The password.
    pub password: Secret<String>,
    /// What others are shown.
    pub name: String,
    /// The wished id; random when `None`.
    pub id: Option<UserId>,
    /// The rest of the profile, a JSON object.
    pub attributes: Option<Box<RawValue>>,
}

/// From where somebody logs in.
#[derive(Debug, Clone)]
pub struct Device {
    /// The user agent.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// Accounts of a node. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    authenticator: Authenticator,
    store: Store,
    bus: Bus,
}

impl Accounts {
    /// Accounts in this store.
    #[must_use]
    pub fn new(authenticator: Authenticator, store: Store, bus: Bus) -> Self {
        Self {
            authenticator,
            store,
            bus,
        }
    }

    /// Makes an account and logs in.
    pub async fn sign_up(
        &self,
        new: SignUp,
        device: Device,
        now: Timestamp,
    ) -> Result<Login, Problem> {
        todo!("{new:?} {device:?} {now}")
    }
    /// Logs in.
    pub async fn login(
        &self,
        email: &str,
        password: Secret<String>,
        device: Device,
        now: Timestamp,
    ) -> Result<Login, Problem> {
        todo!("{email} {password:?} {device:?} {now}")
    }
    /// Ends the login of an identity's token, and closes its sockets everywhere.
    pub async fn logout(&self, identity: &Identity, now: Timestamp) -> Result<(), Problem> {
        todo!("{identity:?} {now}")
    }
    /// Ends one of a user's logins.
    /// # Errors
    /// `not_found` when it is not the user's.
    pub async fn revoke(
        &self,
        user: &UserId,
        token_id: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        todo!("{user} {token_id} {now}")
    }
    /// Bans a user until then, closing all sockets, or lifts the ban.
    pub async fn ban(
        &self,
        user: &UserId,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        todo!("{user} {until:?} {now}")
    }
    /// Whether a verified identity may still act: its session is not revoked, its user not banned.
    /// # Errors
    /// `unauthenticated` or `forbidden`, with the reason.
    pub async fn check(&self, identity: &Identity, now: Timestamp) -> Result<(), Problem> {
        todo!("{identity:?} {now}")
    }
}
