//! Messages as they are now, reactions, notifications.

use super::{Fixture, archived, archived_in, at, event, message, place, room, suite, user};

suite! {
    a_message_is_found_by_its_id
    reactions_count_users_once
    a_late_event_does_not_undo_what_was_asked_since
    only_the_first_hundred_users_are_named
    notifications_are_listed_and_read
}

async fn a_message_is_found_by_its_id(fixture: Fixture) {
    let store = &fixture.store;
    assert!(store.message(&event("c-1")).await.unwrap().is_none());
    fixture
        .archive(vec![message("ann", 1), message("bob", 2)])
        .await;
    let found = store.message(&event("c-1")).await.unwrap().unwrap();
    assert_eq!(
        (found.user, found.room, found.position),
        (user("ann"), room("conversation:c"), place(1, 1))
    );
    assert_eq!(found.conversation.unwrap().as_str(), "c");
    assert!(found.content.is_none() && found.edited_at.is_none() && found.deleted_at.is_none());
    let ids = [event("c-1"), event("c-2"), event("c-3")];
    assert!(
        store
            .changed(&room("conversation:c"), &ids)
            .await
            .unwrap()
            .is_empty()
    );
    let edit = archived(
        "MESSAGE_EDITED",
        "ann",
        3,
        r#"{"messageId":"c-1","content":"new"}"#,
    );
    // From another room a message can not be changed.
    let foreign = archived_in(
        "conversation:d",
        "MESSAGE_DELETED",
        "eve",
        3,
        r#"{"messageId":"c-1"}"#,
    );
    fixture.archive(vec![edit, foreign]).await;
    let changed = store.changed(&room("conversation:c"), &ids).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].content.as_ref().unwrap().get(), "\"new\"");
    assert_eq!(
        (changed[0].edited_at, changed[0].deleted_at),
        (Some(at(3)), None)
    );
    // An edit is no message.
    assert!(store.message(&event("c-3")).await.unwrap().is_none());
}

async fn reactions_count_users_once(fixture: Fixture) {
    let store = &fixture.store;
    let (id, ann, bob) = (event("m"), user("ann"), user("bob"));
    assert_eq!(store.react(&id, &bob, "+", at(1)).await.unwrap(), 1);
    assert_eq!(store.react(&id, &ann, "+", at(2)).await.unwrap(), 2);
    assert_eq!(store.react(&id, &ann, "+", at(3)).await.unwrap(), 2);
    assert_eq!(store.react(&id, &ann, "-", at(4)).await.unwrap(), 1);
    assert_eq!(store.unreact(&id, &ann, "-", at(5)).await.unwrap(), 0);
    assert_eq!(store.unreact(&id, &ann, "-", at(6)).await.unwrap(), 0);
    assert_eq!(store.unreact(&id, &ann, "never", at(6)).await.unwrap(), 0);
    let found = store
        .reactions(&[id.clone(), event("other")])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].emoji.as_str(), found[0].count), ("+", 2));
    assert_eq!(
        found[0].users,
        [bob, ann],
        "in the order in which they reacted"
    );
}

async fn a_late_event_does_not_undo_what_was_asked_since(fixture: Fixture) {
    let store = &fixture.store;
    let (id, ann) = (event("c-1"), user("ann"));
    let data = r#"{"messageId":"c-1","emoji":"+"}"#;
    let added = archived("REACTION_ADDED", "ann", 5, data);
    let removed = archived("REACTION_REMOVED", "ann", 6, data);
    store.react(&id, &ann, "+", at(5)).await.unwrap();
    assert_eq!(store.unreact(&id, &ann, "+", at(6)).await.unwrap(), 0);
    fixture.archive(vec![added.clone()]).await;
    assert!(
        store
            .reactions(std::slice::from_ref(&id))
            .await
            .unwrap()
            .is_empty()
    );
    fixture.archive(vec![removed, added]).await;
    assert!(store.reactions(&[id]).await.unwrap().is_empty());
}

async fn only_the_first_hundred_users_are_named(fixture: Fixture) {
    let store = &fixture.store;
    for n in 0..130 {
        store
            .react(&event("m"), &user(&format!("u{n:03}")), "+", at(n))
            .await
            .unwrap();
    }
    let found = store.reactions(&[event("m")]).await.unwrap().remove(0);
    assert_eq!((found.count, found.users.len()), (130, 100));
    assert_eq!(found.users[99], user("u099"));
}

async fn notifications_are_listed_and_read(fixture: Fixture) {
    let store = &fixture.store;
    let ann = user("ann");
    let rows: Vec<_> = (1..=5)
        .map(|seq| archived_in("user:ann", "MENTION", "ann", seq, r#"{"by":"bob"}"#))
        .collect();
    fixture.archive(rows.clone()).await;
    fixture.archive(rows).await;
    let seqs = |before, unread| {
        let ann = ann.clone();
        async move {
            let page = store.notifications(&ann, before, unread, 3).await.unwrap();
            page.iter().map(|n| n.position.seq.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(seqs(None, false).await, [5, 4, 3]);
    assert_eq!(seqs(Some(place(1, 3)), false).await, [2, 1]);
    assert_eq!(seqs(Some(place(0, 3)), false).await, [2, 1]);
    assert_eq!(store.unread_notifications(&ann).await.unwrap(), 5);
    let some = [event("ann-4"), event("ann-9")];
    assert_eq!(
        store
            .read_notifications(&ann, Some(&some), at(9))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .read_notifications(&ann, Some(&some), at(9))
            .await
            .unwrap(),
        0
    );
    assert_eq!(seqs(None, true).await, [5, 3, 2]);
    // Another user's are another user's.
    assert_eq!(
        store
            .read_notifications(&user("bob"), Some(&[event("ann-5")]), at(9))
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store.read_notifications(&ann, None, at(9)).await.unwrap(),
        4
    );
    assert_eq!(store.unread_notifications(&ann).await.unwrap(), 0);
    let first = store
        .notifications(&ann, None, false, 1)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (first.kind.as_str(), first.data.get()),
        ("MENTION", r#"{"by":"bob"}"#)
    );
    assert_eq!((first.at, first.read_at), (at(5), Some(at(9))));
}
