//! The ring in force, and the change of one into another.
//!
//! A [`Plan`] says which shards share the rooms, and while a change is under way which ones did before.
//! All nodes of a cluster agree on the newest one that any of them has heard of. A plan's *fence* is the
//! version of the newest change: a shard that knows it refuses callers who place rooms by an older one, so
//! that nobody goes on at a room's old place while somebody else begins at its new one.
//!
//! Per-user keys (presence, limits, caches, sessions) stay where they were placed first: what they hold is
//! short-lived, and moving it would cost more than it spreads.
//!
//! Pure. Not here: where plans are kept, and moving what rooms hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::ring::{Ring, RingError, Target};
use crate::types::ShardId;

/// Shards and their shares.
pub type Shares = BTreeMap<String, u32>;

/// Which shards share the rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Rises with every plan.
    pub version: u64,
    /// The version of the newest change of `rooms`; 0 while there was none.
    pub fence: u64,
    /// Who shares the rooms.
    pub rooms: Shares,
    /// Who shared them before, while some rooms may still be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Shares>,
    /// Who shares the per-user keys.
    pub keys: Shares,
}

/// Why a plan cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It names a shard that this process does not know.
    #[error(
        "the ring has shard {0:?}, which is not in redis.shards here: add it there and restart this node"
    )]
    Unknown(String),
    /// There is no such ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The shards already share the rooms in this way.
    #[error("the ring has these shards with these weights already")]
    Same,
    /// Some shards would get a larger share and others a smaller one.
    #[error(
        "change the ring in two steps: first add shards or raise weights, then remove or lower"
    )]
    Mixed,
    /// Rooms are still on their way from the last change.
    #[error("rooms are still moving: the last change of the ring is not over")]
    Moving,
}

impl Plan {
    /// The first plan: nothing was anywhere else before.
    #[must_use]
    pub fn first(shares: Shares) -> Self {
        Self {
            version: 1,
            fence: 0,
            keys: shares.clone(),
            rooms: shares,
            before: None,
        }
    }

    /// The plan by which `shares` share the rooms from now on.
    ///
    /// # Errors
    /// When a change is under way, or there is nothing to change, or no ring of these.
    pub fn change(&self, shares: Shares) -> Result<Self, PlanError> {
        if self.before.is_some() {
            return Err(PlanError::Moving);
        }
        if self.rooms == shares {
            return Err(PlanError::Same);
        }
        let names = shares.keys().cloned().zip(0..).collect();
        ring(&shares, &names)?;
        // A shard that gets rooms must not lose any in the same change: those who follow both streams would
        // wait for the one with the other.
        let weight = |shares: &Shares, name| shares.get(name).copied().unwrap_or_default();
        let mut names = self.rooms.keys().chain(shares.keys());
        let changes = names
            .by_ref()
            .map(|name| weight(&shares, name).cmp(&weight(&self.rooms, name)));
        let changes: BTreeSet<_> = changes.filter(|change| change.is_ne()).collect();
        if changes.len() > 1 {
            return Err(PlanError::Mixed);
        }
        let version = self.version + 1;
        Ok(Self {
            version,
            fence: version,
            rooms: shares,
            before: Some(self.rooms.clone()),
            keys: self.keys.clone(),
        })
    }

    /// The plan when every room is at its new place.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self {
            version: self.version + 1,
            before: None,
            ..self.clone()
        }
    }
}

/// A plan with its rings.
#[derive(Debug)]
pub struct View {
    /// What it was made from.
    pub plan: Plan,
    rooms: Ring,
    before: Option<Ring>,
    keys: Ring,
}

impl View {
    fn new(plan: Plan, names: &BTreeMap<String, u16>) -> Result<Self, PlanError> {
        Ok(Self {
            rooms: ring(&plan.rooms, names)?,
            before: plan
                .before
                .as_ref()
                .map(|shares| ring(shares, names))
                .transpose()?,
            keys: ring(&plan.keys, names)?,
            plan,
        })
    }

    /// Where a room is.
    #[must_use]
    pub fn room(&self, room: &str) -> ShardId {
        self.rooms.shard_of(room)
    }

    /// Where a room was before the change that is under way, if that was somewhere else.
    #[must_use]
    pub fn was(&self, room: &str) -> Option<ShardId> {
        let before = self.before.as_ref()?.shard_of(room);
        (before != self.room(room)).then_some(before)
    }

    /// Where a per-user key is.
    #[must_use]
    pub fn key(&self, key: &str) -> ShardId {
        self.keys.shard_of(key)
    }

    /// Whether a shard has a share of the rooms.
    #[must_use]
    pub fn is_on_ring(&self, shard: ShardId) -> bool {
        self.rooms.targets().any(|target| target == shard)
    }
}

/// The view that this process acts by. Cheap to clone; all clones change together.
#[derive(Debug, Clone)]
pub struct Rings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Every shard that this process knows, by its name.
    names: BTreeMap<String, u16>,
    view: RwLock<Arc<View>>,
}

impl Rings {
    /// These shards, numbered by their ids; those with a weight are on the ring until a plan says otherwise.
    ///
    /// # Errors
    /// When they cannot share a ring.
    pub fn new(targets: &[Target]) -> Result<Self, PlanError> {
        let on_ring = || targets.iter().filter(|one| one.weight > 0);
        // Finds two of one name, which the map would hide.
        drop(Ring::new(&on_ring().cloned().collect::<Vec<_>>())?);
        let shares = on_ring().map(|one| (one.name.clone(), one.weight));
        let names = targets.iter().map(|one| (one.name.clone(), one.id.0));
        let names = names.collect();
        let mut plan = Plan::first(shares.collect());
        // Older than any plan that was agreed on.
        plan.version = 0;
        let view = View::new(plan, &names)?;
        Ok(Self(Arc::new(Inner {
            names,
            view: RwLock::new(Arc::new(view)),
        })))
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&view)
    }

    /// Acts by this plan if it is newer; whether it is.
    ///
    /// # Errors
    /// When it cannot be used here; the view stays as it was.
    pub fn adopt(&self, plan: Plan) -> Result<bool, PlanError> {
        if plan.version <= self.view().plan.version {
            return Ok(false);
        }
        let view = View::new(plan, &self.0.names)?;
        let mut current = self.0.view.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = view.plan.version > current.plan.version;
        if is_newer {
            *current = Arc::new(view);
        }
        Ok(is_newer)
    }
}

fn ring(shares: &Shares, names: &BTreeMap<String, u16>) -> Result<Ring, PlanError> {
    let target = |(name, weight): (&String, &u32)| {
        let id = names.get(name);
        let id = id.ok_or_else(|| PlanError::Unknown(name.clone()))?;
        Ok(Target {
            id: ShardId(*id),
            name: name.clone(),
            weight: *weight,
        })
    };
    let targets = shares.iter().map(target);
    let targets = targets.collect::<Result<Vec<_>, PlanError>>()?;
    Ok(Ring::new(&targets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(names: &[&str]) -> Vec<Target> {
        let target = |(id, name): (u16, &&str)| Target {
            id: ShardId(id),
            name: (*name).to_owned(),
            weight: 1,
        };
        (0..).zip(names).map(target).collect()
    }

    fn shares(names: &[&str]) -> Shares {
        names.iter().map(|name| ((*name).to_owned(), 1)).collect()
    }

    #[test]
    fn a_change_moves_some_rooms_to_the_new_shard_and_no_key() {
        let rings = Rings::new(&targets(&["a", "b", "c"])).unwrap();
        assert!(rings.adopt(Plan::first(shares(&["a", "b"]))).unwrap());
        let before = rings.view();
        let change = before.plan.change(shares(&["a", "b", "c"])).unwrap();
        assert_eq!((change.version, change.fence), (2, 2));
        assert!(rings.adopt(change.clone()).unwrap());
        let now = rings.view();
        let mut moved = 0;
        for n in 0..1_000 {
            let room = format!("conversation:{n}");
            let (was, is) = (before.room(&room), now.room(&room));
            assert_eq!(now.was(&room), (was != is).then_some(was));
            assert!(was == is || is == ShardId(2));
            assert_eq!(now.key(&room), before.key(&room));
            moved += usize::from(was != is);
        }
        assert!((200..=433).contains(&moved), "{moved}");
        assert_eq!(
            change.change(shares(&["a"])).unwrap_err(),
            PlanError::Moving
        );
        let settled = change.settled();
        assert_eq!((settled.version, settled.fence), (3, 2));
        assert!(rings.adopt(settled.clone()).unwrap());
        assert_eq!(rings.view().was("conversation:1"), None);
        let same = settled.change(shares(&["a", "b", "c"])).unwrap_err();
        assert_eq!(same, PlanError::Same);
        let mixed = settled.change(shares(&["a", "b", "d"])).unwrap_err();
        assert_eq!(mixed, PlanError::Mixed);
    }

    #[test]
    fn an_older_plan_and_one_with_an_unknown_shard_change_nothing() {
        let rings = Rings::new(&targets(&["a", "b"])).unwrap();
        assert!(rings.adopt(Plan::first(shares(&["a", "b"]))).unwrap());
        assert!(!rings.adopt(Plan::first(shares(&["a"]))).unwrap());
        let next = rings.view().plan.change(shares(&["a", "b", "z"])).unwrap();
        assert_eq!(
            rings.adopt(next).unwrap_err(),
            PlanError::Unknown("z".to_owned())
        );
        assert_eq!(rings.view().plan.version, 1);
    }
}
