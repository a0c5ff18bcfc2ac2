//! What every event is held against before it goes on: the sender's token, the row's data, who may
//! send it, and its limiter, in this order.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Context, now};
use crate::auth::Identity;
use crate::events::{Author, Envelope, LimiterScope, Row, Who, form};
use crate::limits::Rule;
use crate::types::{Code, Problem, RoomName, UserId};

/// Who sends, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Whom the token names.
    pub identity: &'a Identity,
    /// The client's address, after trusted proxies. Where it is not known, limits by address count
    /// the user.
    pub address: Option<IpAddr>,
}

/// An event as its row wants it, and the room it goes to if it goes to one. Whether this user may
/// send it is [`Context::check`]'s question.
///
/// # Errors
/// What is wrong with the data, or that the token has ended.
pub fn envelope(
    row: &Row,
    identity: &Identity,
    data: Box<RawValue>,
) -> Result<(Envelope, Option<RoomName>), Problem> {
    if identity.is_expired(now()) {
        let message = "the token has expired; connect with a new one";
        return Err(Problem::new(Code::Unauthenticated, message));
    }
    envelope_of(row, identity.user(), data)
}

/// The same as another user's event. Whether somebody may act for that user is the caller's question.
///
/// # Errors
/// What is wrong with the data.
pub fn envelope_of(
    row: &Row,
    user: &UserId,
    data: Box<RawValue>,
) -> Result<(Envelope, Option<RoomName>), Problem> {
    let author = Author {
        user: user.clone(),
        at: now(),
        random: rand::random(),
    };
    form(row, author, data)
}

impl Context {
    /// The row of a client event.
    ///
    /// # Errors
    /// `not_found` when the catalogue has none.
    pub fn row(&self, event: &str) -> Result<Arc<Row>, Problem> {
        let catalogue = self.vocabulary.current();
        let row = catalogue.by_client(event).map(Arc::clone);
        row.ok_or_else(|| {
            let message = format!("there is no event {:?}", super::shorten(event));
            Problem::new(Code::NotFound, message)
        })
    }

    /// Everything but the sending: [`envelope`], then [`Context::check`].
    ///
    /// # Errors
    /// As those say.
    pub async fn accept(
        &self,
        row: &Row,
        sender: Sender<'_>,
        data: Box<RawValue>,
    ) -> Result<(Envelope, Option<RoomName>), Problem> {
        let (envelope, room) = envelope(row, sender.identity, data)?;
        self.check(row, sender, room.as_ref()).await?;
        Ok((envelope, room))
    }

    /// Whether the sender may send an event of this row there, and has not sent too many; takes a
    /// token of the row's limiter.
    ///
    /// # Errors
    /// `forbidden`, `rate_limited`, or that the store does not answer.
    pub async fn check(
        &self,
        row: &Row,
        sender: Sender<'_>,
        room: Option<&RoomName>,
    ) -> Result<(), Problem> {
        match self.may_now(row, sender.identity, room) {
            Some(allowed) => allowed?,
            None => {
                let room = room.ok_or_else(|| nowhere(row))?;
                self.directory.may_send(sender.identity, room).await?;
            }
        }
        self.limit(row, sender).await
    }

    /// The same, when it can be told without waiting.
    #[must_use]
    pub fn check_now(
        &self,
        row: &Row,
        sender: Sender<'_>,
        room: Option<&RoomName>,
    ) -> Option<Result<(), Problem>> {
        match self.may_now(row, sender.identity, room)? {
            Ok(()) => self.limit_now(row, sender),
            refused => Some(refused),
        }
    }

    /// Takes a token of the row's limiter.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub async fn limit(&self, row: &Row, sender: Sender<'_>) -> Result<(), Problem> {
        let Some((name, rule, key)) = limiter(row, sender) else {
            return Ok(());
        };
        let decision = self.limits.take(name, rule, &key, now()).await;
        decision.check(name)
    }

    /// The same, when it can be told without waiting.
    pub(super) fn limit_now(&self, row: &Row, sender: Sender<'_>) -> Option<Result<(), Problem>> {
        let Some((name, rule, key)) = limiter(row, sender) else {
            return Some(Ok(()));
        };
        let decision = self.limits.take_now(name, rule, &key, now())?;
        Some(decision.check(name))
    }

    fn may_now(
        &self,
        row: &Row,
        identity: &Identity,
        room: Option<&RoomName>,
    ) -> Option<Result<(), Problem>> {
        match row.who {
            Who::Anyone => Some(Ok(())),
            Who::Services if has_scope(identity, &row.scope) => Some(Ok(())),
            Who::Services => {
                let message = format!(
                    "{} needs a service's token with scope {:?}",
                    row.name(),
                    row.scope
                );
                Some(Err(Problem::new(Code::Forbidden, message)))
            }
            Who::Members => match room {
                Some(room) => self.directory.may_send_now(identity, room),
                None => Some(Err(nowhere(row))),
            },
        }
    }
}

fn nowhere(row: &Row) -> Problem {
    let message = format!("{} goes to no room, so it has no members", row.name());
    Problem::new(Code::Forbidden, message)
}

/// The row's limiter and whose tokens it takes.
fn limiter<'r>(row: &'r Row, sender: Sender<'_>) -> Option<(&'r str, Rule, String)> {
    let limiter = row.limiter.as_ref()?;
    let key = match limiter.scope {
        LimiterScope::User => None,
        LimiterScope::Address => sender.address,
    };
    let key = key.map_or_else(|| sender.identity.user().to_string(), |ip| ip.to_string());
    let rule = Rule {
        count: limiter.count,
        per: limiter.per,
    };
    Some((&limiter.name, rule, key))
}

fn has_scope(_identity: &Identity, _scope: &str) -> bool {
    false
}
