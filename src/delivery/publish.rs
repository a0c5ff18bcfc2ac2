//! The way in: an envelope into the log, and the log's answer back to its sender.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::history::Recent;
use crate::eventlog::{Append, Appended, Error, EventLog};
use crate::events::{Envelope, Row, Vocabulary, random_id, validate};
use crate::lifecycle::mutation::{self, Mutation};
use crate::telemetry::trace::{self, Part, Trace};
use crate::types::{Code, ConversationId, EventId, Problem, Timestamp, UserId};

/// Something that happened, told by a part of this program or by another service.
#[derive(Debug, Clone)]
pub struct Fact<'a> {
    /// The event type.
    pub kind: &'a str,
    /// Whose event it is.
    pub user: UserId,
    /// The conversation it belongs to.
    pub conversation: Option<ConversationId>,
    /// A JSON object, as the type's row wants it.
    pub data: Box<RawValue>,
    /// Derived from what happened, so that telling it again is the same event; random when `None`.
    pub id: Option<EventId>,
    /// When it happened.
    pub at: Timestamp,
}

/// Appends events to the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    log: EventLog,
    recent: Recent,
}

impl Publisher {
    /// Appends to this log.
    #[must_use]
    pub fn new(log: EventLog) -> Self {
        Self {
            log,
            recent: Recent::default(),
        }
    }

    /// Where the messages went that were published last, for who looks for one by its id.
    #[must_use]
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Appends an event of a row of the catalogue, behind everything that was published before. The
    /// future is the acknowledgement: from then on the event cannot be lost. Dropping it does not
    /// take the event back.
    ///
    /// # Errors
    /// At once, when the event is not one for the log or the log takes no more; with a time to
    /// wait where that helps.
    pub fn publish(&self, row: &Row, envelope: &Envelope) -> Result<Publishing, Problem> {
        let Some(topic) = &row.topic else {
            let message = format!("event type {:?} has no topic", row.kind);
            return Err(Problem::new(Code::Internal, message));
        };
        let key = row.key_of(envelope)?;
        let begun = Trace::of(&envelope.id).map(|trace| (trace, SystemTime::now()));
        let header = begun.map(|(trace, _)| (trace::HEADER, Bytes::from(trace.header())));
        let value = Bytes::from(envelope.to_json());
        let append = self
            .log
            .append_with(header.as_slice(), (topic, &key), value);
        if row.is_in_history
            && append.is_ok()
            && let Ok(room) = row.room_of(envelope)
        {
            self.recent.note(&envelope.id, &room);
        }
        let begun = begun.map(|(trace, from)| {
            let event = envelope.kind.clone();
            Box::new(Begun {
                trace,
                from,
                event,
                is_durable: None,
            })
        });
        match append {
            Ok(append) => Ok(Publishing { append, begun }),
            Err(error) => {
                if let Some(mut begun) = begun {
                    begun.is_durable = Some(false);
                }
                Err(problem(&error))
            }
        }
    }

    /// Appends an event of a type, checked against its row in the catalogue in force; answers its
    /// id too. Whether somebody may tell it is the caller's question.
    ///
    /// # Errors
    /// As [`Fact::form`] and [`publish`](Self::publish).
    pub fn publish_type(
        &self,
        vocabulary: &Vocabulary,
        fact: Fact<'_>,
    ) -> Result<(EventId, Publishing), Problem> {
        let (row, envelope) = fact.form(vocabulary)?;
        let publishing = self.publish(&row, &envelope)?;
        Ok((envelope.id, publishing))
    }
}

impl Fact<'_> {
    /// Its row in the catalogue in force, and its envelope.
    ///
    /// # Errors
    /// `not_found` for a type that the catalogue has not, `invalid` with the field for data that is
    /// not as its row says.
    pub fn form(self, vocabulary: &Vocabulary) -> Result<(Arc<Row>, Envelope), Problem> {
        let Some(row) = vocabulary.current().by_type(self.kind).cloned() else {
            let shown: String = self.kind.chars().take(64).collect();
            let message = format!("there is no event type {shown:?}");
            return Err(Problem {
                code: Code::NotFound,
                ..Problem::field("type", message)
            });
        };
        validate(&row, &self.data)?;
        let envelope = Envelope {
            id: self.id.unwrap_or_else(|| random_id(rand::random())),
            kind: row.kind.to_string(),
            user_id: self.user,
            conversation_id: self.conversation,
            timestamp: self.at,
            data: self.data,
        };
        if row.room.is_some() {
            // What has no room would only be found out when it is in the log.
            row.room_of(&envelope)?;
        }
        Ok((row, envelope))
    }
}

/// An event on its way into the log.
#[derive(Debug)]
#[must_use = "an event counts as accepted only when this has resolved"]
pub struct Publishing {
    append: Append,
    begun: Option<Box<Begun>>,
}

/// The begin of a traced event's path, told when it is over.
#[derive(Debug)]
struct Begun {
    trace: Trace,
    from: SystemTime,
    event: String,
    is_durable: Option<bool>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let result = match self.is_durable {
            Some(true) => "durable",
            Some(false) => "failed",
            None => "not waited for",
        };
        let part = Part {
            name: "publish",
            from: self.from,
            more: &[("event.type", &self.event), ("result", result)],
        };
        match self.is_durable {
            // Whoever tries again under the same id begins the path.
            Some(false) => self.trace.took(part),
            _ => self.trace.begins(part, None),
        }
    }
}

impl Future for Publishing {
    type Output = Result<Appended, Problem>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.append).poll(context);
        if mutation::is_on(Mutation::AckBeforeLog) {
            return Poll::Ready(Ok(Appended {
                partition: 0,
                offset: 0,
                at: SystemTime::now().into(),
            }));
        }
        let outcome = ready!(outcome);
        if let Some(mut begun) = self.begun.take() {
            begun.is_durable = Some(outcome.is_ok());
        }
        Poll::Ready(outcome.map_err(|error| problem(&error)))
    }
}

/// What a sender is told. Of faults inside only that there is one: the rest is in the log.
fn problem(error: &Error) -> Problem {
    let (code, message) = match error {
        Error::Overloaded { .. } => (Code::Overloaded, "too many events wait to be stored"),
        Error::TooLarge { .. } => (Code::TooLarge, "the event is too large to be stored"),
        Error::Unreachable { .. } => (Code::Unavailable, "events cannot be stored now"),
        Error::Storage(_) | Error::Kafka(_) if error.retry() => {
            (Code::Unavailable, "events cannot be stored now")
        }
        Error::Closed => (Code::Unavailable, "this node is shutting down"),
        Error::Storage(_)
        | Error::Kafka(_)
        | Error::Topic(_)
        | Error::Topics(_)
        | Error::Member(_)
        | Error::Unsupported(_) => {
            tracing::error!(%error, source = ?std::error::Error::source(error), "an append failed");
            (Code::Internal, "the event could not be stored")
        }
    };
    Problem {
        retry_after: error.retry_after(),
        ..Problem::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::*;
    use crate::eventlog::Options;
    use crate::events::Catalogue;
    use crate::types::{ConversationId, EventId, Timestamp, UserId};

    fn envelope() -> Envelope {
        Envelope {
            id: EventId::parse("e1").unwrap(),
            kind: "MESSAGE_SENT".to_owned(),
            user_id: UserId::parse("ann").unwrap(),
            conversation_id: Some(ConversationId::parse("42").unwrap()),
            timestamp: Timestamp::from_millis(0),
            data: RawValue::from_string("{\"content\":\"hi\"}".to_owned()).unwrap(),
        }
    }

    #[tokio::test]
    async fn an_event_is_appended_to_its_rows_topic_under_its_key() {
        let log = EventLog::memory(Options::default());
        let catalogue = Catalogue::builtin();
        let row = catalogue.by_client("message:send").unwrap();
        let appended = Publisher::new(log.clone())
            .publish(row, &envelope())
            .unwrap()
            .await
            .unwrap();
        let mut consumer = log.consumer("g", &["messages"]).await.unwrap();
        let record = consumer.poll(1).await.unwrap().into_records().remove(0);
        assert_eq!((record.offset, &*record.key), (appended.offset, "ann"));
        assert_eq!(
            Envelope::parse(&record.value).unwrap().to_json(),
            envelope().to_json()
        );
    }

    #[tokio::test]
    async fn a_fact_is_an_event_of_its_type_or_says_what_is_wrong() {
        let log = EventLog::memory(Options::default());
        let (publisher, vocabulary) = (Publisher::new(log.clone()), Vocabulary::builtin());
        let Envelope {
            user_id,
            conversation_id,
            data,
            ..
        } = envelope();
        let data = data.get().replace("{", r#"{"conversationId":"42","#);
        let fact = Fact {
            kind: "MESSAGE_SENT",
            user: user_id,
            conversation: conversation_id,
            data: RawValue::from_string(data).unwrap(),
            id: Some(EventId::parse("given").unwrap()),
            at: Timestamp::from_millis(5),
        };
        let (id, told) = publisher.publish_type(&vocabulary, fact.clone()).unwrap();
        assert_eq!((id.as_str(), told.await.unwrap().offset), ("given", 0));
        let mut replay = log.replay("messages", &[], Duration::ZERO).await.unwrap();
        let record = replay.next(1).await.unwrap().remove(0);
        let found = Envelope::parse(&record.value).unwrap();
        assert_eq!((found.id, found.timestamp), (id, fact.at));
        let refused = |fact: Fact<'_>| publisher.publish_type(&vocabulary, fact).unwrap_err();
        let kind = "NO_SUCH";
        assert_eq!(
            refused(Fact {
                kind,
                ..fact.clone()
            })
            .code,
            Code::NotFound
        );
        let data = RawValue::from_string(r#"{"conversationId":"42"}"#.to_owned()).unwrap();
        let wrong = refused(Fact {
            data,
            ..fact.clone()
        });
        assert_eq!(wrong.field.as_deref(), Some("content"));
        let homeless = refused(Fact {
            conversation: None,
            ..fact
        });
        assert_eq!(homeless.field.as_deref(), Some("conversationId"));
    }

    #[test]
    fn an_ephemeral_event_is_not_for_the_log() {
        let publisher = Publisher::new(EventLog::memory(Options::default()));
        let catalogue = Catalogue::builtin();
        let row = catalogue.by_type("TYPING_START").unwrap();
        assert_eq!(
            publisher.publish(row, &envelope()).unwrap_err().code,
            Code::Internal
        );
    }

    #[test]
    fn every_error_of_the_log_is_a_problem_the_sender_can_act_on() {
        let retry_after = Duration::from_millis(250);
        let overloaded = Error::Overloaded {
            what: "records",
            limit: 1,
            retry_after,
        };
        let told = problem(&overloaded);
        assert_eq!(
            (told.code, told.retry_after),
            (Code::Overloaded, Some(retry_after))
        );
        let full = Error::from(crate::backend::sql::Error::Full);
        assert_eq!(problem(&full).code, Code::Unavailable);
        assert!(problem(&full).retry_after.is_some());
        assert_eq!(
            problem(&Error::TooLarge { bytes: 2, limit: 1 }).code,
            Code::TooLarge
        );
        assert_eq!(problem(&Error::Topics(1)).retry_after, None);
    }
}
