//! Presence that nodes share: which of them has a user is kept on the user's shard.
//!
//! This node's own table says who has come to it and who has gone, after the grace. That goes to the
//! user's shard, where one function decides whether the user came online or went offline, numbers the
//! transition and notes that it is to be told: at once, so that each transition is told once. The caller tells it
//! and says so; what nobody has told for a while is told by whoever has the shard's duty. Of one user one
//! transition is told at a time, in order.
//!
//! A node that is gone is swept by the duty's holder, user by user. After a restart of a shard's server every
//! node writes its users again, and until all have nothing changes. While a shard does not answer its users
//! stay as they were; what happens meanwhile waits in the node's table, each user once.

mod calls;
mod sweep;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Change, Heard, Memory, State};
use crate::backend::redis::{Scripted, Shards};
use crate::cluster::membership::Membership;
use crate::telemetry::metrics;
use crate::types::{ShardId, Timestamp, UserId};
use calls::{Calls, Came, Entered, Silent};

/// The functions; load them with every connection of the shards.
pub const LIBRARY: Scripted = include_str!("presence.lua");

/// Presence on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Memory,
    shards: Shards,
    membership: Membership,
    /// `NODE/BOOT`.
    me: String,
    grace: Duration,
    /// What is to be told next: it followed from what was told, or from others' deaths.
    next: Mutex<VecDeque<Change>>,
    /// For each shard since when this node's users are written there.
    entered: Mutex<HashMap<ShardId, Entered>>,
    /// Users of whom something was said without an answer; all of them are unsure in the table.
    unheard: Mutex<HashSet<UserId>>,
    /// Nodes that shards know and the table of nodes does not, by since when.
    strays: Mutex<HashMap<(ShardId, String), Instant>>,
    /// What shards said a moment ago of users who are not here.
    known: Mutex<HashMap<UserId, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    is_online: bool,
    last_seen: Option<Timestamp>,
    at: Instant,
}

/// How far each shard's feed was heard.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<ShardId, String>);

/// What a shard said is believed for so long.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Users whose state is remembered.
const KNOWN_MAX: usize = 20_000;
/// Users in one message to a shard.
const BATCH: usize = 256;

impl Shared {
    pub(super) fn new(
        local: Memory,
        shards: Shards,
        membership: Membership,
        grace: Duration,
    ) -> Self {
        let me = membership.me();
        Self(Arc::new(Inner {
            local,
            shards,
            me: format!("{}/{}", me.id, me.boot),
            membership,
            grace,
            next: Mutex::default(),
            entered: Mutex::default(),
            unheard: Mutex::default(),
            strays: Mutex::default(),
            known: Mutex::default(),
        }))
    }

    pub(super) fn local(&self) -> &Memory {
        &self.0.local
    }

    /// Takes what changed here to the shards; what is to be told.
    pub(super) async fn next(&self, max: usize) -> Vec<Change> {
        let mut told: Vec<Change> = {
            let mut next = lock(&self.0.next);
            let count = next.len().min(max);
            next.drain(..count).collect()
        };
        if told.len() < max {
            let changes = self.0.local.with(|table| table.changes(max - told.len()));
            told.extend(self.apply(changes).await);
        }
        // A batch names nobody twice: what is told of one user is told in order.
        let mut named = HashSet::new();
        let (now, later): (Vec<_>, Vec<_>) = told
            .into_iter()
            .partition(|change| named.insert(change.user.clone()));
        let mut next = lock(&self.0.next);
        for change in later.into_iter().rev() {
            next.push_front(change);
        }
        drop(next);
        for change in &now {
            self.heard(change);
        }
        now
    }

    /// What others may ask this node about next, and the store is told.
    fn heard(&self, change: &Change) {
        lock(&self.0.known).remove(&change.user);
        if let Some(seen) = change.last_seen.filter(|_| !change.is_online) {
            self.0
                .local
                .with(|table| table.was_seen(&change.user, seen));
        }
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Change> {
        let again: HashSet<UserId> = {
            let mut unheard = lock(&self.0.unheard);
            let taken = changes.iter().filter(|change| unheard.remove(&change.user));
            taken.map(|change| change.user.clone()).collect()
        };
        let again = &again;
        let applied = self
            .by_shard(changes, |change| self.shard_of(&change.user))
            .into_iter()
            .map(async |(shard, changes)| {
                let answers = self.calls(shard).change(&changes, again).await;
                let answers = answers.unwrap_or_else(|Silent| Vec::new());
                let mut told = Vec::new();
                let mut answers = answers.into_iter();
                for change in &changes {
                    match answers.next() {
                        Some(Came::Tell(change)) => told.push(change),
                        Some(Came::Nothing) => {}
                        Some(Came::Wait) | None => {
                            lock(&self.0.unheard).insert(change.user.clone());
                            self.0.local.with(|table| table.unsure(change));
                        }
                    }
                }
                told
            });
        join_all(applied).await.into_iter().flatten().collect()
    }

    /// These were told.
    pub(super) async fn told(&self, changes: &[Change]) {
        let told: Vec<(UserId, u64)> = changes
            .iter()
            .filter_map(|change| Some((change.user.clone(), change.number?)))
            .collect();
        let said = self
            .by_shard(told, |(user, _)| self.shard_of(user))
            .into_iter()
            .map(async |(shard, told)| {
                let told: Vec<(&UserId, u64)> = told.iter().map(|(user, n)| (user, *n)).collect();
                // Without an answer whoever has the duty finds it again, and tells the same event.
                self.calls(shard).told(&told).await.unwrap_or_default()
            });
        for came in join_all(said).await.into_iter().flatten() {
            self.follow(came);
        }
    }

    fn follow(&self, came: Came) {
        if let Came::Tell(change) = came {
            lock(&self.0.next).push_back(change);
        }
    }

    /// True when [`next`](Self::next) has something that does not come from this node's table.
    pub(super) fn has_next(&self) -> bool {
        !lock(&self.0.next).is_empty()
    }

    /// The node goes. Whoever is left is swept by the others after the grace, if there are others.
    pub(super) fn is_handed_over(&self) -> bool {
        self.0.membership.view().live.len() > 1
    }

    /// How these users stand, in the order asked.
    pub(super) async fn states(&self, users: &[UserId]) -> Vec<State> {
        let mut states = self.0.local.with(|table| {
            let state = |user: &UserId| table.state(user);
            users.iter().map(state).collect::<Vec<State>>()
        });
        // Who is here is online.
        let mut open: Vec<usize> = Vec::new();
        {
            let known = lock(&self.0.known);
            for (place, state) in states.iter_mut().enumerate().filter(|(_, s)| !s.is_online) {
                match known
                    .get(&state.user)
                    .filter(|known| known.at.elapsed() < KNOWN_FOR)
                {
                    Some(known) => known.tell(state),
                    None => open.push(place),
                }
            }
        }
        if open.is_empty() {
            return states;
        }
        let asked = self
            .by_shard(open, |place| self.shard_of(&users[*place]))
            .into_iter();
        let asked = asked.map(async |(shard, places)| {
            let users: Vec<&UserId> = places.iter().map(|place| &users[*place]).collect();
            (self.calls(shard).states(&users).await, places)
        });
        for (answer, places) in join_all(asked).await {
            let mut known = lock(&self.0.known);
            if known.len() + places.len() > KNOWN_MAX {
                known.retain(|_, known| known.at.elapsed() < KNOWN_FOR);
            }
            match answer {
                Ok(told) => {
                    for (place, (is_online, last_seen)) in places.into_iter().zip(told) {
                        let one = Known {
                            is_online,
                            last_seen,
                            at: Instant::now(),
                        };
                        one.tell(&mut states[place]);
                        if known.len() < KNOWN_MAX {
                            known.insert(states[place].user.clone(), one);
                        }
                    }
                }
                Err(Silent) => {
                    metrics::PRESENCE_STALE.add(places.len() as u64);
                    for place in places {
                        if let Some(known) = known.get(&states[place].user) {
                            known.tell(&mut states[place]);
                        }
                        states[place].is_stale = true;
                    }
                }
            }
        }
        states
    }

    /// Who came and went anywhere since the last call with these places, shard by shard in order. A shard that does
    /// not answer is heard next time.
    pub(super) async fn since(&self, places: &mut Places) -> Heard {
        let all = self.0.shards.all().map(|shard| {
            let place = places.0.get(&shard).cloned().unwrap_or_default();
            async move {
                let mut place = place;
                let heard = self.calls(shard).since(&mut place).await;
                (shard, place, heard)
            }
        });
        let mut heard = Heard::default();
        for (shard, place, outcome) in join_all(all).await {
            let Ok(changes) = outcome else { continue };
            places.0.insert(shard, place);
            match changes {
                Some(changes) => heard.changes.extend(changes),
                None => heard.is_partial = true,
            }
        }
        let mut known = lock(&self.0.known);
        for (user, _) in &heard.changes {
            known.remove(user);
        }
        heard
    }

    fn calls(&self, shard: ShardId) -> Calls<'_> {
        Calls {
            shards: &self.0.shards,
            shard,
            node: &self.0.me,
        }
    }

    /// In batches for one shard each.
    fn by_shard<T>(&self, things: Vec<T>, shard: impl Fn(&T) -> ShardId) -> Vec<(ShardId, Vec<T>)> {
        let mut batches: Vec<(ShardId, Vec<T>)> = Vec::new();
        let mut open: HashMap<ShardId, usize> = HashMap::new();
        for thing in things {
            let shard = shard(&thing);
            let place = open
                .get(&shard)
                .copied()
                .filter(|place| batches[*place].1.len() < BATCH);
            let place = place.unwrap_or_else(|| {
                batches.push((shard, Vec::new()));
                batches.len() - 1
            });
            open.insert(shard, place);
            batches[place].1.push(thing);
        }
        batches
    }

    /// With the user's own room.
    fn shard_of(&self, user: &UserId) -> ShardId {
        self.0.shards.shard_of(&format!("user:{user}"))
    }
}

impl Known {
    const fn tell(&self, state: &mut State) {
        state.is_online = self.is_online;
        if self.is_online {
            state.last_seen = None;
        } else if self.last_seen.is_some() {
            state.last_seen = self.last_seen;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
