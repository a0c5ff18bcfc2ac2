//! kill -9 at random moments under load, then again from the same data folder.
//!
//! Several users send into several rooms, many messages in flight; a member of each room writes down
//! what it is shown. After each kill the node is started again (sometimes killed once more while it
//! starts), everything unacknowledged is sent again under the same `clientMessageId`, and the
//! history is held against what senders were promised and members were shown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::client::{Client, Incoming, Shown, history};
use super::support::eventually;
use super::support::node::Node;

const ROUNDS: u64 = 10;
/// How many rounds the long variant takes, when this variable does not say.
const ROUNDS_LONG: u64 = 50;
const ROUNDS_VARIABLE: &str = "GATEWAY_KILL_ROUNDS";

const ROOMS: [&str; 3] = ["red", "green", "blue"];
const SENDERS: usize = 4;
/// Messages of one sender that are not acknowledged yet.
const IN_FLIGHT: usize = 24;
/// A round's kill comes after so many acks at most, and then after a pause at most this long.
const ACKS_MAX: u64 = 250;
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Acknowledged messages that each sender sends once more after a kill.
const REPEATED: usize = 5;

#[tokio::test]
async fn ten_kills_lose_nothing_and_double_nothing() {
    kills(ROUNDS).await;
}

#[tokio::test]
#[ignore = "takes minutes; GATEWAY_KILL_ROUNDS says how many kills, 50 without it"]
async fn fifty_kills_lose_nothing_and_double_nothing() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own setting, not the node's"
    )]
    let rounds = std::env::var(ROUNDS_VARIABLE).map(|text| text.parse().unwrap());
    kills(rounds.unwrap_or(ROUNDS_LONG)).await;
}

async fn kills(rounds: u64) {
    let mut node = Node::start().await;
    let mut story = Story::default();
    for round in 0..rounds {
        let began = Instant::now();
        let mut random = StdRng::seed_from_u64(round);
        story.load_until_kill(&mut node, &mut random).await;
        if random.random_range(0..3) == 0 {
            node.start_and_kill(Duration::from_millis(random.random_range(1..60)));
        }
        node.run().await;
        story.settle(&node).await;
        story.check(&node).await;
        story.tell(round, began.elapsed());
    }
    node.is_well().await;
}

/// One message, as its sender knows it.
#[derive(Debug, Clone)]
struct Message {
    room: usize,
    content: String,
    /// It was sent more than once.
    is_repeated: bool,
}

/// One who sends, over all connections.
#[derive(Default)]
struct Sender {
    index: usize,
    next: u64,
    /// By number, which makes the `clientMessageId`.
    unacked: BTreeMap<u64, Message>,
    acked: BTreeMap<u64, (Message, String)>,
    /// Numbers acknowledged since the last kill.
    fresh: Vec<u64>,
}

/// One who is shown a room, over all connections.
#[derive(Default)]
struct Member {
    room: usize,
    shown: Vec<Shown>,
}

/// Everything that was promised and shown.
struct Story {
    senders: Vec<Sender>,
    members: Vec<Member>,
    epoch: Option<u64>,
    repeated: usize,
}

impl Default for Story {
    fn default() -> Self {
        let sender = |index| Sender {
            index,
            ..Sender::default()
        };
        let member = |room| Member {
            room,
            ..Member::default()
        };
        Self {
            senders: (0..SENDERS).map(sender).collect(),
            members: (0..ROOMS.len()).map(member).collect(),
            epoch: None,
            repeated: 0,
        }
    }
}

impl Story {
    #[expect(
        clippy::print_stdout,
        reason = "shown by the harness when the test fails"
    )]
    fn tell(&self, seed: u64, took: Duration) {
        let acked: usize = self.senders.iter().map(|sender| sender.acked.len()).sum();
        let repeated = self.repeated;
        println!("seed {seed}: {acked} acknowledged so far, {repeated} sent again, {took:?}");
    }

    /// Everybody at work, until the node is killed at a random moment.
    async fn load_until_kill(&mut self, node: &mut Node, random: &mut StdRng) {
        let (acks, mut acked) = watch::channel(0_u64);
        let acks = Arc::new(acks);
        let (mut senders, mut members) = (JoinSet::new(), JoinSet::new());
        for mut member in self.members.drain(..) {
            let mut client = member.enter(node).await;
            members.spawn(async move {
                while let Some(shown) = client.shown().await {
                    member.shown.push(shown);
                }
                member
            });
        }
        for mut sender in self.senders.drain(..) {
            let client = Client::connect(node, &sender.user()).await;
            let (acks, own) = (Arc::clone(&acks), StdRng::from_rng(random));
            senders.spawn(async move {
                sender.send_until_killed(client, own, &acks).await;
                sender
            });
        }
        let enough = random.random_range(0..ACKS_MAX);
        acked.wait_for(|count| *count >= enough).await.unwrap();
        tokio::time::sleep(PAUSE_MAX.mul_f64(random.random_range(0.0..1.0))).await;
        node.kill();
        self.senders = senders.join_all().await;
        self.members = members.join_all().await;
        self.senders.sort_by_key(|sender| sender.index);
        self.members.sort_by_key(|member| member.room);
    }

    /// What was not acknowledged is sent again, and some of what was; members catch up.
    async fn settle(&mut self, node: &Node) {
        for sender in &mut self.senders {
            let mut client = Client::connect(node, &sender.user()).await;
            self.repeated += sender.unacked.len();
            sender.repeat(&mut client).await;
        }
        for member in &mut self.members {
            let expected: usize = self
                .senders
                .iter()
                .map(|sender| sender.acked_in(member.room))
                .sum();
            let mut client = member.enter(node).await;
            while member.shown.len() < expected {
                member
                    .shown
                    .push(client.shown().await.expect("the node serves"));
            }
        }
    }

    /// Holds the history of each room against all promises.
    async fn check(&mut self, node: &Node) {
        for (room, name) in ROOMS.iter().enumerate() {
            let promised: HashMap<&str, &Message> = self
                .senders
                .iter()
                .flat_map(|sender| sender.acked.values())
                .filter(|(message, _)| message.room == room)
                .map(|(message, id)| (id.as_str(), message))
                .collect();
            let stored = eventually("everything acknowledged is in the history", async || {
                let stored = history(node, name, "reader").await;
                (stored.len() >= promised.len()).then_some(stored)
            })
            .await;
            let ids: HashSet<&str> = stored.iter().map(|entry| entry.id.as_str()).collect();
            assert_eq!(
                ids.len(),
                stored.len(),
                "{name}: something is in history twice"
            );
            let contents: HashSet<&str> =
                stored.iter().map(|entry| entry.content.as_str()).collect();
            assert_eq!(
                contents.len(),
                stored.len(),
                "{name}: something was said twice"
            );
            for (id, message) in &promised {
                let found = stored.iter().find(|entry| entry.id == *id);
                let found = found.unwrap_or_else(|| panic!("{name}: {id} ({message:?}) is lost"));
                assert_eq!(found.content, message.content);
            }
            for (seq, entry) in (1..).zip(&stored) {
                assert_eq!(entry.seq, seq, "{name}: a hole or a repetition in seq");
                let epoch = *self.epoch.get_or_insert(entry.epoch);
                assert_eq!(entry.epoch, epoch, "{name}: the epoch changed");
            }
            for member in self.members.iter().filter(|member| member.room == room) {
                // Both are in order: each place, id and text is the same, live or missed.
                assert_eq!(
                    member.shown, stored,
                    "{name}: what a member saw is not the history"
                );
            }
            self.check_order(name, &stored);
        }
    }

    /// What a sender sent only once stands in the order it was sent.
    fn check_order(&self, name: &str, stored: &[Shown]) {
        for sender in &self.senders {
            let user = sender.user();
            let numbers: Vec<u64> = stored
                .iter()
                .filter(|entry| entry.user == user)
                .map(|entry| entry.content.parse().unwrap())
                .filter(|number| !sender.acked[number].0.is_repeated)
                .collect();
            assert!(numbers.is_sorted(), "{name}: {user}'s order: {numbers:?}");
        }
    }
}

impl Sender {
    fn user(&self) -> String {
        format!("sender-{}", self.index)
    }

    /// Numbers of different senders differ, so that a text is said once in the whole story.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next * SENDERS as u64 + self.index as u64
    }

    fn acked_in(&self, room: usize) -> usize {
        self.acked
            .values()
            .filter(|(message, _)| message.room == room)
            .count()
    }

    /// Keeps so many in flight until the connection is gone.
    async fn send_until_killed(
        &mut self,
        mut client: Client,
        mut random: StdRng,
        acks: &watch::Sender<u64>,
    ) {
        self.fresh.clear();
        let mut numbers = HashMap::new();
        loop {
            while numbers.len() < IN_FLIGHT {
                let number = self.number();
                let room = random.random_range(0..ROOMS.len());
                let content = number.to_string();
                let message = Message {
                    room,
                    content,
                    is_repeated: false,
                };
                let (id, is_sent) = emit(&mut client, number, &message).await;
                self.unacked.insert(number, message);
                numbers.insert(id, number);
                if !is_sent {
                    return;
                }
            }
            match client.next().await {
                Some(Incoming::Ack { id, data }) => {
                    self.acknowledged(numbers.remove(&id).unwrap(), &data);
                    acks.send_modify(|count| *count += 1);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Sends what is unacknowledged again, and the last acknowledged ones too.
    async fn repeat(&mut self, client: &mut Client) {
        let again: Vec<u64> = self.fresh.iter().rev().take(REPEATED).copied().collect();
        for number in again {
            let (message, id) = self.acked.get_mut(&number).unwrap();
            message.is_repeated = true;
            let (ack, _) = emit(client, number, message).await;
            let Some(Incoming::Ack { id: found, data }) = client.next().await else {
                panic!("no ack of the repeated {number}");
            };
            assert_eq!(
                (found, data["id"].as_str()),
                (ack, Some(id.as_str())),
                "{number}: {data}"
            );
        }
        let mut numbers = HashMap::new();
        for (number, message) in &mut self.unacked {
            message.is_repeated = true;
            let (id, is_sent) = emit(client, *number, message).await;
            assert!(is_sent);
            numbers.insert(id, *number);
        }
        while !self.unacked.is_empty() {
            match client.next().await {
                Some(Incoming::Ack { id, data }) => self.acknowledged(numbers[&id], &data),
                Some(_) => {}
                None => panic!("the node is gone"),
            }
        }
    }

    fn acknowledged(&mut self, number: u64, ack: &serde_json::Value) {
        assert_eq!(ack["ok"], true, "{number}: {ack}");
        let message = self.unacked.remove(&number).unwrap();
        self.acked
            .insert(number, (message, ack["id"].as_str().unwrap().to_owned()));
        self.fresh.push(number);
    }
}

async fn emit(client: &mut Client, number: u64, message: &Message) -> (u64, bool) {
    let data = json!({
        "conversationId": ROOMS[message.room],
        "content": message.content,
        "clientMessageId": format!("m{number}"),
    });
    client.emit("message:send", &data).await
}

impl Member {
    /// Into the room, with everything that was missed.
    async fn enter(&mut self, node: &Node) -> Client {
        let mut client = Client::connect(node, &format!("member-{}", self.room)).await;
        loop {
            let (epoch, seq) = self
                .shown
                .last()
                .map_or((1, 0), |last| (last.epoch, last.seq));
            let after = json!({ "epoch": epoch, "seq": seq });
            let data = json!({ "conversationId": ROOMS[self.room], "after": after });
            let ack = client.ask_ok("join:conversation", &data).await;
            assert_eq!(ack["complete"], true, "{ack}");
            let missed = ack["missed"].as_array().unwrap();
            self.shown
                .extend(missed.iter().map(|missed| Shown::from(&missed["data"])));
            if ack.get("next").is_none() {
                return client;
            }
        }
    }
}
