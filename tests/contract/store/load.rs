//! Many at once, and what is unread against a model that counts by hand.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vestibule::archive::Row;
use vestibule::store::{Role, Store};

use super::conversations::group;
use crate::sqlite::Folder;

use super::{Fixture, archived, at, conversation, event, message, place, suite, user};

suite! {
    two_hundred_writers_at_once_lose_nothing
    two_hundred_who_make_the_same_thing_make_one
    at_most_a_thousand_unread_are_counted
}

async fn two_hundred_writers_at_once_lose_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let id = conversation("c");
    store
        .create_conversation(group("c", "ann", &[]))
        .await
        .unwrap();
    let work = (0..200).map(|n| {
        let (id, member) = (&id, user(&format!("u{n}")));
        async move {
            let added = store
                .add_members(id, std::slice::from_ref(&member), Role::Member, at(n))
                .await
                .unwrap();
            assert_eq!(added.len(), 1);
            store.react(&event("m"), &member, "+", at(n)).await.unwrap();
            assert!(
                store
                    .read_up_to(id, &member, place(1, 1), at(n))
                    .await
                    .unwrap()
            );
            // Its own write is there for whoever reads now.
            assert_eq!(store.role(id, &member).await.unwrap(), Some(Role::Member));
        }
    });
    join_all(work).await;
    let counted = store.conversation(&id).await.unwrap().unwrap().member_count;
    assert_eq!(counted, 201);
    assert_eq!(store.reactions(&[event("m")]).await.unwrap()[0].count, 200);
    assert_eq!(store.cursors(&id, 1_000).await.unwrap().len(), 200);
}

async fn two_hundred_who_make_the_same_thing_make_one(fixture: Fixture) {
    let store = &fixture.store;
    let made = join_all((0..200).map(|n| {
        let (one, other) = if n % 2 == 0 {
            ("ann", "bob")
        } else {
            ("bob", "ann")
        };
        let new = vestibule::store::NewConversation {
            kind: vestibule::store::ConversationKind::Direct,
            ..group(&format!("c{n}"), one, &[other])
        };
        async move { store.create_conversation(new).await.unwrap().id }
    }));
    let made = made.await;
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    assert_eq!(
        store
            .conversations_of(&user("ann"), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn at_most_a_thousand_unread_are_counted(fixture: Fixture) {
    let store = &fixture.store;
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    fixture
        .archive((1..=1_100).map(|seq| message("bob", seq)).collect())
        .await;
    let unread =
        || async { store.conversations_of(&user("ann"), None, 1).await.unwrap()[0].unread };
    assert_eq!(unread().await, 1_000);
    store
        .read_up_to(&conversation("c"), &user("ann"), place(1, 1_050), at(1))
        .await
        .unwrap();
    assert_eq!(unread().await, 50);
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let folder = Folder::new().await;
    let store = Store::sqlite(&folder.database);
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    store
        .react(&event("m"), &user("ann"), "+", at(1))
        .await
        .unwrap();
    let crashed = folder.crashed().await;
    let store = Store::sqlite(&crashed.database);
    assert_eq!(
        store.role(&conversation("c"), &user("bob")).await.unwrap(),
        Some(Role::Member)
    );
    assert_eq!(
        store
            .react(&event("m"), &user("ann"), "+", at(1))
            .await
            .unwrap(),
        1
    );
}

/// What happens in a conversation of `ann` and `bob`.
#[derive(Debug, Clone, Copy)]
enum Step {
    Message { by_ann: bool },
    Delete { nth: usize },
    Read { seq: u64 },
    Reaction,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|by_ann| Step::Message { by_ann }),
        2 => (0..20_usize).prop_map(|nth| Step::Delete { nth }),
        2 => (0..40_u64).prop_map(|seq| Step::Read { seq }),
        1 => Just(Step::Reaction),
    ]
}

/// The events of these steps, and how many messages `ann` has not read by hand.
fn model(steps: &[Step]) -> (Vec<Row>, u64) {
    let mut rows: Vec<Row> = Vec::new();
    let mut messages: Vec<(u64, bool, bool)> = Vec::new();
    let mut cursor = 0;
    for step in steps {
        let seq = rows.len() as u64 + 1;
        match *step {
            Step::Message { by_ann } => {
                messages.push((seq, by_ann, false));
                rows.push(message(if by_ann { "ann" } else { "bob" }, seq));
            }
            Step::Delete { nth } => {
                let Some(found) = messages.get_mut(nth) else {
                    continue;
                };
                found.2 = true;
                let data = format!(r#"{{"messageId":"c-{}"}}"#, found.0);
                rows.push(archived("MESSAGE_DELETED", "bob", seq, &data));
            }
            Step::Read { seq: up_to } => {
                cursor = cursor.max(up_to.min(seq));
                let data = format!(r#"{{"upTo":{up_to}}}"#);
                rows.push(archived("MESSAGE_READ", "ann", seq, &data));
            }
            Step::Reaction => {
                let data = r#"{"messageId":"c-1","emoji":"+"}"#;
                rows.push(archived("REACTION_ADDED", "bob", seq, data));
            }
        }
    }
    let unread = messages
        .iter()
        .filter(|(seq, by_ann, gone)| !by_ann && !gone && *seq > cursor);
    let unread = unread.count() as u64;
    (rows, unread)
}

#[test]
fn unread_is_what_a_model_counts_by_hand() {
    unread_as_a_model(48, Fixture::sql);
}

#[test]
fn unread_in_postgres_is_what_a_model_counts_by_hand() {
    unread_as_a_model(8, Fixture::postgres);
}

fn unread_as_a_model(cases: u32, fixture: impl AsyncFn() -> Fixture) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
    .run(&proptest::collection::vec(step(), 0..40), |steps| {
        let (rows, expected) = model(&steps);
        let unread = runtime.block_on(async {
            let fixture = fixture().await;
            let store = &fixture.store;
            store
                .create_conversation(group("c", "ann", &["bob"]))
                .await
                .unwrap();
            fixture.archive(rows).await;
            store.conversations_of(&user("ann"), None, 1).await.unwrap()[0].unread
        });
        prop_assert_eq!(unread, expected);
        Ok(())
    })
    .unwrap();
}
