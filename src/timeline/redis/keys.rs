//! The names of keys and channels. All of a shard share its hash tag.

use std::time::Duration;

use crate::timeline::entry::Source;
use crate::types::{RoomName, ShardId, Timestamp};

/// The keys of one shard.
#[derive(Debug)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(shard: ShardId) -> Self {
        Self(format!("{{vb{}}}", shard.0))
    }

    pub(super) fn shard(&self) -> String {
        format!("{}:s", self.0)
    }

    pub(super) fn raise(&self) -> String {
        format!("{}:raise", self.0)
    }

    pub(super) fn meta(&self, room: &RoomName) -> String {
        format!("{}:m:{room}", self.0)
    }

    pub(super) fn stream(&self, room: &RoomName) -> String {
        format!("{}:t:{room}", self.0)
    }

    pub(super) fn open(&self, room: &RoomName) -> String {
        format!("{}:u:{room}", self.0)
    }

    pub(super) fn channel(&self, room: &RoomName) -> String {
        format!("{}:c:{room}", self.0)
    }

    /// Before a room's name in the key of its hash.
    pub(super) fn metas(&self) -> String {
        format!("{}:m:", self.0)
    }

    /// The hashes of event ids that a record of this time may repeat: its own window's first, in which it
    /// is noted, then the neighbours'.
    pub(super) fn ids(&self, room: &RoomName, at: Timestamp, window: Duration) -> [String; 3] {
        let length = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        let number = at.as_millis().div_euclid(length);
        [number, number - 1, number + 1].map(|number| format!("{}:d:{room}:{number}", self.0))
    }
}

/// A source as text. The topic comes last: it is the only part that may hold a slash.
pub(super) fn source(source: &Source) -> String {
    format!(
        "{}/{}/{}",
        source.partition, source.generation, source.topic
    )
}

/// A source from its text.
pub(super) fn parse_source(text: &str) -> Option<Source> {
    let mut parts = text.splitn(3, '/');
    Some(Source {
        partition: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
        topic: parts.next()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_back() {
        let one = Source {
            partition: 7,
            generation: 2,
            topic: "a/b".into(),
        };
        assert_eq!(parse_source(&source(&one)), Some(one));
        assert_eq!(parse_source("7/2"), None);
        assert_eq!(parse_source("x/2/t"), None);
    }

    #[test]
    fn a_record_looks_for_its_id_in_three_windows() {
        let room = RoomName::parse("r").unwrap();
        let ids =
            Keys::new(ShardId(3)).ids(&room, Timestamp::from_millis(2_500), Duration::from_secs(1));
        assert_eq!(ids, ["{vb3}:d:r:2", "{vb3}:d:r:1", "{vb3}:d:r:3"]);
    }
}
