//! What an operator does with dead letters: looks at them, puts them back, drops them.
//!
//! What was done is written behind the letters themselves: a note in the same partition of the same
//! topic (it has the letter's key) that names the letter. So it is as durable as the letter, needs no
//! other store, and whoever reads the topic knows what is still open. A letter that is put back is
//! appended to its topic first and noted after, so that a crash in between puts it back twice rather
//! than never; its event has the same id, and rooms drop the second.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DeadLetter, Error, EventLog, Patience, Record, Request, dead_letter_topic};

/// A dead letter that nobody has dealt with.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its partition in the dead-letter topic.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Where it came from, and why it is dead.
    pub about: DeadLetter,
    /// The record's bytes; `None` if they were too large to be kept.
    pub bytes: Option<Bytes>,
}

/// The open letters of a topic.
#[derive(Debug, Default)]
pub struct Letters {
    /// In the order of their partitions and offsets.
    pub letters: Vec<Letter>,
    /// Later ones that are not in the list, because there are too many.
    pub more: usize,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was put back.
    Replayed,
    /// It is not wanted any more.
    Dropped,
}

/// What is written behind a letter when it is dealt with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    resolves: Resolved,
}

#[derive(Debug, Serialize, Deserialize)]
struct Resolved {
    partition: u32,
    offset: u64,
    outcome: Outcome,
}

/// Tells a note from a letter in Kafka, where a letter's bytes can be anything.
const NOTE: &str = "x-resolves";

impl EventLog {
    /// The dead letters of a topic that nobody has dealt with, at most `max` of them. Reads all that
    /// the dead-letter topic still keeps.
    ///
    /// # Errors
    /// When it can not be read.
    pub async fn dead_letters(&self, topic: &str, max: usize) -> Result<Letters, Error> {
        let topic = dead_letter_topic(topic);
        let mut replay = self.replay(&topic, &[], EVER).await?;
        let mut open: BTreeMap<(u32, u64), Letter> = BTreeMap::new();
        let mut beyond = 0_usize;
        loop {
            let records = replay.next(BATCH).await?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                if let Some(note) = note(record) {
                    let place = (note.resolves.partition, note.resolves.offset);
                    if open.remove(&place).is_none() {
                        beyond = beyond.saturating_sub(1);
                    }
                } else if open.len() == max {
                    beyond += 1;
                } else if let Some((about, bytes)) = DeadLetter::read(record) {
                    let (partition, offset) = (record.partition, record.offset);
                    let letter = Letter {
                        partition,
                        offset,
                        about,
                        bytes,
                    };
                    open.insert((partition, offset), letter);
                } else {
                    tracing::warn!(%topic, partition = record.partition, offset = record.offset,
                        "this is neither a dead letter nor a note about one");
                }
            }
        }
        Ok(Letters {
            letters: open.into_values().collect(),
            more: beyond,
        })
    }

    /// Puts a letter's bytes back into its topic under its key, and notes it. False if its bytes were
    /// not kept, and then nothing was done.
    ///
    /// # Errors
    /// When it could not be put back or noted; to do it again is safe.
    pub async fn replay_letter(&self, letter: &Letter) -> Result<bool, Error> {
        let Some(bytes) = &letter.bytes else {
            return Ok(false);
        };
        let about = &letter.about;
        let append = self.append_patiently(&about.topic, &about.key, bytes.clone())?;
        append.await?;
        self.note(letter, Outcome::Replayed).await?;
        Ok(true)
    }

    /// Notes that a letter is not wanted any more.
    ///
    /// # Errors
    /// When that could not be noted.
    pub async fn drop_letter(&self, letter: &Letter) -> Result<(), Error> {
        self.note(letter, Outcome::Dropped).await
    }

    async fn note(&self, letter: &Letter, outcome: Outcome) -> Result<(), Error> {
        let note = Note {
            resolves: Resolved {
                partition: letter.partition,
                offset: letter.offset,
                outcome,
            },
        };
        let json = Bytes::from(serde_json::to_vec(&note).expect("plain fields are JSON"));
        let append = self.enqueue(Request {
            topic: &dead_letter_topic(&letter.about.topic),
            key: &letter.about.key,
            value: json.clone(),
            headers: &[(NOTE, json)],
            patience: Patience::Persist,
        })?;
        append.await.map(drop)
    }
}

fn note(record: &Record) -> Option<Note> {
    if DeadLetter::has_headers(record) {
        // Whatever its bytes say.
        return None;
    }
    let json = record.headers.get(NOTE).unwrap_or(&record.value);
    serde_json::from_slice(json).ok()
}

/// All that is kept.
const EVER: Duration = Duration::from_secs(10 * 365 * 86_400);
const BATCH: usize = 1_024;
