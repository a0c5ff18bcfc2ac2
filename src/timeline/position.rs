//! The position vector: up to where a stream of frames has taken each shard.
//!
//! Clients send it back as an opaque text, the last argument of an event they saw; so it is short
//! and needs no escaping in JSON. One shard at a million events is 8 characters.
//!
//! Not here: what follows from a position (the resume's), and which shards there are.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::types::{Epoch, ShardId, ShardPosition, ShardSeq};

/// For each of at most 32 shards the position reached. A shard that is not named was never heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vector {
    /// Sorted by shard.
    reached: Vec<(ShardId, ShardPosition)>,
}

/// A text is no position vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position vector")]
pub struct VectorError;

/// The first byte of the packed form, so that a later form can be told apart.
const FORM: u8 = 1;

impl Vector {
    /// Shards in one vector; what bounds its length and the number of shards a ring may have.
    pub const SHARDS_MAX: u16 = 32;

    /// The position reached in a shard.
    #[must_use]
    pub fn at(&self, shard: ShardId) -> Option<ShardPosition> {
        let index = self.index(shard).ok()?;
        Some(self.reached[index].1)
    }

    /// Moves a shard on; a position that is not later changes nothing.
    ///
    /// # Errors
    /// When it is one shard too many.
    pub fn advance(&mut self, shard: ShardId, to: ShardPosition) -> Result<(), VectorError> {
        match self.index(shard) {
            Ok(index) => self.reached[index].1 = self.reached[index].1.max(to),
            Err(_) if self.reached.len() >= usize::from(Self::SHARDS_MAX) => {
                return Err(VectorError);
            }
            Err(index) => self.reached.insert(index, (shard, to)),
        }
        Ok(())
    }

    /// The shards and their positions, by shard.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, ShardPosition)> + '_ {
        self.reached.iter().copied()
    }

    fn index(&self, shard: ShardId) -> Result<usize, usize> {
        self.reached
            .binary_search_by_key(&shard, |(known, _)| *known)
    }
}

/// Earlier if no shard is later; there is no order between two that are each later somewhere.
impl PartialOrd for Vector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let behind = |a: &Self, b: &Self| {
            a.iter().any(|(shard, at)| Some(at) < b.at(shard))
                || b.iter().any(|(shard, _)| a.at(shard).is_none())
        };
        match (behind(self, other), behind(other, self)) {
            (false, false) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (true, true) => None,
        }
    }
}

/// The packed form, in base64url: the form's number, then per shard three LEB128 numbers, the
/// distance from the shard before, the epoch and the `shard_seq`.
impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut packed = vec![FORM];
        let mut next = 0;
        for (shard, at) in self.iter() {
            pack(&mut packed, u64::from(shard.0) - next);
            pack(&mut packed, at.epoch.0);
            pack(&mut packed, at.shard_seq.0);
            next = u64::from(shard.0) + 1;
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(packed))
    }
}

impl FromStr for Vector {
    type Err = VectorError;

    fn from_str(text: &str) -> Result<Self, VectorError> {
        let packed = URL_SAFE_NO_PAD.decode(text).map_err(|_| VectorError)?;
        let mut rest = packed.strip_prefix(&[FORM]).ok_or(VectorError)?;
        let mut vector = Self::default();
        let mut next = 0_u64;
        while !rest.is_empty() {
            let shard = unpack(&mut rest)?.checked_add(next).ok_or(VectorError)?;
            let epoch = Epoch(unpack(&mut rest)?);
            let shard_seq = ShardSeq(unpack(&mut rest)?);
            let id = ShardId(u16::try_from(shard).map_err(|_| VectorError)?);
            vector.advance(id, ShardPosition { epoch, shard_seq })?;
            next = shard + 1;
        }
        Ok(vector)
    }
}

fn pack(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    into.push(u8::try_from(number).unwrap_or(0));
}

/// Takes one number; only the shortest writing of it counts, so equal vectors are equal texts.
fn unpack(rest: &mut &[u8]) -> Result<u64, VectorError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(VectorError)?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(VectorError);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            let is_shortest = *byte != 0 || shift == 0;
            return is_shortest.then_some(number).ok_or(VectorError);
        }
    }
    Err(VectorError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(epoch: u64, shard_seq: u64) -> ShardPosition {
        ShardPosition {
            epoch: Epoch(epoch),
            shard_seq: ShardSeq(shard_seq),
        }
    }

    fn vector(reached: &[(u16, ShardPosition)]) -> Vector {
        let mut vector = Vector::default();
        for (shard, at) in reached {
            vector.advance(ShardId(*shard), *at).unwrap();
        }
        vector
    }

    #[test]
    fn a_vector_only_moves_on() {
        let mut vector = vector(&[(3, at(1, 9)), (0, at(1, 2))]);
        vector.advance(ShardId(3), at(1, 8)).unwrap();
        assert_eq!(vector.at(ShardId(3)), Some(at(1, 9)));
        vector.advance(ShardId(3), at(2, 0)).unwrap();
        assert_eq!(vector.at(ShardId(3)), Some(at(2, 0)));
        assert_eq!(vector.at(ShardId(1)), None);
    }

    #[test]
    fn a_vector_holds_32_shards_and_no_more() {
        let mut vector = Vector::default();
        for shard in 0..32 {
            vector.advance(ShardId(shard), at(1, 1)).unwrap();
        }
        assert_eq!(vector.advance(ShardId(32), at(1, 1)), Err(VectorError));
        assert_eq!(vector.advance(ShardId(31), at(1, 2)), Ok(()));
    }

    #[test]
    fn vectors_compare_shard_by_shard() {
        let a = vector(&[(0, at(1, 5)), (1, at(1, 5))]);
        let cases = [
            (
                vector(&[(0, at(1, 5)), (1, at(1, 5))]),
                Some(Ordering::Equal),
            ),
            (vector(&[(0, at(1, 5))]), Some(Ordering::Greater)),
            (
                vector(&[(0, at(2, 0)), (1, at(1, 5))]),
                Some(Ordering::Less),
            ),
            (vector(&[(0, at(1, 6))]), None),
            (vector(&[(2, at(1, 1))]), None),
        ];
        for (b, order) in cases {
            assert_eq!(a.partial_cmp(&b), order, "{b:?}");
        }
    }

    #[test]
    fn the_text_is_short_and_fixed() {
        assert_eq!(vector(&[(0, at(1, 1_000_000))]).to_string(), "AQABwIQ9");
        assert_eq!(Vector::default().to_string(), "AQ");
        for bad in [
            "",
            "AQA",
            "AgABAQ",
            "AQAB",
            "AQCAAAE",
            "AQ==",
            "AQABwIQ9!",
            "é",
        ] {
            assert_eq!(bad.parse::<Vector>(), Err(VectorError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_vector_reads_back(
            reached in proptest::collection::btree_map(any::<u16>(), any::<(u64, u64)>(), 0..=32)
        ) {
            let reached: Vec<_> = reached.iter().map(|(s, (e, n))| (*s, at(*e, *n))).collect();
            let vector = vector(&reached);
            let text = vector.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(text.parse::<Vector>().unwrap(), vector);
        }

        #[test]
        fn any_text_never_panics_and_reads_back_as_itself(text in "AQ[A-Za-z0-9_-]{0,24}") {
            if let Ok(vector) = text.parse::<Vector>() {
                prop_assert_eq!(vector.to_string(), text);
            }
        }
    }
}
