//! Conversations, members, cursors.

use vestibule::store::{ConversationKind, Error, NewConversation, Role};

use super::{Fixture, at, conversation, message, place, suite, user, users};

suite! {
    a_conversation_made_again_is_the_same_one
    a_direct_conversation_is_there_once_for_each_pair
    members_come_and_go_and_are_counted
    a_member_who_left_does_not_come_back_with_a_retry
    cursors_move_forward_only
    lists_are_ordered_by_activity_and_paged
    a_list_shows_the_last_message_as_it_is_now
}

pub(super) fn group(id: &str, creator: &str, others: &[&str]) -> NewConversation {
    NewConversation {
        id: conversation(id),
        kind: ConversationKind::Group,
        title: format!("title of {id}"),
        creator: user(creator),
        others: users(others),
        at: at(5),
    }
}

fn direct(id: &str, creator: &str, other: &str) -> NewConversation {
    NewConversation {
        kind: ConversationKind::Direct,
        title: String::new(),
        ..group(id, creator, &[other])
    }
}

async fn a_conversation_made_again_is_the_same_one(fixture: Fixture) {
    let store = &fixture.store;
    let made = store
        .create_conversation(group("c", "ann", &["bob", "carl", "bob"]))
        .await
        .unwrap();
    assert_eq!((made.member_count, made.title.as_str()), (3, "title of c"));
    let again = store
        .create_conversation(group("c", "ann", &["dora"]))
        .await
        .unwrap();
    assert_eq!(again, made, "nothing is added");
    let refused = store
        .create_conversation(group("c", "bob", &[]))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Error::Exists("conversation")),
        "{refused:?}"
    );
    assert_eq!(
        store.conversation(&conversation("c")).await.unwrap(),
        Some(made)
    );
    assert_eq!(store.conversation(&conversation("d")).await.unwrap(), None);
    let roles = store.members(&conversation("c"), None, 10).await.unwrap();
    let roles: Vec<_> = roles.iter().map(|m| (m.user.as_str(), m.role)).collect();
    assert_eq!(
        roles,
        [
            ("ann", Role::Owner),
            ("bob", Role::Member),
            ("carl", Role::Member)
        ]
    );
}

async fn a_direct_conversation_is_there_once_for_each_pair(fixture: Fixture) {
    let store = &fixture.store;
    let made = store
        .create_conversation(direct("c1", "bob", "ann"))
        .await
        .unwrap();
    let other_way = store
        .create_conversation(direct("c2", "ann", "bob"))
        .await
        .unwrap();
    assert_eq!(other_way, made);
    assert_eq!(
        store.direct(&user("ann"), &user("bob")).await.unwrap(),
        Some(made.clone())
    );
    assert_eq!(
        store.direct(&user("ann"), &user("carl")).await.unwrap(),
        None
    );
    assert_eq!(store.conversation(&conversation("c2")).await.unwrap(), None);
    let listed = store
        .conversations_of(&user("ann"), None, 10)
        .await
        .unwrap();
    assert_eq!(listed[0].other, Some(user("bob")));
    let listed = store
        .conversations_of(&user("bob"), None, 10)
        .await
        .unwrap();
    assert_eq!(
        (&listed[0].other, listed[0].role),
        (&Some(user("ann")), Role::Member)
    );
    let taken = store
        .create_conversation(direct("c1", "carl", "dora"))
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::Exists("conversation")), "{taken:?}");
}

async fn members_come_and_go_and_are_counted(fixture: Fixture) {
    let store = &fixture.store;
    let id = conversation("c");
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    let add = |names: &'static [&'static str], role| {
        let id = id.clone();
        async move {
            store
                .add_members(&id, &users(names), role, at(9))
                .await
                .unwrap()
        }
    };
    assert_eq!(
        add(&["bob", "carl", "dora"], Role::Member).await,
        users(&["carl", "dora"])
    );
    assert!(add(&["bob", "carl"], Role::Moderator).await.is_empty());
    assert_eq!(
        store.role(&id, &user("bob")).await.unwrap(),
        Some(Role::Moderator)
    );
    assert_eq!(store.role(&id, &user("eve")).await.unwrap(), None);
    let after = store.members(&id, Some(&user("ann")), 2).await.unwrap();
    let after: Vec<_> = after.iter().map(|m| m.user.clone()).collect();
    assert_eq!(after, users(&["bob", "carl"]));
    assert!(store.remove_member(&id, &user("bob")).await.unwrap());
    assert!(!store.remove_member(&id, &user("bob")).await.unwrap());
    let counted = store.conversation(&id).await.unwrap().unwrap().member_count;
    assert_eq!(counted, 3);
    assert!(
        store
            .share_conversation(&user("ann"), &user("dora"))
            .await
            .unwrap()
    );
    assert!(
        !store
            .share_conversation(&user("ann"), &user("bob"))
            .await
            .unwrap()
    );
    let (none, ann) = (conversation("none"), users(&["ann"]));
    let nowhere = store.add_members(&none, &ann, Role::Member, at(9));
    assert!(matches!(
        nowhere.await.unwrap_err(),
        Error::Missing("conversation")
    ));
}

async fn a_member_who_left_does_not_come_back_with_a_retry(fixture: Fixture) {
    let store = &fixture.store;
    let id = conversation("c");
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    store.remove_member(&id, &user("bob")).await.unwrap();
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    assert_eq!(store.role(&id, &user("bob")).await.unwrap(), None);
}

async fn cursors_move_forward_only(fixture: Fixture) {
    let store = &fixture.store;
    let (id, ann) = (conversation("c"), user("ann"));
    let read = |epoch, seq| store.read_up_to(&id, &ann, place(epoch, seq), at(1));
    assert!(read(1, 5).await.unwrap());
    assert!(!read(1, 5).await.unwrap());
    assert!(!read(1, 4).await.unwrap());
    assert!(read(2, 3).await.unwrap());
    store
        .read_up_to(&id, &user("bob"), place(1, 1), at(1))
        .await
        .unwrap();
    let cursors = store.cursors(&id, 10).await.unwrap();
    assert_eq!(
        cursors,
        [(ann.clone(), place(2, 3)), (user("bob"), place(1, 1))]
    );
    assert_eq!(store.cursors(&id, 1).await.unwrap().len(), 1);
}

async fn lists_are_ordered_by_activity_and_paged(fixture: Fixture) {
    let store = &fixture.store;
    for n in 0..5 {
        let new = NewConversation {
            at: at(10 + n),
            ..group(&format!("c{n}"), "ann", &["bob"])
        };
        store.create_conversation(new).await.unwrap();
    }
    fixture
        .archive(vec![super::archived_in(
            "conversation:c1",
            "MESSAGE_SENT",
            "bob",
            100,
            "{}",
        )])
        .await;
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store
            .conversations_of(&user("ann"), before, 2)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.active_at, last.conversation.id.clone()));
        seen.extend(page.iter().map(|l| l.conversation.id.to_string()));
    }
    assert_eq!(seen, ["c1", "c4", "c3", "c2", "c0"]);
    assert!(
        store
            .conversations_of(&user("carl"), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_list_shows_the_last_message_as_it_is_now(fixture: Fixture) {
    let store = &fixture.store;
    store
        .create_conversation(group("c", "ann", &["bob"]))
        .await
        .unwrap();
    let last = || async {
        let listed = store
            .conversations_of(&user("ann"), None, 1)
            .await
            .unwrap()
            .remove(0);
        (
            listed.active_at,
            listed
                .last
                .map(|m| (m.id.to_string(), m.position, m.content.to_string())),
        )
    };
    assert_eq!(last().await, (at(5), None));
    fixture
        .archive(vec![message("bob", 10), message("ann", 11)])
        .await;
    let shown = |content: &str| {
        (
            at(11),
            Some(("c-11".to_owned(), place(1, 11), content.to_owned())),
        )
    };
    assert_eq!(last().await, shown("\"text 11\""));
    let edited = super::archived(
        "MESSAGE_EDITED",
        "ann",
        12,
        r#"{"messageId":"c-11","content":"new"}"#,
    );
    fixture.archive(vec![edited]).await;
    assert_eq!(last().await, shown("\"new\""));
    let deleted = super::archived("MESSAGE_DELETED", "ann", 13, r#"{"messageId":"c-11"}"#);
    fixture.archive(vec![deleted]).await;
    assert_eq!(last().await, shown("null"));
}
