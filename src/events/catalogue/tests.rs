use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::*;
use crate::events::{Author, Effect, PRESETS, form, view};
use crate::types::{Code, Epoch, Position, Seq, Timestamp, UserId};

/// Topic by topic, what the built-in catalogue must hold.
const TYPES: &[(&str, &[&str])] = &[
    (
        "messages",
        &[
            "MESSAGE_SENT",
            "PRIVATE_MESSAGE",
            "MESSAGE_EDITED",
            "MESSAGE_DELETED",
            "MESSAGE_READ",
            "REACTION_ADDED",
            "REACTION_REMOVED",
        ],
    ),
    ("", &["TYPING_START", "TYPING_STOP", "PRESENCE_CHANGED"]),
    ("user-activity", &["USER_ONLINE", "USER_OFFLINE"]),
    (
        "user-events",
        &[
            "USER_SIGNUP",
            "USER_LOGIN",
            "USER_REGISTERED",
            "PROFILE_UPDATED",
            "user.created",
            "user.updated",
        ],
    ),
    (
        "connection-events",
        &[
            "CONNECTION_REQUEST",
            "CONNECTION_ACCEPTED",
            "CONNECTION_REJECTED",
        ],
    ),
    (
        "notifications",
        &[
            "MENTION",
            "MESSAGE_NOTIFICATION",
            "CONNECTION_REQUEST_NOTIFICATION",
            "ASSIGNMENT_DUE",
            "GRADE_POSTED",
            "ANNOUNCEMENT",
            "notification.created",
        ],
    ),
    (
        "complaints",
        &[
            "complaint.created",
            "complaint.updated",
            "complaint.deleted",
        ],
    ),
    (
        "analytics-events",
        &[
            "MESSAGE_ANALYTICS",
            "PROFILE_VIEW_ANALYTICS",
            "SEARCH_PERFORMED",
            "SEARCH_RESULT_CLICKED",
            "ENGAGEMENT_RECORDED",
        ],
    ),
    (
        "system-events",
        &[
            "COURSE_ENROLLED",
            "CONVERSATION_CREATED",
            "MEMBER_ADDED",
            "MEMBER_REMOVED",
            "MEMBER_CHANGED",
            "CANARY",
        ],
    ),
];

#[test]
fn the_builtin_catalogue_holds_every_type_in_its_topic() {
    let catalogue = Catalogue::builtin();
    for (topic, kinds) in TYPES {
        for kind in *kinds {
            let row = catalogue.by_type(kind).expect(kind);
            assert_eq!(row.topic.as_deref().unwrap_or(""), *topic, "{kind}");
        }
    }
    let count: usize = TYPES.iter().map(|(_, kinds)| kinds.len()).sum();
    assert_eq!(catalogue.rows().len(), count);
}

#[test]
fn client_and_server_events_are_those_that_clients_know() {
    let catalogue = Catalogue::builtin();
    let clients: BTreeSet<_> = catalogue
        .rows()
        .iter()
        .filter_map(|r| r.client.as_deref())
        .collect();
    let known = [
        "connection:accept",
        "connection:reject",
        "connection:request",
        "message:delete",
        "message:edit",
        "message:read",
        "message:send",
        "reaction:add",
        "reaction:remove",
        "typing:start",
        "typing:stop",
    ];
    assert_eq!(clients, BTreeSet::from(known));
    let servers: BTreeSet<_> = catalogue
        .rows()
        .iter()
        .filter_map(|r| r.server.as_deref())
        .collect();
    let known = [
        "connection:accepted",
        "connection:rejected",
        "connection:request",
        "conversation:changed",
        "message:deleted",
        "message:edited",
        "message:new",
        "message:read",
        "notification:new",
        "presence",
        "private-message",
        "reaction:added",
        "reaction:removed",
        "typing:start",
        "typing:stop",
        "user:offline",
        "user:online",
        "vestibule:canary",
    ];
    assert_eq!(servers, BTreeSet::from(known));
}

#[test]
fn a_message_is_an_entry_of_the_history_and_limited() {
    let catalogue = Catalogue::builtin();
    let send = catalogue.by_client("message:send").unwrap();
    assert_eq!((&*send.kind, send.who), ("MESSAGE_SENT", Who::Members));
    assert!(send.is_in_timeline && send.is_in_history && !send.is_coded);
    assert_eq!(send.dedup_window, Some(Duration::from_secs(1_200)));
    let limiter = send.limiter.as_ref().unwrap();
    assert_eq!((limiter.count, limiter.per), (30, Duration::from_secs(60)));
    let emitted: Vec<_> = send.emits.iter().map(|emit| &*emit.kind).collect();
    let expected = [
        "PRIVATE_MESSAGE",
        "MESSAGE_NOTIFICATION",
        "MENTION",
        "MESSAGE_ANALYTICS",
    ];
    assert_eq!(emitted, expected);
    let others = catalogue.rows().iter().filter(|row| row.is_in_history);
    assert_eq!(others.count(), 1);
}

#[test]
fn what_needs_an_owner_is_never_made_of_a_clients_data_alone() {
    let catalogue = Catalogue::builtin();
    for client in [
        "message:edit",
        "message:delete",
        "message:read",
        "reaction:add",
        "connection:accept",
    ] {
        assert!(catalogue.by_client(client).unwrap().is_coded, "{client}");
    }
}

#[test]
fn presets_carry_their_systems_topics() {
    let topic = |preset: &str, kind: &str| {
        let catalogue = Catalogue::with(preset, None).unwrap();
        catalogue
            .by_type(kind)
            .unwrap()
            .topic
            .clone()
            .unwrap()
            .to_string()
    };
    assert_eq!(topic("devconnect", "MESSAGE_SENT"), "message-events");
    assert_eq!(topic("devconnect", "TYPING_START"), "user-activity");
    assert_eq!(topic("residents", "complaint.created"), "complaint.created");
    assert_eq!(topic("community", "REACTION_ADDED"), "reactions");
    assert_eq!(topic("community", "MESSAGE_SENT"), "messages");
    assert_eq!(topic("classroom", "GRADE_POSTED"), "assignment-events");
    for (preset, _) in PRESETS {
        let rows = Catalogue::with(preset, None).unwrap().rows().len();
        assert_eq!(rows, Catalogue::builtin().rows().len(), "{preset}");
    }
    assert_eq!(Catalogue::with("nobody", None).unwrap_err().0.len(), 1);
}

const OPERATORS: &str = r#"
[limiter.orders]
count = 5
per = "10s"
by = "user"

[[event]]
type = "ORDER_PLACED"
client = "order:place"
who = "members"
limiter = "orders"
topic = "orders"
room = "course:{data.shop}"
server = "order:placed"
view = ["id", "userId", "amount=data.total", "epoch", "seq"]

[event.schema]
required = ["shop", "order", "total"]
additionalProperties = false
properties.shop = { type = "string", format = "id" }
properties.order = { type = "string", format = "id" }
properties.total = { type = "number", exclusiveMinimum = 0 }

[[event.effect]]
action = "upsert"
kind = "order"
id = "{data.order}"
ttl = "10m"

[[event.emit]]
type = "notification.created"
data = { title = "order {data.order}" }

[[event]]
type = "MESSAGE_SENT"
topic = "chat"
"#;

#[test]
fn an_operators_file_alone_adds_an_event() {
    let file = Layer {
        name: "shop.toml",
        text: OPERATORS,
    };
    let catalogue = Catalogue::with("none", Some(file)).unwrap();
    assert_eq!(
        catalogue.by_type("MESSAGE_SENT").unwrap().topic.as_deref(),
        Some("chat")
    );
    assert!(catalogue.topics().contains(&Arc::from("orders")));
    let row = catalogue.by_client("order:place").unwrap();
    let place = |data: &str| {
        let author = Author {
            user: UserId::parse("ann").unwrap(),
            at: Timestamp::from_millis(0),
            random: [0; 16],
        };
        form(row, author, RawValue::from_string(data.to_owned()).unwrap())
    };
    let (envelope, room) = place(r#"{"shop":"s1","order":"o1","total":2.5}"#).unwrap();
    assert_eq!(room.unwrap().as_str(), "course:s1");
    let at = Position {
        epoch: Epoch(1),
        seq: Seq(2),
    };
    let shown = view(&catalogue, &envelope, at).unwrap();
    assert_eq!(&*shown.event, "order:placed");
    assert_eq!(
        shown.json,
        r#"{"id":"AAAAAAAAAAAAAAAAAAAAAA","userId":"ann","amount":2.5,"epoch":1,"seq":2}"#
    );
    let Effect::Upsert { kind, id, ttl } = &row.effects[0] else {
        panic!("an order is a record")
    };
    assert_eq!(
        (&**kind, id.fill(&envelope).unwrap()),
        ("order", "o1".to_owned())
    );
    assert_eq!(*ttl, Some(Duration::from_secs(600)));
    let follows = crate::events::derive::envelope(
        &envelope,
        &row.emits[0],
        &envelope.user_id,
        envelope.timestamp,
    );
    assert_eq!(follows.data.get(), r#"{"title":"order o1"}"#);
    let cases = [
        (r#"{"shop":"s1","order":"o1"}"#, "total"),
        (r#"{"shop":"s1","order":"o1","total":0}"#, "total"),
        (r#"{"shop":"s1","order":"o1","total":1,"more":1}"#, "more"),
    ];
    for (data, field) in cases {
        let problem = place(data).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (Code::Invalid, Some(field)),
            "{data}"
        );
    }
}

#[test]
fn a_file_that_replaces_stands_alone() {
    let text = "replace = true\n[[event]]\ntype = \"A\"\ntopic = \"t\"\nschema = {}";
    let file = Layer { name: "f", text };
    assert_eq!(
        Catalogue::with("community", Some(file))
            .unwrap()
            .rows()
            .len(),
        1
    );
}
