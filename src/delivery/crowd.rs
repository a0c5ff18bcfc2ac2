//! Presence in conversations too large to tell of each member: how many are online, and once a second
//! who came and went since.
//!
//! A [`Crowd`] is kept while a socket watches it. It knows the members from the store, read again
//! now and then, and who of them is online; changes come from the announcer, or, where there are several nodes,
//! from what the shards note of all of them. What it tells is ephemeral:
//! `presence:state {conversationId, online, changes}` to the room `crowd:{id}`. Each node tells its own sockets
//! what it counted, so a count and the changes to it always come from the same place.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::sync::OnceCell;

use crate::cluster::bus::{Bus, Ephemeral};
use crate::cluster::presence::{Change, Cursor, Presence};
use crate::store::{self, Store};
use crate::telemetry::metrics;
use crate::types::{Code, ConversationId, Problem, RoomName, UserId};

/// The crowds that somebody on this node watches. Cheap to clone.
#[derive(Clone)]
pub struct Crowds(Arc<Inner>);

struct Inner {
    store: Store,
    presence: Presence,
    bus: Bus,
    /// Held while what happened elsewhere is heard.
    cursor: tokio::sync::Mutex<Cursor>,
    watched: Mutex<HashMap<ConversationId, Weak<Crowd>>>,
}

/// A conversation that is watched as long as this lives.
pub struct Crowd {
    id: ConversationId,
    room: RoomName,
    /// Set once the members were read for the first time.
    is_read: OnceCell<()>,
    state: Mutex<State>,
}

struct State {
    members: HashSet<UserId>,
    online: HashSet<UserId>,
    /// Who came (true) or went since the room was told last.
    untold: HashMap<UserId, bool>,
    read_at: Instant,
    /// What is known may be wrong: it is to be read again soon.
    is_doubtful: bool,
    /// What changed since the members' states were asked for, while they are.
    meanwhile: Option<HashMap<UserId, bool>>,
}

/// One who came or went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    user_id: &'a UserId,
    online: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Count<'a> {
    conversation_id: &'a ConversationId,
    online: usize,
    changes: Vec<Told<'a>>,
}

/// Crowds that one node keeps.
const CROWDS_MAX: usize = 1_000;
/// Members read at once.
const PAGE: usize = 1_000;
/// Members that are looked at; of larger conversations only those are counted.
const MEMBERS_MAX: usize = 100_000;
/// How often the members are read again.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Changes in one event; a second with more of them has several.
const CHANGES_MAX: usize = 500;

impl Crowds {
    /// No crowd is watched yet.
    #[must_use]
    pub fn new(store: Store, presence: Presence, bus: Bus) -> Self {
        Self(Arc::new(Inner {
            store,
            presence,
            bus,
            cursor: tokio::sync::Mutex::default(),
            watched: Mutex::default(),
        }))
    }

    /// Watches a conversation until the answer is dropped everywhere.
    ///
    /// # Errors
    /// When its members cannot be read, or too many are watched on this node.
    pub async fn watch(&self, id: &ConversationId) -> Result<Arc<Crowd>, Problem> {
        let crowd = self.entry(id)?;
        let read = crowd.is_read.get_or_try_init(async || {
            // It is known already: a change from now on is applied, so what is read is never behind.
            self.follow().await;
            let members = self.members(id).await?;
            self.fill(&crowd, members).await;
            lock(&crowd.state).untold.clear();
            Ok::<_, store::Error>(())
        });
        read.await?;
        Ok(crowd)
    }

    /// Takes changes in, in their order: all there are, unless there are other nodes.
    pub fn apply(&self, changes: &[Change]) {
        if changes.is_empty() || self.0.presence.is_shared() {
            return;
        }
        for crowd in self.all() {
            let mut state = lock(&crowd.state);
            for change in changes {
                state.set(&change.user, change.is_online);
            }
        }
    }

    /// Hears what changed on all nodes.
    async fn follow(&self) {
        let mut cursor = self.0.cursor.lock().await;
        let Some(heard) = self.0.presence.since(&mut cursor).await else {
            return;
        };
        for crowd in self.all() {
            let mut state = lock(&crowd.state);
            for (user, is_online) in &heard.changes {
                state.set(user, *is_online);
            }
            state.is_doubtful |= heard.is_partial;
        }
    }

    /// Tells each room what changed since the last time, and reads members again that are old. Once a second.
    pub async fn tell(&self) {
        let crowds = self.all();
        if crowds.is_empty() {
            // Nobody listens, so nothing is asked. Who comes to watch begins anew.
            *self.0.cursor.lock().await = Cursor::default();
            return;
        }
        self.follow().await;
        // Those that are being read for the first time have nothing to tell.
        for crowd in crowds.iter().filter(|crowd| crowd.is_read.initialized()) {
            if lock(&crowd.state).is_old() {
                match self.members(&crowd.id).await {
                    Ok(members) => self.fill(crowd, members).await,
                    Err(error) => {
                        tracing::warn!(%error, "the members of a conversation cannot be read");
                        lock(&crowd.state).read_at = Instant::now();
                    }
                }
            }
            for event in crowd.told() {
                let dropped = self.0.bus.publish_here(&Arc::new(event));
                metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
            }
        }
    }

    async fn fill(&self, crowd: &Crowd, members: Vec<UserId>) {
        {
            let mut state = lock(&crowd.state);
            state.is_doubtful = false;
            state.meanwhile = Some(HashMap::new());
        }
        let states = self.0.presence.states(&members).await;
        let mut state = lock(&crowd.state);
        let meanwhile = state.meanwhile.take().unwrap_or_default();
        state.read_at = Instant::now();
        state.members = members.into_iter().collect();
        let mut online: HashSet<UserId> = HashSet::new();
        for one in states {
            // Of whom nobody knows, what was known stays.
            let is_kept = one.is_stale && state.online.contains(&one.user);
            state.is_doubtful |= one.is_stale;
            if meanwhile
                .get(&one.user)
                .copied()
                .unwrap_or(one.is_online || is_kept)
            {
                online.insert(one.user);
            }
        }
        let now_away: Vec<UserId> = state.online.difference(&online).cloned().collect();
        for user in now_away {
            state.online.remove(&user);
            state.untold.insert(user, false);
        }
        for user in &online {
            state.set(user, true);
        }
    }

    async fn members(&self, id: &ConversationId) -> Result<Vec<UserId>, store::Error> {
        let mut users: Vec<UserId> = Vec::new();
        while users.len() < MEMBERS_MAX {
            let page = self.0.store.members(id, users.last(), PAGE).await?;
            let is_last = page.len() < PAGE;
            users.extend(page.into_iter().map(|member| member.user));
            if is_last {
                break;
            }
        }
        Ok(users)
    }

    fn entry(&self, id: &ConversationId) -> Result<Arc<Crowd>, Problem> {
        let mut watched = lock(&self.0.watched);
        if let Some(crowd) = watched.get(id).and_then(Weak::upgrade) {
            return Ok(crowd);
        }
        if watched.len() >= CROWDS_MAX {
            let message = "too many large conversations are watched on this node";
            return Err(Problem::new(Code::Overloaded, message).retry_after(READ_EVERY));
        }
        let room = RoomName::parse(&format!("crowd:{id}"))
            .map_err(|error| Problem::field("conversationId", error.to_string()))?;
        let crowd = Arc::new(Crowd {
            id: id.clone(),
            room,
            is_read: OnceCell::new(),
            state: Mutex::new(State {
                members: HashSet::new(),
                online: HashSet::new(),
                untold: HashMap::new(),
                read_at: Instant::now(),
                is_doubtful: false,
                meanwhile: None,
            }),
        });
        watched.insert(id.clone(), Arc::downgrade(&crowd));
        Ok(crowd)
    }

    /// Those that are still watched; the others are forgotten.
    fn all(&self) -> Vec<Arc<Crowd>> {
        let mut all = Vec::new();
        lock(&self.0.watched).retain(|_, crowd| {
            all.extend(crowd.upgrade());
            crowd.strong_count() > 0
        });
        all
    }
}

impl Crowd {
    /// Where its changes are told.
    #[must_use]
    pub const fn room(&self) -> &RoomName {
        &self.room
    }

    /// How many members are online.
    #[must_use]
    pub fn online(&self) -> usize {
        lock(&self.state).online.len()
    }

    fn told(&self) -> Vec<Ephemeral> {
        let mut state = lock(&self.state);
        let untold = std::mem::take(&mut state.untold);
        let online = state.online.len();
        drop(state);
        let changes: Vec<_> = untold.iter().collect();
        let events = changes.chunks(CHANGES_MAX).filter_map(|changes| {
            let count = Count {
                conversation_id: &self.id,
                online,
                changes: changes
                    .iter()
                    .map(|(user_id, online)| Told {
                        user_id,
                        online: **online,
                    })
                    .collect(),
            };
            Some(Ephemeral {
                room: self.room.clone(),
                event: "presence:state".into(),
                data: to_raw_value(&count).ok()?,
                except: None,
            })
        });
        events.collect()
    }
}

impl State {
    fn is_old(&self) -> bool {
        self.is_doubtful || self.read_at.elapsed() >= READ_EVERY
    }

    fn set(&mut self, user: &UserId, is_online: bool) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(user.clone(), is_online);
        }
        let is_new = if is_online {
            self.members.contains(user) && self.online.insert(user.clone())
        } else {
            self.online.remove(user)
        };
        if is_new {
            self.untold.insert(user.clone(), is_online);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sql::{Database, Options};
    use crate::cluster::presence::Departure;
    use crate::store::{ConversationKind, NewConversation};
    use crate::types::{SocketId, Timestamp};

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("user-{n}")).unwrap()
    }

    fn socket(n: usize) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    #[tokio::test]
    async fn a_crowd_counts_its_members_and_tells_who_came_and_went() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options::new(folder.path())).await.unwrap();
        let store = Store::sqlite(&database);
        let id = ConversationId::parse("42").unwrap();
        let new = NewConversation {
            id: id.clone(),
            kind: ConversationKind::Group,
            title: "t".to_owned(),
            creator: user(0),
            others: (1..5).map(user).collect(),
            at: at(0),
        };
        store.create_conversation(new).await.unwrap();
        let presence = Presence::memory(Duration::ZERO);
        presence.came(&user(1), &socket(1), at(0));
        drop(presence.next(10).await);
        let crowds = Crowds::new(store, presence.clone(), Bus::memory());
        let crowd = crowds.watch(&id).await.unwrap();
        assert_eq!((crowd.online(), crowd.told().len()), (1, 0));
        // Of members only, and of each what holds at last.
        for n in [2, 3, 9] {
            presence.came(&user(n), &socket(n), at(1));
        }
        crowds.apply(&presence.next(10).await);
        presence.went(&user(1), &socket(1), Departure::Left, at(2));
        presence.went(&user(3), &socket(3), Departure::Left, at(2));
        crowds.apply(&presence.next(10).await);
        let told = crowd.told();
        let told: serde_json::Value = serde_json::from_str(told[0].data.get()).unwrap();
        assert_eq!(
            (&told["conversationId"], &told["online"]),
            (&"42".into(), &1.into())
        );
        let mut changes: Vec<String> = told["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| format!("{} {}", change["userId"], change["online"]))
            .collect();
        changes.sort();
        let expected = [(1, false), (2, true), (3, false)];
        assert_eq!(
            changes,
            expected.map(|(n, online)| format!("\"user-{n}\" {online}"))
        );
        assert!(crowd.told().is_empty());
        // Forgotten when nobody watches.
        drop(crowd);
        assert!(crowds.all().is_empty() && lock(&crowds.0.watched).is_empty());
    }
}
