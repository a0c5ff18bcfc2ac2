//! The consistent-hash ring: which shard a room (or a user's keys) lives on, and which node has a
//! duty that must be done once.
//!
//! Each target stands on the ring many times (virtual nodes), in proportion to its weight; a key
//! belongs to the first target after its own place (Karger et al., *Consistent Hashing and Random
//! Trees*, 1997). A change of one target of N moves about 1/N of the keys, all of them to or from that
//! target. Places are hashes (XXH3, 64 bits) of explicit bytes, so they are the same in every
//! release, on every machine and for whoever reads `docs/ARCHITECTURE.md`: the target's *name*
//! followed by the number of the virtual node as four bytes, the highest first. Neither the order of
//! the targets nor their numbers matter.
//!
//! Pure. Not here: who the targets are, and moving what is stored when they change.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use consistent_hash::{Node, RingHash, StaticHashRing};
use xxhash_rust::xxh3::Xxh3;

use crate::types::ShardId;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the ring answers.
    pub id: ShardId,
    /// What decides its places; never changes while it holds anything.
    pub name: String,
    /// Its share of the keys, in proportion to the others' weights.
    pub weight: u32,
}

/// Why there is no ring of these targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No targets.
    #[error("the ring has no targets")]
    Empty,
    /// Too many targets: how many, and how many may be. Shards have to fit into the position vector.
    #[error("the ring has {0} targets, at most {1} are allowed")]
    TooMany(usize, usize),
    /// Two targets of one name.
    #[error("target {0:?} is there twice")]
    Twice(String),
    /// A weight of 0 or more than allowed.
    #[error("the weight of target {0:?} is {1}, allowed are 1 to {WEIGHT_MAX}")]
    Weight(String, u32),
}

/// As many shards as a client's position can hold.
pub const TARGETS_MAX: usize = 32;
/// As many nodes as share duties.
pub const NODES_MAX: usize = 512;
/// The largest weight, in units of [`VIRTUAL_NODES`].
pub const WEIGHT_MAX: u32 = 16;
/// Places of a target of weight 1. Measured by the test below: with 1,280 no target of 16 equal ones
/// is more than 8 % off its share; 32 targets are 41 thousand places, 1 MB.
const VIRTUAL_NODES: usize = 1_280;

/// Places of a node. Duties are few: what counts is that a change of nodes moves few of them, and that
/// the ring of all nodes is made in no time.
const NODE_PLACES: usize = 64;

/// Places for keys.
#[derive(Debug)]
pub struct Ring {
    ring: StaticHashRing<'static, Place<String>, ShardId, Places>,
}

impl Ring {
    /// The ring of these targets.
    ///
    /// # Errors
    /// When they cannot share a ring.
    pub fn new(targets: &[Target]) -> Result<Self, RingError> {
        if targets.is_empty() {
            return Err(RingError::Empty);
        }
        if targets.len() > TARGETS_MAX {
            return Err(RingError::TooMany(targets.len(), TARGETS_MAX));
        }
        let mut names = BTreeSet::new();
        for Target { name, weight, .. } in targets {
            if !names.insert(name) {
                return Err(RingError::Twice(name.clone()));
            }
            if !(1..=WEIGHT_MAX).contains(weight) {
                return Err(RingError::Weight(name.clone(), *weight));
            }
        }
        let nodes = targets.iter().map(|target| {
            Node::new(Place(target.name.clone()))
                .value(target.id)
                .quantity(VIRTUAL_NODES * target.weight as usize)
        });
        Ok(Self {
            ring: StaticHashRing::new(Places, nodes),
        })
    }

    /// The ring of these nodes, for duties. What it answers is a place in `names`.
    ///
    /// # Errors
    /// When there are none, too many, or two of one name.
    pub fn of_nodes(names: &[String]) -> Result<Self, RingError> {
        if names.is_empty() {
            return Err(RingError::Empty);
        }
        if names.len() > NODES_MAX {
            return Err(RingError::TooMany(names.len(), NODES_MAX));
        }
        let mut known = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !known.insert(name.as_str())) {
            return Err(RingError::Twice(twice.clone()));
        }
        let nodes = (0..).map(ShardId).zip(names).map(|(id, name)| {
            let node = Node::new(Place(name.clone())).value(id);
            node.quantity(NODE_PLACES)
        });
        Ok(Self {
            ring: StaticHashRing::new(Places, nodes),
        })
    }

    /// Where a key belongs. Costs a binary search and one small allocation: callers that ask for
    /// the same key again and again remember the answer.
    #[must_use]
    pub fn shard_of(&self, key: &str) -> ShardId {
        let first = self.ring.calc_candidates(&Place(key)).next();
        first.expect("a ring has at least one target").value
    }

    /// The targets.
    pub fn targets(&self) -> impl Iterator<Item = ShardId> {
        self.ring.nodes().iter().map(|node| node.value)
    }
}

/// Text that is hashed as its bytes, without what the standard library adds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place<T>(T);

impl<T: AsRef<str>> Hash for Place<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.0.as_ref().as_bytes());
    }
}

#[derive(Debug, Clone, Copy)]
struct Places;

impl RingHash for Places {
    fn hash_item<T: Hash>(&self, item: &T) -> u64 {
        let mut hasher = Xxh3::new();
        item.hash(&mut hasher);
        hasher.digest()
    }

    fn hash_vnode<K: Hash>(&self, target: &K, number: usize) -> u64 {
        let mut hasher = Xxh3::new();
        target.hash(&mut hasher);
        let number = u32::try_from(number).expect("a target has fewer places than that");
        hasher.update(&number.to_be_bytes());
        hasher.digest()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn targets(names: &[&str]) -> Vec<Target> {
        let named = names.iter().enumerate().map(|(n, name)| Target {
            id: ShardId(u16::try_from(n).unwrap()),
            name: (*name).to_owned(),
            weight: 1,
        });
        named.collect()
    }

    fn numbered(count: usize) -> Vec<Target> {
        let names: Vec<String> = (0..count).map(|n| format!("shard-{n}")).collect();
        targets(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..50_000).map(|n| format!("conversation:{n}"))
    }

    fn loads(ring: &Ring) -> BTreeMap<ShardId, usize> {
        let mut loads = BTreeMap::new();
        for key in keys() {
            *loads.entry(ring.shard_of(&key)).or_default() += 1;
        }
        loads
    }

    #[test]
    fn places_never_change() {
        // Golden: a release that answers otherwise would look for rooms where they are not.
        let ring = Ring::new(&targets(&["a", "b", "c"])).unwrap();
        let found: Vec<u16> = (0..16)
            .map(|n| ring.shard_of(&format!("conversation:{n}")).0)
            .collect();
        assert_eq!(found, GOLDEN);
        assert_eq!(
            Places.hash_item(&Place("conversation:1")),
            xxhash_rust::xxh3::xxh3_64(b"conversation:1")
        );
        assert_eq!(
            Places.hash_vnode(&Place("a"), 258),
            xxhash_rust::xxh3::xxh3_64(b"a\0\0\x01\x02")
        );
    }

    const GOLDEN: [u16; 16] = [2, 2, 2, 0, 1, 2, 1, 2, 2, 2, 0, 0, 1, 2, 1, 1];

    #[test]
    fn no_target_is_more_than_a_tenth_off_its_share() {
        for count in [1, 2, 3, 4, 8, 16] {
            let ring = Ring::new(&numbered(count)).unwrap();
            let share = 50_000.0 / count as f64;
            for (shard, load) in loads(&ring) {
                let off = (load as f64 / share - 1.0).abs();
                assert!(off < 0.1, "{count} targets: {shard} is {off:.3} off");
            }
        }
    }

    #[test]
    fn a_weight_is_a_share() {
        let mut heavy = targets(&["a", "b", "c"]);
        heavy[1].weight = 2;
        let loads = loads(&Ring::new(&heavy).unwrap());
        let share = loads[&ShardId(1)] as f64 / 50_000.0;
        assert!((share - 0.5).abs() < 0.05, "{share}");
    }

    #[test]
    fn a_new_target_takes_its_share_and_nothing_else_moves() {
        for count in [1, 2, 3, 4, 8, 15] {
            let (before, after) = (
                Ring::new(&numbered(count)).unwrap(),
                Ring::new(&numbered(count + 1)).unwrap(),
            );
            let new = ShardId(u16::try_from(count).unwrap());
            let mut moved = 0;
            for key in keys() {
                let (from, to) = (before.shard_of(&key), after.shard_of(&key));
                if from != to {
                    moved += 1;
                    assert_eq!(to, new, "{key} moved between old targets");
                }
            }
            let share = 50_000.0 / (count + 1) as f64;
            assert!(f64::from(moved) < 1.3 * share, "{count}: {moved} moved");
        }
    }

    #[test]
    fn what_cannot_share_a_ring_is_refused_by_name() {
        assert_eq!(Ring::new(&[]).unwrap_err(), RingError::Empty);
        assert_eq!(
            Ring::new(&numbered(33)).unwrap_err(),
            RingError::TooMany(33, 32)
        );
        assert_eq!(
            Ring::new(&targets(&["a", "a"])).unwrap_err(),
            RingError::Twice("a".to_owned())
        );
        let mut none = targets(&["a"]);
        none[0].weight = 0;
        assert_eq!(
            Ring::new(&none).unwrap_err(),
            RingError::Weight("a".to_owned(), 0)
        );
    }

    proptest! {
        #[test]
        fn neither_order_nor_numbers_of_the_targets_matter(
            mut names in proptest::collection::btree_set("[a-z0-9.:-]{1,20}", 1..8), key in ".{0,40}"
        ) {
            let ordered: Vec<String> = std::mem::take(&mut names).into_iter().collect();
            let ordered: Vec<&str> = ordered.iter().map(String::as_str).collect();
            let reversed: Vec<&str> = ordered.iter().rev().copied().collect();
            let one = Ring::new(&targets(&ordered)).unwrap().shard_of(&key);
            let other = Ring::new(&targets(&reversed)).unwrap().shard_of(&key);
            prop_assert_eq!(ordered[usize::from(one.0)], reversed[usize::from(other.0)]);
        }
    }
}
