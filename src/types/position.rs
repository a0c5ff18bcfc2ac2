//! Where an event stands: in its room, and in the stream of its shard.
//!
//! Order is always the pair `(epoch, counter)`. A room's `seq` goes on across epochs; a shard's
//! `shard_seq` starts again at 0 in each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A life of a shard; a new one begins when the shard may have lost writes. Starts at 1.
    Epoch, u64
}
counter! {
    /// Place of an event in its room. Starts at 1; 0 means "before the first".
    Seq, u64
}
counter! {
    /// Place of an event among all events of its shard and epoch. Starts at 1.
    ShardSeq, u64
}
counter! {
    /// One placement target of the ring.
    ShardId, u16
}

/// Place of an event in its room.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch it was ordered in.
    #[serde(default)]
    pub epoch: Epoch,
    /// Its sequence number in the room.
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// A text is neither `SEQ` nor `EPOCH-SEQ`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionError;

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position is SEQ or EPOCH-SEQ, both whole numbers")
    }
}

impl std::error::Error for PositionError {}

/// A position as a client wrote it: the epoch may be missing (`SEQ`), then only `seq` counts.
impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| part.parse::<u64>().ok()).flatten();
            // Stores count in signed numbers; nothing real is ever that large.
            number
                .filter(|n| i64::try_from(*n).is_ok())
                .ok_or(PositionError)
        };
        match text.split_once('-') {
            Some((epoch, seq)) => Ok(Self {
                epoch: Epoch(number(epoch)?),
                seq: Seq(number(seq)?),
            }),
            None => Ok(Self {
                epoch: Epoch(0),
                seq: Seq(number(text)?),
            }),
        }
    }
}

/// Place of an event in the stream of its shard.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ShardPosition {
    /// The shard's epoch.
    pub epoch: Epoch,
    /// The counter within it.
    pub shard_seq: ShardSeq,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_order_by_epoch_first() {
        let at: Position = "2-7".parse().unwrap();
        assert_eq!(
            at,
            Position {
                epoch: Epoch(2),
                seq: Seq(7)
            }
        );
        assert_eq!(at.to_string(), "2-7");
        assert_eq!("7".parse::<Position>().unwrap().epoch, Epoch(0));
        assert!(at < "3-8".parse().unwrap());
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "a",
            "1-2-3",
            "+1",
            "99999999999999999999999",
            "1-18446744073709551615",
        ] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad}");
        }
    }
}
