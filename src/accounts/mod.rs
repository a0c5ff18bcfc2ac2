//! Sign-up, login, logout, sessions, bans.
//!
//! Passwords are hashed with argon2id away from the async threads, a few at a time; an unknown
//! e-mail costs as long as a wrong password, and gets the same answer. A login makes a token (JWT)
//! whose id is its session: 24 hours, listed, revocable, and sockets of a revoked one are closed on
//! every node. Tokens made elsewhere are good until they are revoked by their id.
//!
//! Not here: events about it (callers publish them after the call), limits, cookies.

mod password;
mod rules;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::auth::issue::{Grant, token_id};
use crate::auth::{Authenticator, Identity, NoSecret, Rooms};
use crate::cluster::bus::Bus;
use crate::cluster::control::Control;
use crate::config;
use crate::directory::Directory;
use crate::store::{self, NewUser, Session, User};
use crate::telemetry::labels::LoginOutcome;
use crate::telemetry::metrics;
use crate::types::{Code, Problem, Secret, Timestamp, UserId};
use password::Hasher;

pub use rules::{attributes as check_attributes, name as check_name};

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

/// How accounts are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// How passwords are hashed.
    pub passwords: config::Passwords,
    /// How long a login lasts.
    pub session_ttl: Duration,
    /// Whether anybody may make an account.
    pub may_sign_up: bool,
    /// Whether cookies are for encrypted connections only.
    pub is_secure: bool,
}

/// Accounts of a node. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    authenticator: Authenticator,
    directory: Directory,
    bus: Bus,
    hasher: Hasher,
    options: Options,
}

/// What of a user agent is kept.
const DEVICE_CHARS_MAX: usize = 200;
/// Between two rounds that forget sessions which ended long ago.
const CLEAN_EVERY: Duration = Duration::from_secs(3_600);

impl Accounts {
    /// Accounts in the store behind this directory.
    #[must_use]
    pub fn new(
        authenticator: Authenticator,
        directory: Directory,
        bus: Bus,
        options: Options,
    ) -> Self {
        Self(Arc::new(Inner {
            authenticator,
            directory,
            bus,
            hasher: Hasher::new(&options.passwords),
            options,
        }))
    }

    /// Makes an account and logs in. Whether the caller may wish for an id is the caller's question.
    ///
    /// # Errors
    /// What is wrong with it; `conflict` when the address or id is taken; `forbidden` where nobody
    /// may sign up or no token can be made.
    pub async fn sign_up(
        &self,
        new: SignUp,
        device: Device,
        now: Timestamp,
    ) -> Result<Login, Problem> {
        if !self.0.options.may_sign_up {
            let message = "nobody can sign up here (auth.sign_up is false)";
            return Err(Problem::new(Code::Forbidden, message));
        }
        let (email, name) = rules::sign_up(&new)?;
        self.may_issue()?;
        let password = self.0.hasher.hash(new.password).await?;
        let empty = || RawValue::from_string("{}".to_owned());
        let attributes = match new.attributes {
            Some(attributes) => attributes,
            None => empty().map_err(|error| Problem::new(Code::Internal, error.to_string()))?,
        };
        let account = NewUser {
            id: new.id.unwrap_or_else(random_id),
            email: email.clone(),
            name,
            password,
            attributes,
            at: now,
        };
        let user = self.store().create_user(account).await?;
        self.0.directory.user_changed(&user.id);
        self.0.directory.email_changed(&email);
        self.open(user, device, now).await
    }

    /// Logs in.
    ///
    /// # Errors
    /// `unauthenticated`, the same for an unknown address and a wrong password; `forbidden` while
    /// the user is banned; `overloaded`.
    pub async fn login(
        &self,
        email: &str,
        password: Secret<String>,
        device: Device,
        now: Timestamp,
    ) -> Result<Login, Problem> {
        self.may_issue()?;
        let outcome = self.prove(email, password).await;
        let counted = match &outcome {
            Ok(_) => LoginOutcome::Right,
            Err(problem) if problem.code == Code::Unauthenticated => LoginOutcome::Wrong,
            Err(_) => LoginOutcome::Failed,
        };
        metrics::ACCOUNTS_LOGINS.of(counted).add(1);
        let user = outcome?;
        banned(self.0.directory.banned_until(&user.id).await?, now)?;
        self.open(user, device, now).await
    }

    /// Whose address and password these are.
    async fn prove(&self, email: &str, password: Secret<String>) -> Result<User, Problem> {
        let is_possible = password.reveal().chars().count() <= password::CHARS_MAX;
        let found = match rules::email(email) {
            Ok(email) if is_possible => self.store().user_by_email(&email).await?,
            _ => None,
        };
        let (user, stored) = found.unzip();
        // Hashed in any case: how long it takes must not tell who has an account.
        let password = if is_possible {
            password
        } else {
            Secret::default()
        };
        let is_right = self.0.hasher.is_right(password, stored).await?;
        user.filter(|_| is_right).ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "the e-mail or the password is wrong")
        })
    }

    async fn open(&self, user: User, device: Device, now: Timestamp) -> Result<Login, Problem> {
        let life = self.0.options.session_ttl;
        let grant = Grant {
            user: user.id.clone(),
            name: Some(user.name.clone()),
            rooms: Rooms::default(),
            token_id: token_id(),
            scope: None,
            is_login: true,
            life,
        };
        let token = self.0.authenticator.issue(&grant, now)?;
        let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let session = Session {
            token_id: grant.token_id,
            user: user.id.clone(),
            device: device.name.chars().take(DEVICE_CHARS_MAX).collect(),
            address: device.address.to_string(),
            created_at: now,
            expires_at: Timestamp::from_millis(now.as_millis().saturating_add(life_ms)),
            revoked_at: None,
        };
        self.store().open_session(&session).await?;
        self.0.directory.session_changed(&session.token_id);
        Ok(Login {
            token,
            session,
            user,
        })
    }

    /// A user's live logins, the newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sessions_of(
        &self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, Problem> {
        Ok(self.store().sessions_of(user, now).await?)
    }

    /// Ends the login of an identity's token, and closes its sockets everywhere.
    ///
    /// # Errors
    /// `invalid` for a token without an id, which only its end can end.
    pub async fn logout(&self, identity: &Identity, now: Timestamp) -> Result<(), Problem> {
        let token_id = identity.token_id().ok_or_else(|| {
            let message = "the token has no id (jti), so it cannot be revoked; it ends by itself";
            Problem::new(Code::Invalid, message)
        })?;
        let known = self.store().session(token_id).await?;
        let session = known.unwrap_or_else(|| Session {
            token_id: token_id.to_owned(),
            user: identity.user().clone(),
            device: String::new(),
            address: String::new(),
            created_at: now,
            expires_at: identity.expires_at(),
            revoked_at: None,
        });
        self.end(&session, now).await
    }

    /// Ends one of a user's logins.
    /// # Errors
    /// `not_found` when it is not the user's, or over.
    pub async fn revoke(
        &self,
        user: &UserId,
        token_id: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let known = self.store().session(token_id).await?.filter(|session| {
            session.user == *user && session.revoked_at.is_none() && session.expires_at > now
        });
        let session = known
            .ok_or_else(|| Problem::new(Code::NotFound, "there is no such session of this user"))?;
        self.end(&session, now).await
    }

    async fn end(&self, session: &Session, now: Timestamp) -> Result<(), Problem> {
        self.store().revoke_session(session, now).await?;
        self.0.directory.session_changed(&session.token_id);
        let token = Arc::from(session.token_id.as_str());
        self.0.bus.control(Control::CloseToken(token));
        Ok(())
    }

    /// Bans a user until then, closing all sockets, or lifts the ban.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ban(
        &self,
        user: &UserId,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.store().ban(user, until, now).await?;
        self.0.directory.ban_changed(user);
        if until.is_some_and(|until| until > now) {
            let (user, except) = (user.clone(), None);
            self.0.bus.control(Control::CloseUser { user, except });
        }
        Ok(())
    }

    /// Whether a verified identity may still act: its session is not revoked, its user not banned.
    /// # Errors
    /// `unauthenticated` or `forbidden`, with the reason.
    pub async fn check(&self, identity: &Identity, now: Timestamp) -> Result<(), Problem> {
        let session = match identity.token_id() {
            Some(token_id) => self.0.directory.session(token_id).await?.value,
            None => None,
        };
        let is_over = match session {
            Some(session) => session.revoked_at.is_some() || session.user != *identity.user(),
            None => identity.is_login(),
        };
        if is_over {
            let message = "the session has ended; log in again";
            return Err(Problem::new(Code::Unauthenticated, message));
        }
        banned(self.0.directory.banned_until(identity.user()).await?, now)
    }

    /// Whether cookies are for encrypted connections only.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.options.is_secure
    }

    /// Forgets sessions that ended by themselves, again and again; never returns.
    pub async fn keep_clean(self) {
        let mut timer = tokio::time::interval(CLEAN_EVERY);
        loop {
            timer.tick().await;
            let now = Timestamp::from(std::time::SystemTime::now());
            // An hour more than the leeway that a token may have.
            let ms = i64::try_from(CLEAN_EVERY.as_millis()).unwrap_or(0);
            let before = Timestamp::from_millis(now.as_millis() - ms);
            if let Err(error) = self.store().forget_sessions(before).await {
                tracing::warn!(%error, "ended sessions could not be forgotten");
            }
        }
    }

    /// Asked before anything is stored: an account that nobody can log in to is of no use.
    fn may_issue(&self) -> Result<(), NoSecret> {
        if self.0.authenticator.can_issue() {
            Ok(())
        } else {
            Err(NoSecret)
        }
    }

    fn store(&self) -> &store::Store {
        self.0.directory.store()
    }
}

fn banned(until: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
    match until.filter(|until| *until > now) {
        Some(until) => {
            let message = format!("this user is banned until {until}");
            Err(Problem::new(Code::Forbidden, message).retry_after(until.since(now)))
        }
        None => Ok(()),
    }
}

/// 80 random bits: short enough to be mentioned, too many to be met twice.
fn random_id() -> UserId {
    let random = rand::random::<u128>() >> 48;
    UserId::parse(&format!("u{random:020x}")).expect("21 letters and digits are a user id")
}

#[cfg(test)]
mod tests;
