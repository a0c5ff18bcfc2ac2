//! Answers to requests with an idempotency key, so that a retry gets the same one.

use super::{Error, Store};
use crate::types::{Timestamp, UserId};

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// A hash of the request; another request under the same key is a mistake.
    pub request: String,
    /// The HTTP status; 0 while the first request is still being answered.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Store {
    /// Begins to answer: `None` when this is the first request under the key, else what is known.
    /// A beginning older than `stale_before` that never ended is begun anew.
    pub async fn begin_reply(
        &self,
        user: &UserId,
        key: &str,
        request: &str,
        at: Timestamp,
        stale_before: Timestamp,
    ) -> Result<Option<Reply>, Error> {
        todo!("{user} {key} {request} {at} {stale_before}")
    }
    /// Remembers the answer.
    pub async fn end_reply(&self, user: &UserId, key: &str, reply: &Reply) -> Result<(), Error> {
        todo!("{user} {key} {reply:?}")
    }
    /// Takes a beginning back: the request failed and may be tried again.
    pub async fn abandon_reply(&self, user: &UserId, key: &str) -> Result<(), Error> {
        todo!("{user} {key}")
    }
    /// Forgets what began before `before`.
    pub async fn forget_replies(&self, before: Timestamp) -> Result<u64, Error> {
        todo!("{before}")
    }
}
