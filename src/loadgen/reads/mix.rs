//! What is asked next.

use std::rc::Rc;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::http::Question;
use super::world::World;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `GET /api/profile`: who am I, and does my session still stand.
    Session,
    /// The newest page of a conversation's history.
    History,
    /// The user's conversations.
    Conversations,
    /// Who of ten users is online.
    Presence,
    /// A message that is sent meanwhile; not a read.
    Message,
}

impl Kind {
    /// The name in the account.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session check",
            Self::History => "history page",
            Self::Conversations => "conversation list",
            Self::Presence => "presence",
            Self::Message => "message sent",
        }
    }
}

/// How many of 100 reads are of each kind.
pub const SHARES: [(Kind, u32); 4] = [
    (Kind::Session, 60),
    (Kind::History, 25),
    (Kind::Conversations, 10),
    (Kind::Presence, 5),
];

/// The rank of something popular: the first is drawn twice as often as the second, and so on.
pub(super) struct Zipf(Vec<f64>);

impl Zipf {
    pub(super) fn new(ranks: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self(sums.collect())
    }

    pub(super) fn draw(&self, random: &mut SmallRng) -> usize {
        let Some(total) = self.0.last() else { return 0 };
        let at = random.random::<f64>() * total;
        self.0
            .partition_point(|sum| *sum <= at)
            .min(self.0.len() - 1)
    }
}

/// Draws questions.
pub(super) struct Mix {
    world: Rc<World>,
    users: Zipf,
    conversations: Zipf,
    random: SmallRng,
}

const PAGE: usize = 50;
const PRESENCE_USERS: usize = 10;

impl Mix {
    pub(super) fn new(world: Rc<World>, random: SmallRng) -> Self {
        Self {
            users: Zipf::new(world.users.len()),
            conversations: Zipf::new(world.conversations.len()),
            world,
            random,
        }
    }

    /// The next read.
    pub(super) fn read(&mut self) -> (Kind, Question) {
        let kind = kind(self.random.random_range(0..100));
        let user = self.users.draw(&mut self.random);
        let bearer = &self.world.users[user].bearer;
        let question = match kind {
            Kind::History => {
                let place = self.conversations.draw(&mut self.random);
                let conversation = &self.world.conversations[place];
                let reader = self.random.random_range(0..conversation.members.len());
                let reader = &self.world.users[conversation.members[reader]];
                let path = format!(
                    "/api/conversations/{}/messages?limit={PAGE}",
                    conversation.id
                );
                Question::get(path, &reader.bearer)
            }
            Kind::Conversations => Question::get("/api/conversations".to_owned(), bearer),
            Kind::Presence => {
                let others = &self.world.conversations[self.world.users[user].conversation].members;
                let others = others.iter().take(PRESENCE_USERS);
                let ids: Vec<_> = others.map(|n| self.world.users[*n].id.as_str()).collect();
                Question::get(format!("/api/presence?users={}", ids.join(",")), bearer)
            }
            Kind::Session | Kind::Message => Question::get("/api/profile".to_owned(), bearer),
        };
        (kind, question)
    }

    /// The next message.
    pub(super) fn message(&mut self) -> (Kind, Question) {
        let place = self.conversations.draw(&mut self.random);
        let conversation = &self.world.conversations[place];
        let author = self.random.random_range(0..conversation.members.len());
        let author = &self.world.users[conversation.members[author]];
        (
            Kind::Message,
            conversation.message("one more", &author.bearer),
        )
    }
}

fn kind(of_hundred: u32) -> Kind {
    let mut below = 0;
    let found = SHARES.iter().find(|(_, share)| {
        below += share;
        of_hundred < below
    });
    found.map_or(Kind::Session, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn kinds_come_in_their_shares() {
        for (wanted, share) in SHARES {
            let count = (0..100).filter(|n| kind(*n) == wanted).count();
            assert_eq!(count, share as usize, "{wanted:?}");
        }
    }

    #[test]
    fn the_first_is_drawn_twice_as_often_as_the_second() {
        let zipf = Zipf::new(1000);
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut random)] += 1;
        }
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
        assert!(counts.iter().filter(|n| **n > 0).count() > 900);
    }
}
