//! Answers to requests with an idempotency key, so that a retry gets the same one.

use super::row::args;
use super::{Error, Store};
use crate::backend::statement::Statement;
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
        let batch = vec![
            Statement::new(FORGET_STALE, args![user, key, stale_before]),
            Statement::new(BEGIN, args![user, key, request, at]),
            Statement::new(KNOWN, args![user, key]).must(),
            Statement::new(BEGUN, args![user, key]),
        ];
        let answers = self.write(batch).await?;
        let [_, _, known, _] = answers.as_slice() else {
            return Err(Error::Row("a batch of four answered otherwise".to_owned()));
        };
        let known = known.first().filter(|row| row.integer(1) != NEW);
        Ok(known.map(|row| Reply {
            request: row.text(0).to_owned(),
            status: u16::try_from(row.integer(1)).unwrap_or(0),
            body: row.text(2).to_owned(),
        }))
    }

    /// Remembers the answer.
    pub async fn end_reply(&self, user: &UserId, key: &str, reply: &Reply) -> Result<(), Error> {
        let args = args![
            user,
            key,
            reply.request.as_str(),
            i64::from(reply.status),
            reply.body.as_str(),
        ];
        self.change(END, args).await?;
        Ok(())
    }

    /// Takes a beginning back: the request failed and may be tried again.
    pub async fn abandon_reply(&self, user: &UserId, key: &str) -> Result<(), Error> {
        self.change(ABANDON, args![user, key]).await?;
        Ok(())
    }

    /// Forgets what began before `before`.
    pub async fn forget_replies(&self, before: Timestamp) -> Result<u64, Error> {
        self.delete_before(FORGET, before).await
    }
}

const FORGET_STALE: &str = "
    DELETE FROM reply WHERE user_id = $1 AND key = $2 AND status = 0 AND at < $3";
/// The status of a request that was begun in this transaction; nobody else ever sees it.
const NEW: i64 = -1;
/// Changes nothing of one that is there, but holds it until the transaction's end: whoever began it
/// can not give it up between this and the question what it is.
const BEGIN: &str = "
    INSERT INTO reply (user_id, key, request, status, body, at)
    VALUES ($1, $2, $3, -1, '', $4)
    ON CONFLICT (user_id, key) DO UPDATE SET at = reply.at";
const BEGUN: &str = "
    UPDATE reply SET status = 0 WHERE user_id = $1 AND key = $2 AND status = -1";
const KNOWN: &str = "SELECT request, status, body FROM reply WHERE user_id = $1 AND key = $2";
const END: &str = "
    UPDATE reply SET status = $4, body = $5
    WHERE user_id = $1 AND key = $2 AND request = $3";
const ABANDON: &str = "DELETE FROM reply WHERE user_id = $1 AND key = $2 AND status = 0";
const FORGET: &str = "
    DELETE FROM reply WHERE (user_id, key) IN
        (SELECT user_id, key FROM reply WHERE at < $1 LIMIT $2)
    RETURNING at";
