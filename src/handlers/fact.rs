//! What happened to something stored, as an event.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Context, now};
use crate::events::{Envelope, Row, derived_id};
use crate::types::{Problem, UserId};

/// A fact about a user that was stored just now.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// The event type.
    pub kind: &'a str,
    /// Whose event it is.
    pub user: &'a UserId,
    /// What makes it this one event: a repetition with the same is dropped as such.
    pub of: &'a str,
    /// Its data.
    pub data: &'a Value,
}

/// The log is asked this often when it has no room or does not answer. What is stored is stored:
/// its caller cannot undo it.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

impl Context {
    /// Publishes it and waits until the log has it. Nothing is published, and nothing is wrong,
    /// where the operator's catalogue has no such row.
    ///
    /// # Errors
    /// When the log did not take it, after a few attempts.
    pub async fn announce(&self, fact: Fact<'_>) -> Result<(), Problem> {
        let Some((row, envelope)) = self.event(fact) else {
            return Ok(());
        };
        let mut attempt = 1;
        loop {
            let outcome = match self.publisher.publish(&row, &envelope) {
                Ok(publishing) => publishing.await.map(drop),
                Err(problem) => Err(problem),
            };
            match outcome {
                Err(problem) if problem.retry_after.is_some() && attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Publishes it if the log takes it at once; for what may be lost.
    pub fn mention(&self, fact: Fact<'_>) {
        if let Some((row, envelope)) = self.event(fact) {
            match self.publisher.publish(&row, &envelope) {
                // Not waited for: it is on its way whoever listens.
                Ok(publishing) => drop(publishing),
                Err(problem) => {
                    tracing::debug!(kind = fact.kind, code = %problem.code, "not published");
                }
            }
        }
    }

    fn event(&self, fact: Fact<'_>) -> Option<(Arc<Row>, Envelope)> {
        let row = self.vocabulary.current().by_type(fact.kind).cloned()?;
        let envelope = Envelope {
            id: derived_id(&[fact.kind, fact.user.as_str(), fact.of]),
            kind: fact.kind.to_owned(),
            user_id: fact.user.clone(),
            conversation_id: None,
            timestamp: now(),
            data: RawValue::from_string(fact.data.to_string()).ok()?,
        };
        Some((row, envelope))
    }
}
