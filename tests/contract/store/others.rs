//! Connections, groups, records, replies, last seen; and what one batch promises.

use vestibule::backend::error::Error as DatabaseError;
use vestibule::backend::statement::{Row, Statement, Value};
use vestibule::store::{Error, Record, Reply, Status, Sweeper};

use super::{Fixture, at, json, room, suite, user, users};

suite! {
    a_pair_has_one_connection
    connections_are_paged_newest_first
    who_belongs_to_a_group
    the_higher_version_of_a_record_stays
    a_request_is_answered_once_for_its_key
    a_key_given_up_is_begun_by_one
    last_seen_never_goes_back
    a_batch_is_done_whole_or_not_at_all
    a_sweep_forgets_what_has_had_its_time
}

async fn a_pair_has_one_connection(fixture: Fixture) {
    let store = &fixture.store;
    let (ann, bob, eve) = (user("ann"), user("bob"), user("eve"));
    let asked = store
        .request_connection("r1", &ann, &bob, at(1))
        .await
        .unwrap();
    assert_eq!((asked.status, &asked.from), (Status::Pending, &ann));
    for (id, from, to) in [("r1", &ann, &bob), ("r2", &ann, &bob), ("r3", &bob, &ann)] {
        let again = store.request_connection(id, from, to, at(2)).await.unwrap();
        assert_eq!(again, asked);
    }
    let taken = store
        .request_connection("r1", &ann, &eve, at(2))
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::Exists("connection")), "{taken:?}");
    for stranger in [&ann, &eve] {
        let refused = store
            .answer_connection("r1", stranger, Status::Accepted, at(3))
            .await;
        assert!(matches!(refused.unwrap_err(), Error::Missing("connection")));
    }
    let rejected = store
        .answer_connection("r1", &bob, Status::Rejected, at(4))
        .await
        .unwrap();
    assert_eq!(
        (rejected.status, rejected.updated_at),
        (Status::Rejected, at(4))
    );
    let same = store
        .answer_connection("r1", &bob, Status::Rejected, at(5))
        .await
        .unwrap();
    assert_eq!(same, rejected);
    let otherwise = store
        .answer_connection("r1", &bob, Status::Accepted, at(5))
        .await;
    assert!(matches!(
        otherwise.unwrap_err(),
        Error::Missing("connection")
    ));
    let anew = store
        .request_connection("r4", &bob, &ann, at(6))
        .await
        .unwrap();
    assert_eq!(
        (anew.id.as_str(), &anew.to, anew.status),
        ("r4", &ann, Status::Pending)
    );
    assert!(!store.are_connected(&ann, &bob).await.unwrap());
    store
        .answer_connection("r4", &ann, Status::Accepted, at(7))
        .await
        .unwrap();
    assert!(store.are_connected(&ann, &bob).await.unwrap());
    assert!(store.are_connected(&bob, &ann).await.unwrap());
    assert_eq!(store.connection("r1").await.unwrap(), None);
}

async fn connections_are_paged_newest_first(fixture: Fixture) {
    let store = &fixture.store;
    let ann = user("ann");
    for n in 0..5 {
        let (id, other) = (format!("r{n}"), user(&format!("u{n}")));
        let (from, to) = if n % 2 == 0 {
            (&ann, &other)
        } else {
            (&other, &ann)
        };
        store
            .request_connection(&id, from, to, at(n / 2))
            .await
            .unwrap();
    }
    store
        .answer_connection("r1", &ann, Status::Accepted, at(9))
        .await
        .unwrap();
    let ids = |status, before: Option<(i64, &str)>| {
        let before = before.map(|(ms, id)| (at(ms), id.to_owned()));
        let ann = ann.clone();
        async move {
            let found = store.connections_of(&ann, status, before, 3).await.unwrap();
            found.into_iter().map(|c| c.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids(None, None).await, ["r4", "r3", "r2"]);
    assert_eq!(ids(None, Some((1, "r2"))).await, ["r1", "r0"]);
    assert_eq!(ids(Some(Status::Accepted), None).await, ["r1"]);
}

async fn who_belongs_to_a_group(fixture: Fixture) {
    let store = &fixture.store;
    let (ann, bob) = (user("ann"), user("bob"));
    let (course, building) = (room("course:bio"), room("building:7"));
    assert!(store.enroll(&course, &ann, at(1)).await.unwrap());
    assert!(!store.enroll(&course, &ann, at(2)).await.unwrap());
    for member in [&ann, &bob] {
        store.enroll(&building, member, at(1)).await.unwrap();
    }
    assert_eq!(
        store.groups_of(&ann).await.unwrap(),
        [building.clone(), course.clone()]
    );
    assert!(
        !store.share_course(&ann, &bob).await.unwrap(),
        "a building is no course"
    );
    store.enroll(&course, &bob, at(1)).await.unwrap();
    assert!(store.share_course(&ann, &bob).await.unwrap());
    assert_eq!(
        store.group_members(&course, None, 9).await.unwrap(),
        users(&["ann", "bob"])
    );
    assert_eq!(
        store.group_members(&course, Some(&ann), 9).await.unwrap(),
        users(&["bob"])
    );
    assert!(store.withdraw(&course, &ann).await.unwrap());
    assert!(!store.withdraw(&course, &ann).await.unwrap());
    assert!(!store.is_in_group(&course, &ann).await.unwrap());
    assert!(store.is_in_group(&building, &ann).await.unwrap());
}

async fn the_higher_version_of_a_record_stays(fixture: Fixture) {
    let store = &fixture.store;
    let put = |version, data: &str| {
        let record = Record {
            kind: "complaints".to_owned(),
            id: "7".to_owned(),
            data: json(data),
            version,
            updated_at: at(version),
        };
        async move { store.put_record(&record).await.unwrap() }
    };
    let now = || async {
        let found = store.record("complaints", "7").await.unwrap();
        found.map(|record| (record.version, record.data.get().to_owned()))
    };
    let delete = |version| store.delete_record("complaints", "7", version, at(version));
    assert_eq!(now().await, None);
    assert!(put(5, r#"{"a":5}"#).await);
    assert!(put(5, r#"{"a":5}"#).await);
    assert!(!put(4, "{}").await);
    assert_eq!(now().await, Some((5, r#"{"a":5}"#.to_owned())));
    assert!(!delete(4).await.unwrap());
    assert!(delete(6).await.unwrap());
    assert!(delete(6).await.unwrap());
    assert_eq!(now().await, None);
    assert!(!put(5, "{}").await, "a late write does not undo a deletion");
    assert!(!put(6, "{}").await);
    assert!(put(7, "{}").await);
    assert_eq!(now().await, Some((7, "{}".to_owned())));
}

async fn a_request_is_answered_once_for_its_key(fixture: Fixture) {
    let store = &fixture.store;
    let ann = user("ann");
    let begin = |key: &'static str, ms| store.begin_reply(&ann, key, "hash", at(ms), at(ms - 100));
    assert_eq!(begin("k", 1_000).await.unwrap(), None);
    let busy = begin("k", 1_001).await.unwrap().unwrap();
    assert_eq!((busy.status, busy.request.as_str()), (0, "hash"));
    let reply = Reply {
        request: "hash".to_owned(),
        status: 201,
        body: "{}".to_owned(),
    };
    for _ in 0..2 {
        store.end_reply(&ann, "k", &reply).await.unwrap();
        assert_eq!(begin("k", 9_000).await.unwrap(), Some(reply.clone()));
    }
    store.abandon_reply(&ann, "k").await.unwrap();
    assert_eq!(
        begin("k", 9_000).await.unwrap(),
        Some(reply),
        "an answer is not taken back"
    );
    assert_eq!(begin("stale", 1_000).await.unwrap(), None);
    assert_eq!(
        begin("stale", 1_101).await.unwrap(),
        None,
        "who began it is gone"
    );
    assert_eq!(begin("other", 1_000).await.unwrap(), None);
    store.abandon_reply(&ann, "other").await.unwrap();
    assert_eq!(begin("other", 1_001).await.unwrap(), None);
    assert_eq!(store.forget_replies(at(1_050)).await.unwrap(), 2);
    assert_eq!(store.forget_replies(at(1_050)).await.unwrap(), 0);
}

async fn a_key_given_up_is_begun_by_one(fixture: Fixture) {
    let store = &fixture.store;
    let ann = user("ann");
    let begin = || async {
        let known = store.begin_reply(&ann, "k", "hash", at(1), at(0)).await;
        if known.unwrap().is_none() {
            store.abandon_reply(&ann, "k").await.unwrap();
            return 1;
        }
        0
    };
    let mut begun = 0;
    for _ in 0..50 {
        let turn = futures_util::future::join_all((0..8).map(|_| begin())).await;
        begun += turn.iter().sum::<i32>();
    }
    assert!(begun >= 50, "{begun}");
}

async fn last_seen_never_goes_back(fixture: Fixture) {
    let store = &fixture.store;
    let both = users(&["ann", "bob"]);
    store.seen(&both, at(5)).await.unwrap();
    store.seen(&both[..1], at(9)).await.unwrap();
    store.seen(&both, at(7)).await.unwrap();
    let mut found = store
        .last_seen(&users(&["ann", "bob", "eve"]))
        .await
        .unwrap();
    found.sort();
    assert_eq!(found, [(user("ann"), at(9)), (user("bob"), at(7))]);
    assert!(store.last_seen(&[]).await.unwrap().is_empty());
}

async fn a_batch_is_done_whole_or_not_at_all(fixture: Fixture) {
    let database = &fixture.database;
    let insert = |id: &str, at: i64| {
        Statement::new(
            "INSERT INTO last_seen (user_id, at) VALUES ($1, $2)",
            [Value::from(id), Value::from(at)],
        )
    };
    let find = |id: &str| {
        Statement::new(
            "SELECT at FROM last_seen WHERE user_id = $1",
            [Value::from(id)],
        )
    };
    // Sent together, so that they share a transaction.
    let (unmet, twice, wrong, fine) = tokio::join!(
        database.write(vec![insert("a", 1), find("nobody").must(), insert("b", 1)]),
        database.write(vec![insert("c", 1), insert("c", 2)]),
        database.write(vec![insert("d", 1), Statement::new("SELECT nonsense", [])]),
        database.write(vec![
            insert("e", 7),
            find("e").must(),
            find("a"),
            find("c"),
            find("d")
        ]),
    );
    assert!(matches!(*unmet.unwrap_err(), DatabaseError::Unmet(1)));
    assert!(matches!(*twice.unwrap_err(), DatabaseError::Unique(_)));
    assert!(matches!(*wrong.unwrap_err(), DatabaseError::Refused(_)));
    let seven = vec![Row(vec![Value::Integer(7)])];
    assert_eq!(
        fine.unwrap(),
        [vec![], seven.clone(), vec![], vec![], vec![]]
    );
    assert_eq!(database.read(find("e")).await.unwrap(), seven);
    assert_eq!(database.read(find("a")).await.unwrap(), []);
}

async fn a_sweep_forgets_what_has_had_its_time(fixture: Fixture) {
    let store = &fixture.store;
    let day = 86_400_000;
    store
        .begin_reply(&user("ann"), "k", "hash", at(0), at(0))
        .await
        .unwrap();
    let sweeper = Sweeper::new(store.clone(), std::time::Duration::from_secs(86_400));
    assert_eq!(sweeper.sweep(at(day)).await.unwrap(), 0);
    assert_eq!(sweeper.sweep(at(day + 1)).await.unwrap(), 1);
}
