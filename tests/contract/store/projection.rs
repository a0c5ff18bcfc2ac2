//! Projection: any order, any repetition, the same state.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vestibule::archive::Row;

use super::conversations::group;
use super::{Fixture, archived, archived_in, event, message, place, room, suite, user};

/// Five messages and everything that can become of them, several times over.
fn events() -> Vec<Row> {
    let mut rows: Vec<Row> = (1..=5)
        .map(|seq| message(["ann", "bob"][seq as usize % 2], seq))
        .collect();
    let mut add = |kind: &str, user: &str, data: String| {
        let seq = rows.len() as u64 + 1;
        rows.push(archived(kind, user, seq, &data));
    };
    for n in [1, 2, 1, 3] {
        add(
            "MESSAGE_EDITED",
            "ann",
            format!(r#"{{"messageId":"c-{n}","content":"edit of {n}"}}"#),
        );
    }
    for n in [3, 4, 3] {
        add(
            "MESSAGE_DELETED",
            "ann",
            format!(r#"{{"messageId":"c-{n}"}}"#),
        );
    }
    add(
        "MESSAGE_EDITED",
        "ann",
        r#"{"messageId":"c-4","content":"too late"}"#.to_owned(),
    );
    for kind in ["ADDED", "REMOVED", "ADDED", "ADDED", "REMOVED"] {
        add(
            &format!("REACTION_{kind}"),
            "bob",
            r#"{"messageId":"c-1","emoji":"+"}"#.to_owned(),
        );
        add(
            &format!("REACTION_{kind}"),
            "ann",
            r#"{"messageId":"c-2","emoji":"-"}"#.to_owned(),
        );
    }
    add(
        "REACTION_ADDED",
        "ann",
        r#"{"messageId":"c-1","emoji":"+"}"#.to_owned(),
    );
    for up_to in [2, 4, 3, 900] {
        add(
            "MESSAGE_READ",
            "ann",
            format!(r#"{{"conversationId":"c","upTo":{up_to}}}"#),
        );
    }
    // What is no such event at all changes nothing, and fails nothing.
    add("MESSAGE_EDITED", "ann", r#"{"messageId":7}"#.to_owned());
    add("MESSAGE_READ", "ann", "[]".to_owned());
    rows.extend((1..=3).map(|seq| archived_in("user:ann", "MENTION", "ann", seq, "{}")));
    rows
}

/// Everything that can be asked, as text.
async fn state(fixture: &Fixture) -> String {
    let store = &fixture.store;
    let ids: Vec<_> = (1..=5).map(|n| event(&format!("c-{n}"))).collect();
    let mut changed = store.changed(&room("conversation:c"), &ids).await.unwrap();
    changed.sort_by(|a, b| a.id.cmp(&b.id));
    let reactions = store.reactions(&ids).await.unwrap();
    let cursors = store.cursors(&super::conversation("c"), 10).await.unwrap();
    let listed = store
        .conversations_of(&user("ann"), None, 10)
        .await
        .unwrap();
    let notifications = store
        .notifications(&user("ann"), None, false, 10)
        .await
        .unwrap();
    format!("{changed:#?} {reactions:#?} {cursors:?} {listed:#?} {notifications:#?}")
}

suite! {
    in_order_it_is_what_one_expects
}

async fn begun(fixture: Fixture) -> Fixture {
    fixture
        .store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    fixture
}

async fn in_order_it_is_what_one_expects(fixture: Fixture) {
    let fixture = begun(fixture).await;
    fixture.archive(events()).await;
    let ids: Vec<_> = (1..=5).map(|n| event(&format!("c-{n}"))).collect();
    let mut changed = fixture
        .store
        .changed(&room("conversation:c"), &ids)
        .await
        .unwrap();
    changed.sort_by(|a, b| a.id.cmp(&b.id));
    let shown: Vec<_> = changed
        .iter()
        .map(|m| {
            (
                m.id.as_str(),
                m.content.as_ref().map(|c| c.get()),
                m.deleted_at.is_some(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("c-1", Some("\"edit of 1\""), false),
            ("c-2", Some("\"edit of 2\""), false),
            ("c-3", None, true),
            ("c-4", None, true),
        ]
    );
    let reactions = fixture.store.reactions(&ids).await.unwrap();
    let shown: Vec<_> = reactions
        .iter()
        .map(|r| (r.message.as_str(), r.users.clone()))
        .collect();
    assert_eq!(shown, [("c-1", vec![user("ann")])]);
    let cursors = fixture
        .store
        .cursors(&super::conversation("c"), 10)
        .await
        .unwrap();
    // The last one claims more than there was when it was said.
    let last = events()
        .iter()
        .filter(|row| row.kind == "MESSAGE_READ")
        .nth(3)
        .unwrap()
        .position;
    assert_eq!(cursors, [(user("ann"), place(1, last.seq.0))]);
}

#[test]
fn any_order_and_any_repetition_give_the_same_state() {
    any_order(24, Fixture::sql);
}

#[test]
fn any_order_and_any_repetition_give_postgres_the_same_state() {
    any_order(4, Fixture::postgres);
}

fn any_order(cases: u32, fixture: impl AsyncFn() -> Fixture) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let expected = runtime.block_on(async {
        let fixture = begun(Fixture::sql().await).await;
        fixture.archive(events()).await;
        state(&fixture).await
    });
    let all = events();
    let repeated: Vec<Row> = all.iter().chain(&all).cloned().collect();
    let orders = (Just(repeated).prop_shuffle(), 1..12_usize);
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
    .run(&orders, |(rows, together)| {
        let found = runtime.block_on(async {
            let fixture = begun(fixture().await).await;
            for batch in rows.chunks(together) {
                fixture.archive(batch.to_vec()).await;
            }
            state(&fixture).await
        });
        prop_assert_eq!(&found, &expected);
        Ok(())
    })
    .unwrap();
}

#[tokio::test]
async fn one_by_one_is_the_same_as_together() {
    let (one, other) = (Fixture::sql().await, Fixture::sql().await);
    let (one, other) = (begun(one).await, begun(other).await);
    one.archive(events()).await;
    other.archive_each(&events()).await;
    assert_eq!(state(&one).await, state(&other).await);
}
