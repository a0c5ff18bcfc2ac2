//! Tells who came and went, and keeps when users were last seen.
//!
//! One task for the node: it ends graces, takes what changed out of [`Presence`] and puts it into the
//! log as `USER_ONLINE` and `USER_OFFLINE`, in order and each until the log has it; the rooms
//! `presence:{id}` get it from there. The ids are derived, so that an event that is told again is the
//! same one. Crowds are told in batches. When the node goes, whoever is left is told to be offline.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::crowd::Crowds;
use super::publish::{Fact, Publisher, Publishing};
use crate::cluster::bus::{Bus, Ephemeral};
use crate::cluster::presence::{Change, Presence};
use crate::directory::Directory;
use crate::events::{Vocabulary, derived_id};
use crate::telemetry::metrics;
use crate::types::{EventId, Kind, NodeId, Problem, RoomName, Timestamp, UserId};

/// What telling needs.
#[derive(Clone)]
pub struct Parts {
    /// Who is here.
    pub presence: Presence,
    /// Large conversations that somebody watches.
    pub crowds: Crowds,
    /// Where "last seen" is kept.
    pub directory: Directory,
    /// Into the log.
    pub publisher: Publisher,
    /// The types' rows.
    pub vocabulary: Vocabulary,
    /// To everybody, when everybody is told.
    pub bus: Bus,
    /// This node.
    pub node: NodeId,
    /// Whether everybody is told of everybody.
    pub is_for_all: bool,
}

/// The task that tells.
pub struct Announcer {
    parts: Parts,
    /// What was taken and is not in the log yet; later changes wait behind it.
    pending: Vec<Change>,
    backoff: Backoff,
    /// Who came since the store was told last: a crash forgets less of "last seen".
    arrived: Vec<UserId>,
    /// When all who are online were written down last.
    all_seen_at: Timestamp,
}

/// What `user:online` and `user:offline` carry.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
}

/// Crowds are told once a second, and so is the store.
const TICK: Duration = Duration::from_secs(1);
/// The longest that the end of a grace is noticed late.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Changes told at once.
const CHANGES_MAX: usize = 256;
/// Users written down in one transaction.
const SEEN_MAX: usize = 500;
/// How often those who are online are written down: what a crash can forget of "last seen".
const SEEN_EVERY: Duration = Duration::from_secs(300);
/// Users who came within a second and are written down at once; the others are with the next round.
const ARRIVED_MAX: usize = 10_000;
/// How often the log is asked to take the last changes of a node that stops.
const LAST_TRIES: u32 = 5;

impl Announcer {
    /// A task over these.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            pending: Vec::new(),
            backoff: Backoff::default(),
            arrived: Vec::new(),
            all_seen_at: now(),
        }
    }

    /// Tells until `stop`, then whoever is left is told to be gone.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Only waiting is cut short: what was taken is told to the end.
            let is_tick = tokio::select! {
                () = wait(&self.parts.presence, !self.pending.is_empty()) => false,
                _ = tick.tick() => true,
                () = &mut stop => break,
            };
            self.parts.presence.expire(now());
            if !self.tell().await {
                let pause = tokio::time::sleep(self.backoff.next());
                tokio::select! { () = pause => {}, () = &mut stop => break }
            }
            if is_tick {
                self.parts.presence.upkeep().await;
                self.parts.crowds.tell().await;
                self.save().await;
            }
        }
        self.end().await;
    }

    async fn end(&mut self) {
        self.parts.presence.end(now());
        let mut failures = 0;
        while !self.tell().await {
            failures += 1;
            if failures == LAST_TRIES {
                let left = self.pending.len();
                tracing::error!(left, "the log did not take who went offline with this node");
                break;
            }
            tokio::time::sleep(self.backoff.next()).await;
        }
        self.save().await;
    }

    /// Puts what changed into the log; false when some of it has to be tried again.
    async fn tell(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                self.pending = self.parts.presence.next(CHANGES_MAX).await;
                self.parts.crowds.apply(&self.pending);
                for change in &self.pending {
                    self.tell_everybody(change);
                    if change.is_online && self.arrived.len() < ARRIVED_MAX {
                        self.arrived.push(change.user.clone());
                    }
                }
            }
            if self.pending.is_empty() {
                self.backoff = Backoff::default();
                return true;
            }
            // All of them enter the log's queue before the first is waited for. A batch names nobody
            // twice, so it does not matter which of them have to be tried again.
            let told: Vec<_> = self
                .pending
                .iter()
                .map(|change| self.publish(change))
                .collect();
            let changes = std::mem::take(&mut self.pending);
            let mut done = Vec::with_capacity(changes.len());
            for (change, told) in changes.into_iter().zip(told) {
                let outcome = match told {
                    Ok(publishing) => publishing.await.map(drop),
                    Err(problem) => Err(problem),
                };
                match outcome {
                    Ok(()) => done.push(change),
                    Err(problem) if problem.code.kind() == Kind::Unavailable => {
                        self.pending.push(change);
                    }
                    Err(problem) => {
                        tracing::error!(user = %change.user, %problem, "a change of presence cannot be told");
                        done.push(change);
                    }
                }
            }
            self.parts.presence.told(&done).await;
            if !self.pending.is_empty() {
                metrics::DELIVERY_RETRIES.add(1);
                return false;
            }
        }
    }

    fn publish(&self, change: &Change) -> Result<Publishing, Problem> {
        let seen = Seen {
            user_id: None,
            last_seen: change.last_seen,
        };
        let data = to_raw_value(&seen)
            .map_err(|error| Problem::new(crate::types::Code::Internal, error.to_string()))?;
        let fact = Fact {
            kind: kind(change),
            user: change.user.clone(),
            conversation: None,
            data,
            id: Some(self.id(change)),
            at: change.at,
        };
        let (_, publishing) = self
            .parts
            .publisher
            .publish_type(&self.parts.vocabulary, fact)?;
        Ok(publishing)
    }

    /// The same for the same change, whenever it is told.
    fn id(&self, change: &Change) -> EventId {
        let user = change.user.as_str();
        if let Some(number) = change.number {
            return derived_id(&["presence", kind(change), user, &number.to_string()]);
        }
        let at = change.at.to_string();
        derived_id(&[
            "presence",
            self.parts.node.as_str(),
            kind(change),
            user,
            &at,
        ])
    }

    fn tell_everybody(&self, change: &Change) {
        if !self.parts.is_for_all {
            return;
        }
        let seen = Seen {
            user_id: Some(&change.user),
            last_seen: change.last_seen,
        };
        let room = RoomName::parse("global:announcements");
        let (Ok(room), Ok(data)) = (room, to_raw_value(&seen)) else {
            return;
        };
        let event = if change.is_online {
            "user:online"
        } else {
            "user:offline"
        };
        let dropped = self.parts.bus.publish_ephemeral(Arc::new(Ephemeral {
            room,
            event: event.into(),
            data,
            except: None,
        }));
        metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
    }

    /// Writes down when users were last seen.
    async fn save(&mut self) {
        let presence = &self.parts.presence;
        loop {
            let unsaved = presence.unsaved(SEEN_MAX);
            if unsaved.is_empty() || !self.save_some(&unsaved).await {
                break;
            }
            presence.saved(&unsaved);
        }
        let at = now();
        for users in std::mem::take(&mut self.arrived).chunks(SEEN_MAX) {
            if !self.seen(users, at).await {
                break;
            }
        }
        if at.since(self.all_seen_at) < SEEN_EVERY {
            return;
        }
        self.all_seen_at = at;
        for users in self.parts.presence.everybody().chunks(SEEN_MAX) {
            if !self.seen(users, at).await {
                break;
            }
        }
    }

    /// Those of one second go together: a time that is shown to people needs no more.
    async fn save_some(&self, unsaved: &[(UserId, Timestamp)]) -> bool {
        let mut sorted = unsaved.to_vec();
        sorted.sort_by_key(|(_, at)| *at);
        let second = |at: Timestamp| at.as_millis().div_euclid(1_000);
        for group in sorted.chunk_by(|(_, a), (_, b)| second(*a) == second(*b)) {
            let users: Vec<UserId> = group.iter().map(|(user, _)| user.clone()).collect();
            if let Some((_, at)) = group.last() {
                if !self.seen(&users, *at).await {
                    return false;
                }
                for user in &users {
                    self.parts.directory.last_seen_changed(user);
                }
            }
        }
        true
    }

    async fn seen(&self, users: &[UserId], at: Timestamp) -> bool {
        let result = self.parts.directory.store().seen(users, at).await;
        if let Err(error) = &result {
            tracing::warn!(%error, users = users.len(), "when users were last seen could not be stored");
        }
        result.is_ok()
    }
}

/// Resolves when there may be something to tell, or a grace may have ended. With `is_late` something
/// waits already, and only time is waited for.
async fn wait(presence: &Presence, is_late: bool) {
    let until_expiry = presence.next_expiry().map_or(LOOK_EVERY, |at| {
        at.since(now()).clamp(Duration::from_millis(1), LOOK_EVERY)
    });
    let time = tokio::time::sleep(until_expiry);
    if is_late {
        time.await;
        return;
    }
    tokio::select! {
        () = presence.changed() => {}
        () = time => {}
    }
}

const fn kind(change: &Change) -> &'static str {
    if change.is_online {
        "USER_ONLINE"
    } else {
        "USER_OFFLINE"
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::backend::sql::{Database, Options as FileOptions};
    use crate::cluster::presence::Departure;
    use crate::eventlog::{EventLog, Options as LogOptions};
    use crate::events::{Catalogue, Envelope};
    use crate::store::Store;
    use crate::types::SocketId;

    struct Fixture {
        parts: Parts,
        log: EventLog,
        _folder: TempDir,
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn socket(n: u8) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }

    impl Fixture {
        async fn new(options: LogOptions) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let database = Database::open(FileOptions::new(folder.path())).await;
            let store = Store::sqlite(&database.unwrap());
            let (bus, log) = (Bus::memory(), EventLog::memory(options));
            let presence = Presence::memory(Duration::from_secs(3_600));
            let parts = Parts {
                crowds: Crowds::new(store.clone(), presence.clone(), bus.clone()),
                presence,
                directory: Directory::new(store, bus.clone()),
                publisher: Publisher::new(log.clone()),
                vocabulary: Vocabulary::new(Catalogue::builtin()),
                bus,
                node: NodeId::parse("node-1").unwrap(),
                is_for_all: false,
            };
            Self {
                parts,
                log,
                _folder: folder,
            }
        }

        /// Everything told, as `user type`, sorted: users are in partitions of their own.
        async fn told(&self) -> Vec<String> {
            let mut consumer = self.log.consumer("test", &["user-activity"]).await.unwrap();
            let mut told = Vec::new();
            while let Ok(polled) =
                tokio::time::timeout(Duration::from_millis(200), consumer.poll(100)).await
            {
                for record in polled.unwrap().into_records() {
                    let envelope = Envelope::parse(&record.value).unwrap();
                    told.push(format!("{} {}", envelope.user_id, envelope.kind));
                }
            }
            told.sort();
            told
        }
    }

    #[tokio::test]
    async fn changes_reach_the_log_and_whoever_is_left_goes_with_the_node() {
        let fixture = Fixture::new(LogOptions::default()).await;
        let presence = &fixture.parts.presence;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = Announcer::new(fixture.parts.clone()).run(async { drop(stopped.await) });
        let life = async {
            presence.came(&user("ann"), &socket(1), now());
            presence.came(&user("bob"), &socket(2), now());
            presence.went(&user("bob"), &socket(2), Departure::Lost, now());
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(stop);
        };
        tokio::join!(run, life);
        assert_eq!(
            fixture.told().await,
            [
                "ann USER_OFFLINE",
                "ann USER_ONLINE",
                "bob USER_OFFLINE",
                "bob USER_ONLINE",
            ]
        );
        let seen = fixture
            .parts
            .directory
            .store()
            .last_seen(&[user("ann"), user("bob")])
            .await;
        assert_eq!(seen.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_the_log_refuses_is_told_again() {
        // One record at a time: of a batch all but the first are refused.
        let options = LogOptions {
            in_flight_records: 1,
            ..LogOptions::default()
        };
        let fixture = Fixture::new(options).await;
        let mut announcer = Announcer::new(fixture.parts.clone());
        let names = ["ann", "bob", "cid", "dan"];
        for (n, name) in (1u8..).zip(names) {
            fixture.parts.presence.came(&user(name), &socket(n), now());
        }
        let mut tries = 0;
        while !announcer.tell().await {
            tries += 1;
            assert!(tries < 100, "{} left", announcer.pending.len());
        }
        let expected = names.map(|name| format!("{name} USER_ONLINE"));
        assert_eq!(fixture.told().await, expected);
    }

    #[tokio::test]
    async fn a_change_told_twice_is_one_event() {
        let fixture = Fixture::new(LogOptions::default()).await;
        let announcer = Announcer::new(fixture.parts);
        let change = |at| Change {
            user: user("ann"),
            is_online: true,
            at: Timestamp::from_millis(at),
            last_seen: None,
            number: None,
        };
        assert_eq!(announcer.id(&change(1)), announcer.id(&change(1)));
        assert_ne!(announcer.id(&change(1)), announcer.id(&change(2)));
        // Where it has a number that alone says which it is, whoever tells it.
        let numbered = |at, number| Change {
            number: Some(number),
            ..change(at)
        };
        assert_eq!(announcer.id(&numbered(1, 7)), announcer.id(&numbered(2, 7)));
        assert_ne!(announcer.id(&numbered(1, 7)), announcer.id(&numbered(1, 8)));
    }
}
