//! Where records go that can never be applied.
//!
//! A dead letter is a record of the topic `<origin>.dead-letters` with the same key. It is JSON: where the
//! record came from, why it could not be applied, and its bytes as they were, so that an operator
//! can read it and put it back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Append, Error, EventLog, RECORD_BYTES_MAX, Record};
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
        let json = DeadLetter::new(record, cause).fit(&record.value);
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

impl DeadLetter {
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
    fn a_long_reason_is_clipped_between_characters() {
        assert_eq!(letter(b"", &"ä".repeat(2_000)).error_message.len(), 1_024);
    }
}
