//! Accounts, bans, sessions.

use vestibule::store::{Error, NewUser, Session, UserChanges};
use vestibule::types::{Secret, Timestamp};

use super::{Fixture, at, json, suite, user, users};

suite! {
    an_account_is_found_by_id_and_email
    an_id_or_email_that_is_taken_is_told_apart
    a_profile_changes_in_what_is_given
    a_ban_needs_no_account
    a_session_ends_once
    all_sessions_but_one_end
    a_token_made_elsewhere_can_be_revoked
    sessions_are_forgotten_when_their_tokens_are_invalid_anyway
}

fn account(id: &str, email: &str) -> NewUser {
    NewUser {
        id: user(id),
        email: email.to_owned(),
        name: format!("name of {id}"),
        password: Secret::new("$argon2id$hash".to_owned()),
        attributes: json(r#"{"b":1,"a":2.0}"#),
        at: at(5),
    }
}

fn session(token: &str, owner: &str, created_ms: i64) -> Session {
    Session {
        token_id: token.to_owned(),
        user: user(owner),
        device: "a browser".to_owned(),
        address: "127.0.0.1".to_owned(),
        created_at: at(created_ms),
        expires_at: at(created_ms + 1_000),
        revoked_at: None,
    }
}

async fn an_account_is_found_by_id_and_email(fixture: Fixture) {
    let store = &fixture.store;
    store.create_user(account("ann", "ann@x")).await.unwrap();
    store.create_user(account("bob", "bob@x")).await.unwrap();
    let ann = store.user(&user("ann")).await.unwrap().unwrap();
    assert_eq!(
        (ann.name.as_str(), ann.email.as_deref(), ann.role.as_str()),
        ("name of ann", Some("ann@x"), "user")
    );
    assert_eq!(ann.attributes.get(), r#"{"b":1,"a":2.0}"#);
    assert_eq!((ann.created_at, ann.updated_at), (at(5), at(5)));
    let (found, password) = store.user_by_email("bob@x").await.unwrap().unwrap();
    assert_eq!(
        (found.id, password.reveal().as_str()),
        (user("bob"), "$argon2id$hash")
    );
    assert!(store.user_by_email("carl@x").await.unwrap().is_none());
    assert!(store.user(&user("carl")).await.unwrap().is_none());
    let ids = users(&["carl", "bob", "ann", "bob"]);
    let mut found: Vec<_> = store
        .users(&ids)
        .await
        .unwrap()
        .into_iter()
        .map(|u| u.id)
        .collect();
    found.sort();
    assert_eq!(found, users(&["ann", "bob"]));
}

async fn an_id_or_email_that_is_taken_is_told_apart(fixture: Fixture) {
    let store = &fixture.store;
    store.create_user(account("ann", "ann@x")).await.unwrap();
    for (id, email, taken) in [("ann", "new@x", "user"), ("new", "ann@x", "email")] {
        let refused = store.create_user(account(id, email)).await.unwrap_err();
        assert!(
            matches!(refused, Error::Exists(what) if what == taken),
            "{refused:?}"
        );
    }
    assert!(store.user(&user("new")).await.unwrap().is_none());
}

async fn a_profile_changes_in_what_is_given(fixture: Fixture) {
    let store = &fixture.store;
    store.create_user(account("ann", "ann@x")).await.unwrap();
    let name = UserChanges {
        name: Some("Ann".to_owned()),
        attributes: None,
    };
    let changed = store
        .update_user(&user("ann"), name, at(9))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((changed.name.as_str(), changed.updated_at), ("Ann", at(9)));
    assert_eq!(changed.attributes.get(), r#"{"b":1,"a":2.0}"#);
    let attributes = UserChanges {
        name: None,
        attributes: Some(json("{}")),
    };
    let changed = store
        .update_user(&user("ann"), attributes, at(10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.attributes.get()),
        ("Ann", "{}")
    );
    let nobody = store
        .update_user(&user("bob"), UserChanges::default(), at(1))
        .await
        .unwrap();
    assert!(nobody.is_none());
}

async fn a_ban_needs_no_account(fixture: Fixture) {
    let store = &fixture.store;
    let until = |ms| Some(at(ms));
    assert_eq!(store.banned_until(&user("ann")).await.unwrap(), None);
    for ban in [until(70), until(70), until(90)] {
        store.ban(&user("ann"), ban, at(1)).await.unwrap();
        assert_eq!(store.banned_until(&user("ann")).await.unwrap(), ban);
    }
    let ann = store.create_user(account("ann", "ann@x")).await.unwrap();
    assert_eq!(ann.banned_until, until(90));
    for _ in 0..2 {
        store.ban(&user("ann"), None, at(2)).await.unwrap();
        assert_eq!(store.banned_until(&user("ann")).await.unwrap(), None);
    }
}

async fn a_session_ends_once(fixture: Fixture) {
    let store = &fixture.store;
    let (one, two) = (session("t1", "ann", 10), session("t2", "ann", 20));
    for session in [&one, &two, &one] {
        store.open_session(session).await.unwrap();
    }
    let live = |now: Timestamp| store.sessions_of(&one.user, now);
    assert_eq!(live(at(30)).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(
        live(at(1_015)).await.unwrap(),
        std::slice::from_ref(&two),
        "the first has expired"
    );
    assert!(store.revoke_session(&two, at(40)).await.unwrap());
    assert!(!store.revoke_session(&two, at(41)).await.unwrap());
    assert_eq!(live(at(30)).await.unwrap(), std::slice::from_ref(&one));
    let ended = store.session("t2").await.unwrap().unwrap();
    assert_eq!(ended.revoked_at, Some(at(40)));
    // A login that is told again, late, does not come back to life.
    store.open_session(&two).await.unwrap();
    assert_eq!(store.session("t2").await.unwrap(), Some(ended));
    assert_eq!(store.session("t3").await.unwrap(), None);
}

async fn all_sessions_but_one_end(fixture: Fixture) {
    let store = &fixture.store;
    for (token, owner) in [("a", "ann"), ("b", "ann"), ("c", "ann"), ("x", "bob")] {
        store
            .open_session(&session(token, owner, 10))
            .await
            .unwrap();
    }
    let mut ended = store
        .revoke_sessions_of(&user("ann"), Some("b"), at(20))
        .await
        .unwrap();
    ended.sort();
    assert_eq!(ended, ["a", "c"]);
    assert!(
        store
            .revoke_sessions_of(&user("ann"), Some("b"), at(21))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store
            .revoke_sessions_of(&user("ann"), None, at(22))
            .await
            .unwrap(),
        ["b"]
    );
    assert_eq!(
        store.sessions_of(&user("bob"), at(30)).await.unwrap().len(),
        1
    );
}

async fn a_token_made_elsewhere_can_be_revoked(fixture: Fixture) {
    let store = &fixture.store;
    let elsewhere = session("foreign", "ann", 10);
    assert!(store.revoke_session(&elsewhere, at(20)).await.unwrap());
    assert!(!store.revoke_session(&elsewhere, at(21)).await.unwrap());
    let known = store.session("foreign").await.unwrap().unwrap();
    assert_eq!(known.revoked_at, Some(at(20)));
    assert!(
        store
            .sessions_of(&user("ann"), at(30))
            .await
            .unwrap()
            .is_empty()
    );
}

async fn sessions_are_forgotten_when_their_tokens_are_invalid_anyway(fixture: Fixture) {
    let store = &fixture.store;
    for n in 0..1_200 {
        let session = session(&format!("t{n}"), "ann", n);
        store.open_session(&session).await.unwrap();
    }
    store
        .revoke_session(&session("t1100", "ann", 1_100), at(1))
        .await
        .unwrap();
    assert_eq!(store.forget_sessions(at(2_100)).await.unwrap(), 1_100);
    assert_eq!(store.forget_sessions(at(2_100)).await.unwrap(), 0);
    assert!(
        store
            .session("t1100")
            .await
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
}
