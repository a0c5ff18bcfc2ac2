//! Where records go that can never be applied.
//!
//! A dead letter is a record of the topic `<origin>.dead-letters` with the same key. In Kafka its bytes
//! are those of the record, and headers say where it came from and why it could not be applied; an
//! embedded log has no headers, so there it is JSON that says all of it. Either way an operator can
//! read it and put it back (`letters`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Append, Error, EventLog, Headers, Patience, RECORD_BYTES_MAX, Record, Request};
use crate::types::{NodeId, Timestamp};

/// Why a record is dead, and who says so.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The topic it was in.
    pub topic: Arc<str>,
    /// Its partition there.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// When it was appended there.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Arc<str>,
    /// The class of the error, from a short list.
    pub error_class: String,
    /// The error in words, at most 1 KiB.
    pub error_message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The node that gave it up.
    pub node: NodeId,
    /// The event's id, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its bytes, when they are text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its bytes in base64, when they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

/// What the one who gives a record up knows about it.
#[derive(Debug, Clone)]
pub struct Cause<'a> {
    /// The class of the error, from a short list.
    pub class: &'a str,
    /// The error in words.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The node that gives it up.
    pub node: &'a NodeId,
    /// The event's id, if it could be read.
    pub id: Option<&'a str>,
}

/// The topic for the dead letters of a topic.
#[must_use]
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}{SUFFIX}")
}

const SUFFIX: &str = ".dead-letters";

impl EventLog {
    /// Appends a record that can never be applied to its dead-letter topic. The record counts as
    /// done only when the future has resolved.
    pub fn dead_letter(&self, record: &Record, cause: &Cause<'_>) -> Result<Append, Error> {
        let letter = DeadLetter::new(record, cause);
        if let Self::Kafka(_) = self {
            let mut headers = letter.headers();
            if let Some(trace) = record.headers.get(TRACE) {
                headers.push((TRACE, trace.clone()));
            }
            return self.enqueue(Request {
                topic: &dead_letter_topic(&record.topic),
                key: &record.key,
                value: record.value.clone(),
                headers: &headers,
                patience: Patience::Persist,
            });
        }
        let json = letter.fit(&record.value);
        self.append_patiently(
            &dead_letter_topic(&record.topic),
            &record.key,
            Bytes::from(json),
        )
    }
}

impl DeadLetter {
    fn new(record: &Record, cause: &Cause<'_>) -> Self {
        let text = std::str::from_utf8(&record.value).ok();
        Self {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.at,
            key: Arc::clone(&record.key),
            error_class: cause.class.to_owned(),
            error_message: clip(&cause.message).to_owned(),
            attempts: cause.attempts,
            node: cause.node.clone(),
            id: cause.id.map(str::to_owned),
            value: text.map(str::to_owned),
            value_base64: text.is_none().then(|| STANDARD.encode(&record.value)),
        }
    }
}

/// The names of the headers in Kafka.
const TOPIC: &str = "x-orig-topic";
const PARTITION: &str = "x-orig-partition";
const OFFSET: &str = "x-orig-offset";
const TIMESTAMP: &str = "x-orig-timestamp";
const KEY: &str = "x-orig-key";
const CLASS: &str = "x-error-class";
const MESSAGE: &str = "x-error-message";
const ATTEMPTS: &str = "x-attempts";
const NODE: &str = "x-node";
const EVENT_ID: &str = "x-event-id";
/// As its producer gave it: W3C trace context.
const TRACE: &str = "traceparent";

impl DeadLetter {
    /// Everything but the bytes.
    fn headers(&self) -> Vec<(&'static str, Bytes)> {
        let mut headers = vec![
            (TOPIC, self.topic.to_string()),
            (PARTITION, self.partition.to_string()),
            (OFFSET, self.offset.to_string()),
            (TIMESTAMP, self.timestamp.as_millis().to_string()),
            (KEY, self.key.to_string()),
            (CLASS, self.error_class.clone()),
            (MESSAGE, self.error_message.clone()),
            (ATTEMPTS, self.attempts.to_string()),
            (NODE, self.node.to_string()),
        ];
        headers.extend(self.id.clone().map(|id| (EVENT_ID, id)));
        let pairs = headers.into_iter();
        pairs
            .map(|(name, text)| (name, Bytes::from(text)))
            .collect()
    }

    /// The same, read again; `None` if they are not those of a dead letter.
    fn from_headers(headers: &Headers) -> Option<Self> {
        let number = |name| headers.text(name)?.parse::<i64>().ok();
        let text = |name| headers.text(name).map(str::to_owned);
        Some(Self {
            topic: headers.text(TOPIC)?.into(),
            partition: u32::try_from(number(PARTITION)?).ok()?,
            offset: u64::try_from(number(OFFSET)?).ok()?,
            timestamp: Timestamp::from_millis(number(TIMESTAMP).unwrap_or_default()),
            key: headers.text(KEY)?.into(),
            error_class: text(CLASS).unwrap_or_default(),
            error_message: text(MESSAGE).unwrap_or_default(),
            attempts: number(ATTEMPTS)
                .and_then(|n| n.try_into().ok())
                .unwrap_or_default(),
            node: NodeId::parse(headers.text(NODE)?).ok()?,
            id: text(EVENT_ID),
            value: None,
            value_base64: None,
        })
    }

    /// True for a dead letter as it is in Kafka.
    pub(super) fn has_headers(record: &Record) -> bool {
        record.headers.get(TOPIC).is_some()
    }

    /// Reads a record of a dead-letter topic: the letter, and the bytes of what is dead unless they were
    /// too large to be kept.
    pub(super) fn read(record: &Record) -> Option<(Self, Option<Bytes>)> {
        if let Some(letter) = Self::from_headers(&record.headers) {
            return Some((letter, Some(record.value.clone())));
        }
        let mut letter: Self = serde_json::from_slice(&record.value).ok()?;
        let bytes = match (letter.value.take(), letter.value_base64.take()) {
            (Some(text), _) => Some(Bytes::from(text)),
            (None, Some(text)) => STANDARD.decode(text).ok().map(Bytes::from),
            (None, None) => None,
        };
        Some((letter, bytes))
    }

    /// The JSON, in whatever form of the bytes fits into a record: escaping can make text six
    /// times longer, base64 never more than a third. What fits in no form stays in its own topic.
    fn fit(mut self, bytes: &[u8]) -> Vec<u8> {
        let json = |letter: &Self| serde_json::to_vec(letter).expect("plain fields are JSON");
        let mut text = json(&self);
        if text.len() > JSON_BYTES_MAX && self.value.take().is_some() {
            self.value_base64 = Some(STANDARD.encode(bytes));
            text = json(&self);
        }
        if text.len() > JSON_BYTES_MAX {
            self.value_base64 = None;
            text = json(&self);
        }
        text
    }
}

/// Room is left for the key, which the record holds once more.
const JSON_BYTES_MAX: usize = RECORD_BYTES_MAX / 4 * 3;

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

const MESSAGE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(value: &'static [u8], message: &str) -> DeadLetter {
        let record = Record {
            topic: Arc::from("messages"),
            partition: 3,
            offset: 7,
            key: Arc::from("user-1"),
            value: Bytes::from_static(value),
            at: Timestamp::default(),
            headers: Headers::default(),
        };
        let node = NodeId::parse("node-1").unwrap();
        let message = message.to_owned();
        DeadLetter::new(
            &record,
            &Cause {
                class: "undecodable",
                message,
                attempts: 1,
                node: &node,
                id: None,
            },
        )
    }

    #[test]
    fn bytes_survive_as_text_or_base64() {
        assert_eq!(letter(b"{}", "").value.as_deref(), Some("{}"));
        let binary = letter(b"\xff\x00", "");
        assert_eq!(
            (binary.value, binary.value_base64.as_deref()),
            (None, Some("/wA="))
        );
    }

    #[test]
    fn headers_and_json_say_the_same() {
        let letter = letter(b"{}", "no such room");
        let pairs = letter.headers().into_iter();
        let pairs = pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let mut record = Record {
            topic: Arc::from("messages.dead-letters"),
            partition: 0,
            offset: 0,
            key: Arc::from("user-1"),
            value: Bytes::from_static(b"{}"),
            at: Timestamp::default(),
            headers: Headers::new(pairs),
        };
        let by_headers = DeadLetter::read(&record).unwrap();
        record.headers = Headers::default();
        record.value = Bytes::from(letter.fit(b"{}"));
        assert_eq!(DeadLetter::read(&record).unwrap(), by_headers);
        assert_eq!(by_headers.1.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn a_long_reason_is_clipped_between_characters() {
        assert_eq!(letter(b"", &"ä".repeat(2_000)).error_message.len(), 1_024);
    }
}
