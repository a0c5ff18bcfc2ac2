//! What follows from events, over a log in memory and a store on disk.

use std::future::pending;
use std::pin::pin;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::backend::sql::{Database, Options as FileOptions};
use crate::eventlog::{Options as LogOptions, Record, dead_letter_topic};
use crate::events::Envelope;
use crate::store::{ConversationKind, NewConversation, Store};
use crate::types::{ConversationId, RoomName, SocketId, UserId};

const CATALOGUE: &str = r#"
[[event]]
type = "SAID"
topic = "said"

[event.schema]
required = ["conversationId"]
properties.conversationId = { type = "string", format = "id" }
properties.content = { type = "string" }
properties.to = { type = "string" }

[[event.emit]]
type = "TOLD"
each = ["{data.to}"]
data = { from = "{userId}" }

[[event.emit]]
type = "AWAY"
each = "members-away"

[[event.emit]]
type = "MENTIONED"
each = "mentions"

[[event]]
type = "TOLD"
topic = "told"
[event.schema]
properties.from = { type = "string" }

[[event]]
type = "AWAY"
topic = "told"
[event.schema]
properties.from = { type = "string" }

[[event]]
type = "MENTIONED"
topic = "told"
[event.schema]
properties.from = { type = "string" }

[[event]]
type = "thing.put"
topic = "things"
key = "{data.id}"
[event.schema]
required = ["id"]
properties.id = { type = "string" }
[[event.effect]]
action = "upsert"
kind = "thing"
id = "{data.id}"

[[event]]
type = "thing.gone"
topic = "things"
key = "{data.id}"
[event.schema]
required = ["id"]
properties.id = { type = "string" }
[[event.effect]]
action = "delete"
kind = "thing"
id = "{data.id}"

[[event]]
type = "enrolled"
topic = "groups"
[event.schema]
required = ["courseId"]
properties.courseId = { type = "string" }
[[event.effect]]
action = "join"
room = "course:{data.courseId}"
user = "{userId}"

[[event]]
type = "left"
topic = "groups"
[event.schema]
required = ["courseId"]
properties.courseId = { type = "string" }
[[event.effect]]
action = "leave"
room = "course:{data.courseId}"
user = "{userId}"
"#;

struct Fixture {
    parts: Parts,
    sent: usize,
    _folder: TempDir,
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = FileOptions::new(folder.path());
        let database = Database::open(options).await.unwrap();
        let bus = Bus::memory();
        let parts = Parts {
            log: EventLog::memory(LogOptions::default()),
            directory: Directory::new(Store::sqlite(&database), bus.clone()),
            presence: Presence::memory(Duration::ZERO),
            bus,
            vocabulary: Vocabulary::new(Catalogue::parse(CATALOGUE).unwrap()),
            node: NodeId::parse("node-1").unwrap(),
        };
        Self {
            parts,
            sent: 0,
            _folder: folder,
        }
    }

    fn store(&self) -> &Store {
        self.parts.directory.store()
    }

    /// A conversation of ann, bob and cid.
    async fn conversation(&self) {
        let new = NewConversation {
            id: ConversationId::parse("42").unwrap(),
            kind: ConversationKind::Group,
            title: "t".to_owned(),
            creator: user("ann"),
            others: vec![user("bob"), user("cid")],
            at: Timestamp::from_millis(1),
        };
        self.store().create_conversation(new).await.unwrap();
    }

    /// Puts an event of a user into the log.
    async fn tell(&mut self, kind: &str, data: &str) {
        self.sent += 1;
        let topic = self
            .parts
            .vocabulary
            .current()
            .by_type(kind)
            .cloned()
            .unwrap();
        let topic = topic.topic.clone().unwrap();
        let json = format!(
            r#"{{"id":"e{}","type":"{kind}","userId":"ann","conversationId":"42","timestamp":"2026-01-31T12:00:00Z","data":{data}}}"#,
            self.sent
        );
        let append = self
            .parts
            .log
            .append(&topic, "k", Bytes::from(json))
            .unwrap();
        append.await.unwrap();
    }

    /// Does what follows from everything that is not committed; commits if that is wished.
    async fn follow(&self, is_committed: bool) {
        let current = self.parts.vocabulary.current();
        let (topics, targets) = (sources(&current), targets(&current));
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let log = &self.parts.log;
        let consumer = log.consumer(GROUP, &names).await.unwrap();
        let known = Known::read(log, &targets).await.unwrap();
        let options = Options {
            commit_every: Duration::from_secs(3_600),
            ..Options::default()
        };
        let mut turn = Turn::new(self.parts.clone(), options, consumer, known);
        turn.take_all().await;
        if is_committed {
            turn.commit().await.unwrap();
        }
    }

    async fn all(&self, topic: &str) -> Vec<Record> {
        let lookback = Duration::from_secs(3_600);
        let mut replay = self.parts.log.replay(topic, &[], lookback).await.unwrap();
        replay.next(1_000).await.unwrap()
    }

    /// The derived events: type, recipient.
    async fn told(&self) -> Vec<(String, String)> {
        let records = self.all("told").await;
        let told = records.iter().map(|record| {
            let event = Envelope::parse(&record.value).unwrap();
            (event.kind, event.user_id.to_string())
        });
        told.collect()
    }

    async fn thing(&self, id: &str) -> Option<Value> {
        let record = self
            .parts
            .directory
            .record("thing", id)
            .await
            .unwrap()
            .value?;
        Some(serde_json::from_str(record.data.get()).unwrap())
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(one, other): &(&str, &str)| ((*one).to_owned(), (*other).to_owned());
    list.iter().map(owned).collect()
}

#[tokio::test]
async fn an_event_tells_those_it_names_those_away_and_those_it_mentions() {
    let mut fixture = Fixture::new().await;
    fixture.conversation().await;
    let socket = SocketId::parse("abcdefghij-_ABCDEF01").unwrap();
    let now = SystemTime::now().into();
    fixture.parts.presence.came(&user("bob"), &socket, now);
    let data = r#"{"conversationId":"42","content":"@bob @ann @eve","to":"dan"}"#;
    fixture.tell("SAID", data).await;
    fixture.follow(true).await;
    let told = pairs(&[("TOLD", "dan"), ("AWAY", "cid"), ("MENTIONED", "bob")]);
    assert_eq!(fixture.told().await, told);
    let first = &fixture.all("told").await[0];
    let event = Envelope::parse(&first.value).unwrap();
    assert_eq!(event.data.get(), r#"{"from":"ann"}"#);
}

#[tokio::test]
async fn what_was_derived_before_a_crash_is_not_derived_again() {
    let mut fixture = Fixture::new().await;
    fixture.conversation().await;
    for _ in 0..3 {
        let data = r#"{"conversationId":"42","to":"dan"}"#;
        fixture.tell("SAID", data).await;
        // As if the process ended before the commit.
        fixture.follow(false).await;
    }
    fixture.follow(true).await;
    fixture.follow(true).await;
    let told = fixture.told().await;
    assert_eq!(told.len(), 3 * 3, "{told:?}");
}

#[tokio::test]
async fn a_record_is_what_its_events_say_however_often_they_are_read() {
    let mut fixture = Fixture::new().await;
    fixture.tell("thing.put", r#"{"id":"1","a":1,"b":1}"#).await;
    fixture.tell("thing.put", r#"{"id":"1","b":2,"c":2}"#).await;
    fixture.tell("thing.put", r#"{"id":"2","a":1}"#).await;
    fixture.tell("thing.gone", r#"{"id":"2"}"#).await;
    assert_eq!(fixture.thing("1").await, None);
    for _ in 0..2 {
        fixture.follow(false).await;
        let one = serde_json::json!({ "id": "1", "a": 1, "b": 2, "c": 2 });
        assert_eq!(fixture.thing("1").await, Some(one));
        assert_eq!(fixture.thing("2").await, None);
    }
    fixture.tell("thing.put", r#"{"id":"1","b":null}"#).await;
    fixture.follow(true).await;
    let one = serde_json::json!({ "id": "1", "a": 1, "c": 2 });
    assert_eq!(fixture.thing("1").await, Some(one));
}

#[tokio::test]
async fn memberships_are_put_in_and_taken_out_in_the_logs_order() {
    let mut fixture = Fixture::new().await;
    let course = RoomName::parse("course:bio").unwrap();
    let is_in = async |fixture: &Fixture| {
        let groups = fixture.parts.directory.groups_of(&user("ann")).await;
        groups.unwrap().contains(&course)
    };
    fixture.tell("enrolled", r#"{"courseId":"bio"}"#).await;
    fixture.follow(false).await;
    assert!(is_in(&fixture).await);
    fixture.tell("left", r#"{"courseId":"bio"}"#).await;
    fixture.follow(false).await;
    assert!(!is_in(&fixture).await);
}

#[tokio::test]
async fn what_can_never_be_done_is_put_aside_and_the_rest_goes_on() {
    let mut fixture = Fixture::new().await;
    let long = "x".repeat(200);
    fixture
        .tell("thing.put", &format!(r#"{{"id":"{long}"}}"#))
        .await;
    fixture.tell("thing.put", r#"{"id":"1"}"#).await;
    fixture.follow(true).await;
    assert!(fixture.thing("1").await.is_some());
    let dead = fixture.all(&dead_letter_topic("things")).await;
    let letter: Value = serde_json::from_slice(&dead[0].value).unwrap();
    assert_eq!((dead.len(), &letter["errorClass"]), (1, &"effect".into()));
    assert_eq!(letter["id"], "e1");
}

#[tokio::test]
async fn who_told_an_event_can_wait_for_what_it_does() {
    let fixture = Fixture::new().await;
    let effects = Effects::new(fixture.parts.clone(), Options::default());
    let mut running = pin!(effects.run(pending()));
    let row = fixture
        .parts
        .vocabulary
        .current()
        .by_type("thing.put")
        .cloned();
    let row = row.unwrap();
    let json = r#"{"id":"e1","type":"thing.put","userId":"ann","timestamp":"2026-01-31T12:00:00Z","data":{"id":"7"}}"#;
    let event = Envelope::parse(json.as_bytes()).unwrap();
    let append = fixture.parts.log.append("things", "7", Bytes::from(json));
    let told = Told {
        row: &row,
        event: &event,
        at: append.unwrap().await.unwrap(),
    };
    let within = Duration::from_secs(20);
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        is_applied = applied(&fixture.parts.directory, told, within) => assert!(is_applied),
    }
    assert!(fixture.thing("7").await.is_some());
}

#[tokio::test]
async fn a_drain_commits_and_ends_and_new_topics_are_taken_up() {
    let mut fixture = Fixture::new().await;
    let full = Catalogue::parse(CATALOGUE).unwrap();
    let none = Catalogue::parse("").unwrap();
    fixture.tell("thing.put", r#"{"id":"1"}"#).await;
    fixture.parts.vocabulary.replace(none);
    let effects = Effects::new(fixture.parts.clone(), Options::default());
    let (drain, drained) = tokio::sync::oneshot::channel::<()>();
    let mut running = Box::pin(effects.run(async move { drop(drained.await) }));
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    assert_eq!(fixture.thing("1").await, None);
    fixture.parts.vocabulary.replace(full);
    let made = async {
        while fixture
            .store()
            .record("thing", "1")
            .await
            .unwrap()
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        () = made => drain.send(()).unwrap(),
    }
    running.await.unwrap();
    let lag = fixture.parts.log.lag();
    assert!(lag.iter().all(|lag| lag.records == 0), "{lag:?}");
}

#[test]
fn versions_rise_with_the_log_and_fit() {
    let at = |ms| Timestamp::from_millis(ms);
    assert!(version(at(5), 9) < version(at(5), 10));
    assert!(version(at(5), u64::MAX) < version(at(6), 0));
    assert!(version(at(8_000_000_000_000), u64::MAX) > 0);
}
