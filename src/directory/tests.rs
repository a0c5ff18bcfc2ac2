//! The directory over a store on disk.

use serde_json::value::RawValue;
use tempfile::TempDir;

use super::*;
use crate::auth::{Identity, Parts, Rooms};
use crate::backend::sql::{Database, Options};
use crate::store::{ConversationKind, NewConversation, Record, Role, Status};
use crate::types::{Code, ConversationId, Problem, RoomName, Timestamp, UserId};

struct Fixture {
    directory: Directory,
    database: Database,
    _folder: TempDir,
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn at() -> Timestamp {
    Timestamp::from_millis(1)
}

/// A token that grants these rooms.
fn identity(name: &str, globs: &[&str]) -> Identity {
    let parts = Parts {
        user: user(name),
        name: None,
        rooms: Rooms::parse(globs).unwrap(),
        token_id: None,
        scope: None,
        is_login: false,
        expires_at: Timestamp::default(),
    };
    parts.into()
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options::new(folder.path())).await.unwrap();
        Self {
            directory: Directory::new(Store::sqlite(&database), Bus::memory()),
            database,
            _folder: folder,
        }
    }

    /// A conversation of ann and bob.
    async fn conversation(&self) -> ConversationId {
        let id = ConversationId::parse("42").unwrap();
        let new = NewConversation {
            id: id.clone(),
            kind: ConversationKind::Group,
            title: "t".to_owned(),
            creator: user("ann"),
            others: vec![user("bob")],
            at: at(),
        };
        self.directory
            .store()
            .create_conversation(new)
            .await
            .unwrap();
        id
    }
}

#[tokio::test]
async fn a_role_is_known_at_once_after_it_was_asked_for_and_new_after_a_change() {
    let fixture = Fixture::new().await;
    let (directory, id) = (&fixture.directory, fixture.conversation().await);
    let cid = user("cid");
    assert_eq!(directory.role_now(&id, &cid), None);
    assert_eq!(directory.role(&id, &cid).await.unwrap(), None);
    assert_eq!(directory.role_now(&id, &cid), Some(None));
    assert_eq!(directory.members(&id).await.unwrap().len(), 2);
    let users = std::slice::from_ref(&cid);
    let store = directory.store();
    store
        .add_members(&id, users, Role::Member, at())
        .await
        .unwrap();
    assert_eq!(
        directory.role(&id, &cid).await.unwrap(),
        None,
        "as it was cached"
    );
    directory.membership_changed(&id, &cid);
    assert_eq!(directory.role(&id, &cid).await.unwrap(), Some(Role::Member));
    assert_eq!(directory.members(&id).await.unwrap().len(), 3);
    let conversation = directory.conversation(&id).await.unwrap().unwrap();
    assert_eq!(conversation.member_count, 3);
}

#[tokio::test]
async fn the_token_decides_first_and_then_what_is_stored() {
    let fixture = Fixture::new().await;
    let directory = &fixture.directory;
    fixture.conversation().await;
    let course = room("course:bio");
    let store = directory.store();
    store.enroll(&course, &user("ann"), at()).await.unwrap();
    // token, room, may join, may send
    let table: &[(&str, &[&str], &str, bool, bool)] = &[
        ("ann", &[], "conversation:42", true, true),
        ("eve", &[], "conversation:42", false, false),
        ("eve", &["conversation:*"], "conversation:42", true, true),
        ("ann", &[], "course:bio", true, true),
        ("bob", &[], "course:bio", false, false),
        ("ann", &[], "building:bio", false, false),
        ("ann", &[], "user:ann", true, true),
        ("ann", &["*"], "user:bob", false, false),
        ("ann", &[], "global:announcements", true, false),
        ("ann", &["*"], "presence:ann", false, false),
        ("ann", &[], "conversation:", false, false),
    ];
    for (name, globs, room_name, join, send) in table {
        let (identity, room) = (identity(name, globs), room(room_name));
        let outcome = |outcome: Result<(), Problem>| match outcome {
            Ok(()) => true,
            Err(problem) => {
                assert_eq!(problem.code, Code::Forbidden, "{problem:?}");
                false
            }
        };
        let case = format!("{name} {globs:?} {room_name}");
        assert_eq!(
            outcome(directory.may_join(&identity, &room).await),
            *join,
            "{case}"
        );
        assert_eq!(
            outcome(directory.may_send(&identity, &room).await),
            *send,
            "{case}"
        );
        // What was asked is known now.
        let now = directory.may_send_now(&identity, &room);
        assert_eq!(outcome(now.unwrap()), *send, "{case}");
    }
    let stranger = identity("dan", &[]);
    for unknown in ["conversation:42", "course:bio"] {
        assert!(directory.may_send_now(&stranger, &room(unknown)).is_none());
    }
}

#[tokio::test]
async fn who_sees_whom_follows_connections_conversations_and_courses() {
    let fixture = Fixture::new().await;
    let directory = &fixture.directory;
    let sees = async |one: &str, other: &str| {
        let (one, other) = (user(one), user(other));
        let seen = directory.is_visible(&one, &other).await.unwrap();
        assert_eq!(directory.is_visible(&other, &one).await.unwrap(), seen);
        seen
    };
    assert!(sees("ann", "ann").await);
    assert!(!sees("ann", "bob").await);
    let id = fixture.conversation().await;
    directory.membership_changed(&id, &user("bob"));
    assert!(sees("ann", "bob").await);
    let store = directory.store();
    assert!(store.remove_member(&id, &user("bob")).await.unwrap());
    directory.membership_changed(&id, &user("bob"));
    assert!(!sees("ann", "bob").await);
    for name in ["ann", "cid"] {
        store
            .enroll(&room("course:bio"), &user(name), at())
            .await
            .unwrap();
        directory.groups_changed(&user(name));
    }
    assert!(sees("ann", "cid").await);
    let (ann, dan) = (user("ann"), user("dan"));
    assert!(!sees("ann", "dan").await);
    store
        .request_connection("r", &ann, &dan, at())
        .await
        .unwrap();
    let answered = store.answer_connection("r", &dan, Status::Accepted, at());
    answered.await.unwrap();
    directory.connection_changed(&ann, &dan);
    assert!(sees("ann", "dan").await);
}

#[tokio::test]
async fn another_node_can_have_a_value_forgotten() {
    let fixture = Fixture::new().await;
    let directory = &fixture.directory;
    let value = async || directory.record("thing", "1").await.unwrap().value;
    let put = async |version| {
        let record = Record {
            kind: "thing".to_owned(),
            id: "1".to_owned(),
            data: RawValue::from_string("{}".to_owned()).unwrap(),
            version,
            updated_at: at(),
        };
        directory.store().put_record(&record).await.unwrap()
    };
    assert!(value().await.is_none());
    assert!(put(1).await);
    assert!(value().await.is_none(), "as it was cached");
    directory.forget("records", "thing\n1");
    directory.forget("no such cache", "k");
    assert_eq!(value().await.unwrap().version, 1);
    assert!(put(2).await);
    directory.forget_all();
    assert_eq!(value().await.unwrap().version, 2);
}

#[tokio::test]
async fn what_was_warmed_is_answered_without_the_store() {
    let fixture = Fixture::new().await;
    let directory = &fixture.directory;
    fixture.conversation().await;
    directory.warm(&user("ann")).await;
    fixture.database.close().await;
    let list = directory.conversations_of(&user("ann")).await.unwrap();
    assert_eq!((list.value.len(), list.is_stale), (1, false));
    assert!(directory.groups_of(&user("ann")).await.unwrap().is_empty());
    assert!(directory.conversations_of(&user("bob")).await.is_err());
}
