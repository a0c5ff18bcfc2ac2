//! The rule of presence: pure, time comes in.
//!
//! A user is online while a socket of theirs is, and for `grace` after a socket was lost. A socket that
//! comes takes the grace's place: it is the lost one, back. So when the last socket leaves on purpose
//! the user is offline at once, unless another device was lost just before and may still be back.
//!
//! What others are to be told comes out of [`Table::changes`]: only what differs from what came out last,
//! once for a user, however many devices there are and however often they came and went meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::{Change, Departure, State};
use crate::types::{SocketId, Timestamp, UserId};

/// Who is here.
#[derive(Debug, Default)]
pub(super) struct Table {
    grace: Duration,
    users: HashMap<UserId, Presence>,
    /// Users in their grace, by when their last socket was lost.
    lost: BTreeSet<(Timestamp, UserId)>,
    /// Users of whom there may be something to tell, each once.
    dirty: VecDeque<UserId>,
    /// Users of whom it is not known whether what was taken of them arrived; to be taken again.
    held: Vec<UserId>,
    /// When users who are offline were last here, until the store knows.
    unsaved: HashMap<UserId, Timestamp>,
    online: usize,
}

#[derive(Debug)]
struct Presence {
    sockets: Vec<SocketId>,
    /// When a socket was lost that has not come back.
    lost: Option<Timestamp>,
    is_online: bool,
    /// Since when it is so.
    since: Timestamp,
    /// When a socket ended last.
    seen: Timestamp,
    /// What others were told last.
    was_told: bool,
    is_dirty: bool,
    /// What was taken last may not have arrived.
    is_unsure: bool,
}

/// Users who went while the store does not answer, at most: beyond that it is not told of some.
const UNSAVED_MAX: usize = 100_000;

impl Table {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            ..Self::default()
        }
    }

    /// A socket came. Coming twice is coming once.
    pub(super) fn came(&mut self, user: &UserId, socket: &SocketId, now: Timestamp) {
        let entry = self
            .users
            .entry(user.clone())
            .or_insert_with(|| Presence::new(now));
        if !entry.sockets.contains(socket) {
            entry.sockets.push(socket.clone());
            if let Some(at) = entry.lost.take() {
                self.lost.remove(&(at, user.clone()));
            }
        }
        self.settle(user, now);
    }

    /// A socket ended. One that is not known changes nothing.
    pub(super) fn went(
        &mut self,
        user: &UserId,
        socket: &SocketId,
        how: Departure,
        now: Timestamp,
    ) {
        let Some(entry) = self.users.get_mut(user) else {
            return;
        };
        let Some(place) = entry.sockets.iter().position(|own| own == socket) else {
            return;
        };
        entry.sockets.swap_remove(place);
        entry.seen = now;
        if how == Departure::Lost {
            if let Some(before) = entry.lost.replace(now) {
                self.lost.remove(&(before, user.clone()));
            }
            self.lost.insert((now, user.clone()));
        }
        self.expire(now);
        self.settle(user, now);
    }

    /// Ends every grace that is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        // After the clock was set back, a grace begins anew: it would last for hours otherwise.
        while let Some((at, _)) = self.lost.last()
            && *at > now
            && let Some((_, user)) = self.lost.pop_last()
        {
            if let Some(entry) = self.users.get_mut(&user) {
                entry.lost = Some(now);
                self.lost.insert((now, user));
            }
        }
        while let Some((at, _)) = self.lost.first()
            && now.since(*at) >= self.grace
            && let Some((_, user)) = self.lost.pop_first()
        {
            if let Some(entry) = self.users.get_mut(&user) {
                entry.lost = None;
            }
            self.settle(&user, now);
        }
    }

    /// Ends everything: the node goes.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.lost.clear();
        let everybody: Vec<UserId> = self.users.keys().cloned().collect();
        for user in everybody {
            if let Some(entry) = self.users.get_mut(&user) {
                if !entry.sockets.is_empty() {
                    entry.seen = now;
                }
                entry.sockets.clear();
                entry.lost = None;
            }
            self.settle(&user, now);
        }
    }

    /// What others are to be told, at most so much at once. Whoever takes it has to tell it.
    pub(super) fn changes(&mut self, max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < max {
            let Some(user) = self.dirty.pop_front() else {
                break;
            };
            let Some(entry) = self.users.get_mut(&user) else {
                continue;
            };
            entry.is_dirty = false;
            if entry.was_told != entry.is_online || entry.is_unsure {
                entry.was_told = entry.is_online;
                entry.is_unsure = false;
                changes.push(Change {
                    user: user.clone(),
                    is_online: entry.is_online,
                    at: entry.since,
                    last_seen: (!entry.is_online).then_some(entry.seen),
                    number: None,
                });
            }
            self.forget_if_gone(&user);
        }
        changes
    }

    /// Nobody knows whether this change arrived: it is taken again after [`release`](Self::release), as it
    /// stands then.
    pub(super) fn unsure(&mut self, change: &Change) {
        let entry = self.users.entry(change.user.clone()).or_insert_with(|| {
            let seen = change.last_seen.unwrap_or(change.at);
            Presence {
                seen,
                ..Presence::new(change.at)
            }
        });
        if !std::mem::replace(&mut entry.is_unsure, true) {
            self.held.push(change.user.clone());
        }
    }

    /// What did not arrive is to be taken again.
    pub(super) fn release(&mut self) {
        for user in std::mem::take(&mut self.held) {
            if let Some(entry) = self.users.get_mut(&user)
                && entry.is_unsure
                && !std::mem::replace(&mut entry.is_dirty, true)
            {
                self.dirty.push_back(user);
            }
        }
    }

    /// Those who are online, as others surely were told.
    pub(super) fn told(&self) -> Vec<UserId> {
        let told = self
            .users
            .iter()
            .filter(|(_, entry)| entry.was_told && !entry.is_unsure);
        told.map(|(user, _)| user.clone()).collect()
    }

    /// Whether there is anything to say of a user.
    pub(super) fn is_known(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// The store is to know when a user was last seen anywhere.
    pub(super) fn was_seen(&mut self, user: &UserId, at: Timestamp) {
        let is_here = self.users.get(user).is_some_and(|entry| entry.is_online);
        if is_here || (self.unsaved.len() >= UNSAVED_MAX && !self.unsaved.contains_key(user)) {
            return;
        }
        let known = self.unsaved.entry(user.clone()).or_insert(at);
        *known = (*known).max(at);
    }

    /// True when [`changes`](Self::changes) may have something.
    pub(super) fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When the next grace ends.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let (at, _) = self.lost.first()?;
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        Some(Timestamp::from_millis(at.as_millis().saturating_add(grace)))
    }

    pub(super) fn state(&self, user: &UserId) -> State {
        let entry = self.users.get(user);
        let is_online = entry.is_some_and(|entry| entry.is_online);
        let last_seen = match entry {
            Some(entry) if !is_online => Some(entry.seen),
            Some(_) => None,
            None => self.unsaved.get(user).copied(),
        };
        State {
            user: user.clone(),
            is_online,
            last_seen,
            is_stale: false,
        }
    }

    pub(super) fn is_online(&self, user: &UserId) -> bool {
        self.users.get(user).is_some_and(|entry| entry.is_online)
    }

    /// How many users are online.
    pub(super) const fn online(&self) -> usize {
        self.online
    }

    /// Everybody who is online.
    pub(super) fn everybody(&self) -> Vec<UserId> {
        let online = self.users.iter().filter(|(_, entry)| entry.is_online);
        online.map(|(user, _)| user.clone()).collect()
    }

    /// When users were last here whom the store does not know of, at most so many.
    pub(super) fn unsaved(&self, max: usize) -> Vec<(UserId, Timestamp)> {
        let unsaved = self.unsaved.iter().take(max);
        unsaved.map(|(user, at)| (user.clone(), *at)).collect()
    }

    /// The store knows these; what came later is kept.
    pub(super) fn saved(&mut self, seen: &[(UserId, Timestamp)]) {
        for (user, at) in seen {
            if self.unsaved.get(user).is_some_and(|own| own <= at) {
                self.unsaved.remove(user);
            }
        }
    }

    /// Brings what follows from sockets and grace in step.
    fn settle(&mut self, user: &UserId, now: Timestamp) {
        let Some(entry) = self.users.get_mut(user) else {
            return;
        };
        let is_online = !entry.sockets.is_empty() || entry.lost.is_some();
        if entry.is_online != is_online {
            entry.is_online = is_online;
            entry.since = now;
            if is_online {
                self.online += 1;
                self.unsaved.remove(user);
            } else {
                self.online -= 1;
                if self.unsaved.len() < UNSAVED_MAX {
                    self.unsaved.insert(user.clone(), entry.seen);
                }
            }
        }
        if entry.is_online != entry.was_told && !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push_back(user.clone());
        }
        self.forget_if_gone(user);
    }

    /// Nothing is kept of who is offline and known to be.
    fn forget_if_gone(&mut self, user: &UserId) {
        let is_gone = |entry: &Presence| {
            !(entry.is_online || entry.was_told || entry.is_dirty || entry.is_unsure)
        };
        if self.users.get(user).is_some_and(is_gone) {
            self.users.remove(user);
        }
    }
}

impl Presence {
    const fn new(now: Timestamp) -> Self {
        Self {
            sockets: Vec::new(),
            lost: None,
            is_online: false,
            since: now,
            seen: now,
            was_told: false,
            is_dirty: false,
            is_unsure: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE_MS: i64 = 15_000;

    fn table() -> Table {
        Table::new(Duration::from_millis(GRACE_MS.unsigned_abs()))
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    fn user(n: u8) -> UserId {
        UserId::parse(&format!("user-{n}")).unwrap()
    }

    fn socket(n: u8) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }

    /// What is told: who came (+) and went (-).
    fn told(table: &mut Table) -> String {
        let changes = table.changes(100);
        let sign = |change: &Change| if change.is_online { '+' } else { '-' };
        changes.iter().map(sign).collect()
    }

    #[test]
    fn a_user_comes_and_goes_once_with_any_number_of_devices() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        assert_eq!(told(&mut table), "+");
        table.came(&ann, &socket(2), at(1));
        table.went(&ann, &socket(1), Departure::Left, at(2));
        assert_eq!(told(&mut table), "");
        table.went(&ann, &socket(2), Departure::Left, at(3));
        assert_eq!(
            table.changes(9),
            [Change {
                user: ann.clone(),
                is_online: false,
                at: at(3),
                last_seen: Some(at(3)),
                number: None,
            }]
        );
        assert_eq!(table.state(&ann).last_seen, Some(at(3)));
        table.saved(&table.unsaved(9));
        assert!(table.users.is_empty() && table.unsaved.is_empty());
    }

    #[test]
    fn who_was_lost_and_is_back_in_time_was_never_away() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        assert_eq!(told(&mut table), "+");
        table.went(&ann, &socket(1), Departure::Lost, at(1_000));
        table.expire(at(1_000 + GRACE_MS - 1));
        assert!(table.is_online(&ann));
        table.came(&ann, &socket(2), at(1_000 + GRACE_MS - 1));
        table.expire(at(100_000));
        assert_eq!(told(&mut table), "");
        assert!(table.is_online(&ann) && table.lost.is_empty());
    }

    #[test]
    fn who_was_lost_is_gone_when_the_grace_is_over_and_was_last_seen_before_it() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        table.went(&ann, &socket(1), Departure::Lost, at(1_000));
        assert_eq!(table.next_expiry(), Some(at(1_000 + GRACE_MS)));
        assert_eq!(told(&mut table), "+");
        table.expire(at(1_000 + GRACE_MS));
        let changes = table.changes(9);
        assert_eq!(
            (changes[0].is_online, changes[0].last_seen),
            (false, Some(at(1_000)))
        );
        assert_eq!((table.online(), table.next_expiry()), (0, None));
    }

    #[test]
    fn a_lost_device_may_be_back_although_the_other_one_left() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        table.came(&ann, &socket(2), at(0));
        table.went(&ann, &socket(1), Departure::Lost, at(10));
        table.went(&ann, &socket(2), Departure::Left, at(20));
        assert!(table.is_online(&ann));
        table.came(&ann, &socket(3), at(30));
        table.went(&ann, &socket(3), Departure::Left, at(40));
        assert!(!table.is_online(&ann), "the lost one had come back");
    }

    #[test]
    fn what_was_over_before_it_was_told_is_not_told() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        table.went(&ann, &socket(1), Departure::Left, at(1));
        table.came(&ann, &socket(2), at(2));
        table.went(&ann, &socket(2), Departure::Left, at(3));
        assert_eq!(told(&mut table), "");
        assert!(table.users.is_empty() && !table.has_changes());
    }

    #[test]
    fn what_may_not_have_arrived_is_taken_again_as_it_stands_then() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(0));
        let came = table.changes(9);
        table.unsure(&came[0]);
        assert!(table.told().is_empty() && table.is_known(&ann) && told(&mut table).is_empty());
        table.release();
        assert_eq!(told(&mut table), "+");
        assert_eq!(table.told(), std::slice::from_ref(&ann));
        table.went(&ann, &socket(1), Departure::Left, at(5));
        let went = table.changes(9);
        assert!(!table.is_known(&ann));
        table.unsure(&went[0]);
        table.unsure(&went[0]);
        // Back before it was said again: the shard may know of it or not.
        table.came(&ann, &socket(2), at(6));
        table.release();
        assert_eq!(told(&mut table), "+");
        table.went(&ann, &socket(2), Departure::Left, at(7));
        let went = table.changes(9);
        table.unsure(&went[0]);
        table.release();
        assert_eq!(table.changes(9), went);
        assert!(table.users.is_empty() && table.held.is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_online_for_hours() {
        let (mut table, ann) = (table(), user(1));
        table.came(&ann, &socket(1), at(3_600_000));
        table.went(&ann, &socket(1), Departure::Lost, at(3_600_000));
        table.expire(at(0));
        table.expire(at(GRACE_MS - 1));
        assert!(table.is_online(&ann));
        table.expire(at(GRACE_MS));
        assert!(!table.is_online(&ann));
    }

    #[test]
    fn when_the_node_goes_everybody_is_told_to_be_gone() {
        let mut table = table();
        table.came(&user(1), &socket(1), at(0));
        table.came(&user(2), &socket(2), at(0));
        table.went(&user(2), &socket(2), Departure::Lost, at(5));
        assert_eq!(told(&mut table), "++");
        table.end(at(10));
        let mut changes = table.changes(9);
        changes.sort_by(|a, b| a.user.as_str().cmp(b.user.as_str()));
        let seen: Vec<_> = changes.iter().map(|change| change.last_seen).collect();
        assert_eq!(seen, [Some(at(10)), Some(at(5))]);
        assert_eq!((table.online(), table.users.len()), (0, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Came(u8, u8),
        Went(u8, u8, Departure),
        Wait(i64),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        let who = || (0u8..3, 0u8..4);
        let how = prop_oneof![Just(Departure::Left), Just(Departure::Lost)];
        prop_oneof![
            4 => who().prop_map(|(user, socket)| Step::Came(user, socket)),
            4 => (who(), how).prop_map(|((user, socket), how)| Step::Went(user, socket, how)),
            3 => (0..GRACE_MS * 3 / 2).prop_map(Step::Wait),
            2 => Just(Step::Tell),
        ]
    }

    /// The rule told once more, without an index, a queue or anything forgotten: everything that
    /// happened to a user is looked through each time.
    #[derive(Default)]
    struct Naive {
        happened: Vec<(i64, u8, Option<u8>, bool)>,
        sockets: BTreeSet<(u8, u8)>,
    }

    impl Naive {
        fn is_online(&self, user: u8, now: i64) -> bool {
            let has_socket = self.sockets.iter().any(|(own, _)| *own == user);
            let own = self.happened.iter().filter(|(_, own, ..)| *own == user);
            let own: Vec<_> = own.collect();
            let last_came = own.iter().rposition(|(_, _, came, _)| came.is_some());
            let after = own.iter().skip(last_came.map_or(0, |place| place + 1));
            let mut lost = after.filter(|(.., is_loss)| *is_loss);
            has_socket || lost.any(|(at, ..)| now < at + GRACE_MS)
        }
    }

    proptest! {
        #[test]
        fn it_is_as_the_rule_says_and_everything_is_told_once(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let (mut table, mut naive, mut now) = (table(), Naive::default(), 0);
            let mut known = [false; 3];
            for step in steps {
                match step {
                    Step::Came(u, s) => {
                        table.came(&user(u), &socket(s), at(now));
                        if naive.sockets.insert((u, s)) {
                            naive.happened.push((now, u, Some(s), false));
                        }
                    }
                    Step::Went(u, s, how) => {
                        table.went(&user(u), &socket(s), how, at(now));
                        if naive.sockets.remove(&(u, s)) {
                            naive.happened.push((now, u, None, how == Departure::Lost));
                        }
                    }
                    Step::Wait(ms) => {
                        now += ms;
                        table.expire(at(now));
                    }
                    Step::Tell => {
                        for change in table.changes(100) {
                            let who = usize::from((0..3).find(|u| user(*u) == change.user).unwrap());
                            prop_assert_ne!(known[who], change.is_online, "told twice");
                            known[who] = change.is_online;
                        }
                    }
                }
                let online = (0..3).filter(|u| naive.is_online(*u, now)).count();
                prop_assert_eq!(table.online(), online);
                for u in 0..3 {
                    prop_assert_eq!(table.is_online(&user(u)), naive.is_online(u, now), "{}", u);
                }
            }
            for change in table.changes(100) {
                let who = usize::from((0..3).find(|u| user(*u) == change.user).unwrap());
                known[who] = change.is_online;
            }
            for u in 0..3u8 {
                prop_assert_eq!(known[usize::from(u)], naive.is_online(u, now));
            }
            // Nothing is kept of who is gone.
            prop_assert_eq!(table.users.len(), table.online());
            prop_assert!(table.dirty.is_empty());
        }
    }
}
