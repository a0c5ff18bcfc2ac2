//! Caches that nodes share, with nodes in one process over real servers.

#![expect(
    clippy::disallowed_methods,
    reason = "the nodes of a test have no drain"
)]

use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vestibule::backend::cache::shared::Options;
use vestibule::backend::cache::{self, Cache, Codec, Late, Shared};
use vestibule::backend::sql::{self, Database};
use vestibule::cluster::bus::Bus;
use vestibule::config;
use vestibule::directory::Directory;
use vestibule::store::{ConversationKind, NewConversation, Role, Session, Store};
use vestibule::types::{ConversationId, Timestamp, UserId};

use crate::shared::Servers;

type Texts = Cache<Option<String>, &'static str>;

/// A process that has one cache, and the task that speaks with the shards.
struct Node {
    texts: Texts,
    again: Arc<Mutex<Vec<Late>>>,
    task: JoinHandle<()>,
}

const SOON: Duration = Duration::from_secs(5);

fn shared(servers: &Servers) -> Shared {
    let options = Options {
        answer_within: Duration::from_millis(500),
        compress_over: 1_000,
    };
    Shared::new(servers.shards(), options)
}

impl Node {
    fn new(servers: &Servers) -> Self {
        let shared = shared(servers);
        let options = cache::Options {
            name: "texts",
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            grace: Duration::from_secs(60),
            entries_max: 100,
            answer_within: Duration::from_secs(1),
        };
        let texts = Cache::shared(options, Option::is_none, (shared.clone(), Codec::json()));
        let again: Arc<Mutex<Vec<Late>>> = Arc::default();
        let told = Arc::clone(&again);
        let task = tokio::spawn(shared.run(move |late| told.lock().unwrap().push(late)));
        Self { texts, again, task }
    }

    /// The value of a key, which the store says is this.
    async fn get(&self, key: &str, store: &str) -> String {
        let store = Some(store.to_owned());
        let found = self.texts.get_with(key, || ready(Ok(store))).await;
        found.unwrap().value.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ask(servers: &Servers, command: &[&str]) -> String {
    servers.redis[0].ask(command).unwrap_or_default()
}

async fn until_kept(servers: &Servers, key: &str) {
    until(|| ask(servers, &["EXISTS", key]) == "1").await;
}

#[tokio::test]
async fn what_one_node_read_the_others_need_not_read() {
    let servers = Servers::start(1);
    let (a, b) = (Node::new(&servers), Node::new(&servers));
    let long = "long ".repeat(2_000);
    assert_eq!(a.get("k", "one").await, "one");
    assert_eq!(a.get("long", &long).await, long);
    until_kept(&servers, "{vb0}:x:texts:long").await;
    assert_eq!(b.get("k", "not asked").await, "one");
    assert_eq!(b.get("long", "not asked").await, long);
    let bytes: usize = ask(&servers, &["STRLEN", "{vb0}:x:texts:long"])
        .parse()
        .unwrap();
    assert!(bytes < 1_000, "it is compressed: {bytes}");
    let ttl: i64 = ask(&servers, &["PTTL", "{vb0}:x:texts:k"]).parse().unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");
    // That there is none is soon another node's to find out.
    let none = a.texts.get_with("none", || ready(Ok(None))).await;
    assert_eq!(none.unwrap().value, None);
    assert_eq!(b.get("none", "by now").await, "by now");
}

#[tokio::test]
async fn what_was_changed_is_read_anew_by_everybody() {
    let servers = Servers::start(2);
    let nodes: [Node; 3] = std::array::from_fn(|_| Node::new(&servers));
    for round in 0..20 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        let key = format!("k{round}");
        assert_eq!(nodes[0].get(&key, &old).await, old);
        let changed = Instant::now();
        nodes[0].texts.change(&key);
        // It reads what it wrote, at once.
        assert_eq!(nodes[0].get(&key, &new).await, new);
        // A node that was told does not look there while the word may be under way.
        nodes[1].texts.forget(&key);
        assert_eq!(nodes[1].get(&key, &new).await, new);
        // One that was not told and had nothing sees the old value for a moment at most.
        while nodes[2].get(&key, &new).await != new {
            assert!(changed.elapsed() < Duration::from_secs(2));
            nodes[2].texts.forget_all();
        }
    }
    assert_eq!(*nodes[0].again.lock().unwrap(), []);
}

/// The word came, the one that takes the value off the shard is still under way.
#[tokio::test]
async fn who_was_told_does_not_look_on_the_shard_for_a_while() {
    let servers = Servers::start(1);
    let nodes: [Node; 3] = std::array::from_fn(|_| Node::new(&servers));
    assert_eq!(nodes[0].get("k", "old").await, "old");
    until_kept(&servers, "{vb0}:x:texts:k").await;
    nodes[1].texts.forget("k");
    assert_eq!(nodes[1].get("k", "new").await, "new");
    nodes[2].texts.forget_all();
    assert_eq!(nodes[2].get("k", "new").await, "new");
    assert_eq!(
        ask(&servers, &["EXISTS", "{vb0}:x:texts:k"]),
        "1",
        "it is still there"
    );
}

/// The reader asked the shard and the store before the change; its answer comes after the word to forget.
#[tokio::test]
async fn what_was_read_before_a_change_is_not_kept_after_it() {
    let servers = Servers::start(1);
    let (reader, writer, other) = (
        Node::new(&servers),
        Node::new(&servers),
        Node::new(&servers),
    );
    let (answer, question) = oneshot::channel();
    let (begun, began) = oneshot::channel();
    let texts = reader.texts.clone();
    let reading = tokio::spawn(async move {
        let load = async {
            begun.send(()).unwrap();
            Ok(question.await.ok())
        };
        texts.get_with("k", || load).await
    });
    began.await.unwrap();
    writer.texts.change("k");
    until(|| ask(&servers, &["EXISTS", "{vb0}:xg"]) == "1").await;
    answer.send("old".to_owned()).unwrap();
    let early = reading.await.unwrap().unwrap().value;
    assert_eq!(early.as_deref(), Some("old"), "it asked before the change");
    // What it sends next comes after what it sent of this.
    reader.get("behind", "it").await;
    until_kept(&servers, "{vb0}:x:texts:behind").await;
    assert_eq!(other.get("k", "new").await, "new");
    until_kept(&servers, "{vb0}:x:texts:k").await;
    // An earlier reader that is later than another does not win either.
    let (answer, question) = oneshot::channel();
    let (begun, began) = oneshot::channel();
    let slow = Node::new(&servers);
    let texts = slow.texts.clone();
    let reading = tokio::spawn(async move {
        let load = async {
            begun.send(()).unwrap();
            Ok(question.await.ok())
        };
        texts.get_with("two", || load).await
    });
    began.await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(other.get("two", "later").await, "later");
    until_kept(&servers, "{vb0}:x:texts:two").await;
    answer.send("earlier".to_owned()).unwrap();
    reading.await.unwrap().unwrap();
    slow.get("behind two", "it").await;
    until_kept(&servers, "{vb0}:x:texts:behind two").await;
    assert_eq!(writer.get("two", "not asked").await, "later");
}

#[tokio::test]
async fn a_shard_that_is_away_is_told_when_it_is_back_and_so_are_the_others() {
    let mut servers = Servers::start(1);
    let (a, b) = (Node::new(&servers), Node::new(&servers));
    assert_eq!(a.get("k", "old").await, "old");
    until_kept(&servers, "{vb0}:x:texts:k").await;
    servers.redis[0].process().pause();
    a.texts.change("k");
    let asked = Instant::now();
    assert_eq!(a.get("k", "new").await, "new");
    assert!(
        asked.elapsed() < Duration::from_millis(100),
        "the key is not asked for"
    );
    assert_eq!(a.get("other", "from the store").await, "from the store");
    assert!(asked.elapsed() < Duration::from_secs(1));
    // The shard is left in peace for a moment.
    let asked = Instant::now();
    assert_eq!(a.get("third", "from the store").await, "from the store");
    assert!(asked.elapsed() < Duration::from_millis(100));
    tokio::time::sleep(Duration::from_secs(2)).await;
    servers.redis[0].process().resume();
    until(|| !a.again.lock().unwrap().is_empty()).await;
    assert_eq!(*a.again.lock().unwrap(), [Late::Key("texts", "k".into())]);
    assert_eq!(b.get("k", "new").await, "new");
}

#[tokio::test]
async fn what_a_server_kept_through_a_restart_is_not_believed() {
    let mut servers = Servers::start(1);
    let a = Node::new(&servers);
    assert_eq!(a.get("k", "old").await, "old");
    until_kept(&servers, "{vb0}:x:texts:k").await;
    servers.redis[0].restart();
    assert_eq!(
        ask(&servers, &["EXISTS", "{vb0}:x:texts:k"]),
        "1",
        "it is there"
    );
    let b = Node::new(&servers);
    assert_eq!(b.get("k", "new").await, "new");
}

#[tokio::test]
async fn more_than_can_be_remembered_is_everything() {
    let mut servers = Servers::start(1);
    let (a, b) = (Node::new(&servers), Node::new(&servers));
    assert_eq!(a.get("k", "old").await, "old");
    until_kept(&servers, "{vb0}:x:texts:k").await;
    servers.redis[0].process().pause();
    a.texts.change("k");
    for n in 0..20_000 {
        a.texts.change(&n.to_string());
    }
    servers.redis[0].process().resume();
    until(|| a.again.lock().unwrap().contains(&Late::All)).await;
    assert_eq!(b.get("k", "new").await, "new");
}

#[tokio::test]
async fn without_servers_the_store_is_asked() {
    let mut servers = Servers::start(1);
    servers.redis[0].kill();
    let node = Node::new(&servers);
    let asked = Instant::now();
    for n in 0..100 {
        assert_eq!(node.get(&n.to_string(), "v").await, "v");
    }
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    // Nor is it waited for by those who give up.
    let load = node
        .texts
        .get_with("never", pending::<Result<Option<String>, _>>);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), load)
            .await
            .is_err()
    );
}

/// Nodes over one store whose buses do not reach each other: every word is lost.
struct Deaf {
    servers: Servers,
    database: Database,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    _folder: TempDir,
}

impl Deaf {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(sql::Options::new(folder.path())).await;
        Self {
            servers: Servers::start(2),
            database: database.unwrap(),
            tasks: Mutex::default(),
            _folder: folder,
        }
    }

    fn directory(&self) -> Directory {
        let store = Store::sqlite(&self.database);
        let section = config::Caches::default();
        let directory = Directory::shared(store, Bus::memory(), &section, shared(&self.servers));
        let task = tokio::spawn(directory.clone().keep_shared());
        self.tasks.lock().unwrap().push(task);
        directory
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap().iter() {
            task.abort();
        }
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

#[tokio::test]
async fn a_revoked_login_a_ban_and_a_lost_membership_hold_everywhere_though_no_word_came() {
    let deaf = Deaf::new().await;
    let (a, b) = (deaf.directory(), deaf.directory());
    let session = Session {
        token_id: "token".to_owned(),
        user: user("ann"),
        device: "a device".to_owned(),
        address: "::1".to_owned(),
        created_at: at(1),
        expires_at: at(i64::MAX),
        revoked_at: None,
    };
    let store = a.store();
    store.open_session(&session).await.unwrap();
    let id = ConversationId::parse("42").unwrap();
    let new = NewConversation {
        id: id.clone(),
        kind: ConversationKind::Group,
        title: "t".to_owned(),
        creator: user("ann"),
        others: vec![user("bob")],
        at: at(1),
    };
    store.create_conversation(new).await.unwrap();
    for node in [&a, &b] {
        let found = node.session("token").await.unwrap().value.unwrap();
        assert_eq!(*found, session);
        assert_eq!(node.banned_until(&user("ann")).await.unwrap(), None);
        assert_eq!(
            node.role(&id, &user("bob")).await.unwrap(),
            Some(Role::Member)
        );
        assert_eq!(node.members(&id).await.unwrap().len(), 2);
        let conversation = node.conversation(&id).await.unwrap().unwrap();
        assert_eq!(conversation.member_count, 2);
    }
    let kept = ["{vb0}:x:*", "{vb1}:x:*"];
    let count = || {
        let servers = deaf.servers.redis.iter().zip(kept);
        let keys = servers.map(|(server, keys)| server.ask(&["KEYS", keys]).unwrap());
        let keys: Vec<String> = keys.collect();
        keys.iter()
            .flat_map(|keys| keys.lines())
            .filter(|key| !key.is_empty())
            .count()
    };
    until(|| count() == 5).await;
    store.revoke_session(&session, at(5)).await.unwrap();
    a.session_changed("token");
    let ban = Some(at(i64::MAX));
    store.ban(&user("ann"), ban, at(5)).await.unwrap();
    a.ban_changed(&user("ann"));
    assert!(store.remove_member(&id, &user("bob")).await.unwrap());
    a.membership_changed(&id, &user("bob"));
    until(|| count() == 0).await;
    // Who was not told, and looks everything up again as after an interruption; and who comes new.
    b.forget_all();
    for node in [&a, &b, &deaf.directory()] {
        let found = node.session("token").await.unwrap().value.unwrap();
        assert_eq!(found.revoked_at, Some(at(5)));
        assert_eq!(node.banned_until(&user("ann")).await.unwrap(), ban);
        assert_eq!(node.role(&id, &user("bob")).await.unwrap(), None);
        assert_eq!(node.members(&id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn everything_reads_back_as_it_was_stored() {
    let deaf = Deaf::new().await;
    let a = deaf.directory();
    let account = vestibule::store::NewUser {
        id: user("ann"),
        email: "ann@example.org".to_owned(),
        name: "Ann \"é\"".to_owned(),
        password: vestibule::types::Secret::new("hash".to_owned()),
        attributes: serde_json::value::RawValue::from_string(r#"{"a": 1.50}"#.to_owned()).unwrap(),
        at: at(1),
    };
    a.store().create_user(account).await.unwrap();
    let other = async |node: &Directory| {
        let found = node.user(&user("ann")).await.unwrap().value.unwrap();
        let by_email = node.user_by_email("Ann@example.org").await.unwrap();
        (format!("{found:?}"), by_email)
    };
    let stored = other(&a).await;
    assert_eq!(stored.1, Some(user("ann")));
    let key = |server: usize| {
        let keys = deaf.servers.redis[server].ask(&["KEYS", "*:x:*"]).unwrap();
        keys.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    until(|| key(0).len() + key(1).len() >= 2).await;
    let keys = [key(0), key(1)].concat();
    assert!(!keys.iter().any(|key| key.contains('@')), "{keys:?}");
    for (n, server) in deaf.servers.redis.iter().enumerate() {
        for key in key(n) {
            let value = server.ask(&["GET", &key]).unwrap();
            assert!(!value.contains("hash"), "{value}");
        }
    }
    deaf.database.close().await;
    assert_eq!(other(&deaf.directory()).await, stored, "the store is away");
}

#[tokio::test]
async fn a_list_is_taken_from_others_only_by_who_would_know_what_was_said_since() {
    let deaf = Deaf::new().await;
    let (a, b) = (deaf.directory(), deaf.directory());
    let id = ConversationId::parse("42").unwrap();
    let new = NewConversation {
        id: id.clone(),
        kind: ConversationKind::Group,
        title: "t".to_owned(),
        creator: user("ann"),
        others: vec![],
        at: at(1),
    };
    a.store().create_conversation(new).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let length = async |node: &Directory| {
        let found = node.conversations_of(&user("ann")).await;
        found.ok().map(|found| found.value.len())
    };
    assert_eq!(length(&a).await, Some(1));
    let exists = |n: usize| {
        let key = format!("{{vb{n}}}:x:lists:ann");
        deaf.servers.redis[n].ask(&["EXISTS", &key]).unwrap() == "1"
    };
    until(|| exists(0) || exists(1)).await;
    deaf.database.close().await;
    // The store is away: whoever has a list has it from the shard.
    assert_eq!(length(&deaf.directory()).await, None, "it has just come");
    assert_eq!(length(&b).await, Some(1));
    let c = deaf.directory();
    c.conversation_active(&id);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(length(&c).await, None);
}
