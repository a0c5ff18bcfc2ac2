//! Who is online, over devices, losses and returns; who may know; connections and courses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::client::{Client, Incoming};
use super::support::node::Node;
use super::support::wire::Response;

/// Long enough for a return on a busy machine, short enough to be waited out.
const GRACE: Duration = Duration::from_secs(4);

/// A user whose token opens no room.
async fn connect(node: &Node, user: &str) -> Client {
    Client::over(node.dial().await, &token(node, user)).await
}

fn token(node: &Node, user: &str) -> String {
    node.token_with(user, &["--rooms", "nothing:at-all"])
}

async fn call(node: &Node, line: &str, token: &str, body: &Value) -> Response {
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let mut wire = node.dial().await;
    wire.request(line, &headers, &body).await;
    wire.response().await.expect("an answer")
}

/// Makes two users see each other.
async fn befriend(node: &Node, one: &str, other: &str) {
    let wish = json!({ "toUserId": other });
    let asked = call(node, "POST /api/connections", &token(node, one), &wish).await;
    assert_eq!(asked.status, 201, "{}", asked.text());
    let asked = asked.json();
    let line = format!(
        "PATCH /api/connections/{}",
        asked["requestId"].as_str().unwrap()
    );
    let accept = json!({ "status": "accepted" });
    let accepted = call(node, &line, &token(node, other), &accept).await;
    assert_eq!(accepted.json()["status"], "accepted", "{}", accepted.text());
}

/// The data of the next event of one of these names.
async fn saw(client: &mut Client, names: &[&str]) -> (String, Value) {
    loop {
        match client.next().await.expect("an event") {
            Incoming::Event { name, data } if names.contains(&&*name) => return (name, data),
            _ => {}
        }
    }
}

async fn change(client: &mut Client) -> (String, Value) {
    saw(client, &["user:online", "user:offline"]).await
}

/// The change under its own name and, before or after it, as `presence`.
async fn both(client: &mut Client, event: &str, online: bool) {
    let mut left = vec![event, "presence"];
    while !left.is_empty() {
        let (name, data) = saw(client, &left).await;
        assert_eq!(data["userId"], "ada", "{data}");
        assert!(name != "presence" || data["online"] == online, "{data}");
        left.retain(|wanted| *wanted != name);
    }
}

fn code(ack: &Value) -> &str {
    ack["error"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("{ack}"))
}

#[tokio::test]
async fn a_user_of_two_devices_comes_once_returns_unnoticed_and_goes_once() {
    let grace = format!("{}ms", GRACE.as_millis());
    let node = Node::with(&[("presence.grace", &grace)]).await;
    befriend(&node, "ada", "bob").await;
    let mut bob = connect(&node, "bob").await;
    let ask = json!({ "userIds": ["ada"] });
    let ack = bob.ask_ok("presence:subscribe", &ask).await;
    assert_eq!(
        ack["presence"],
        json!([{ "userId": "ada", "online": false }])
    );
    let phone = connect(&node, "ada").await;
    let laptop = connect(&node, "ada").await;
    assert_eq!(
        change(&mut bob).await,
        ("user:online".into(), json!({ "userId": "ada" }))
    );
    // Cut, not closed: one after the other, and back before the grace is over.
    drop(phone);
    drop(laptop);
    tokio::time::sleep(GRACE / 4).await;
    let back = connect(&node, "ada").await;
    tokio::time::sleep(GRACE).await;
    let ack = bob
        .ask_ok("presence:query", &json!({ "userId": "ada" }))
        .await;
    assert_eq!(ack["online"], true, "{ack}");
    drop(back);
    let lost = Instant::now();
    // The very next change: nothing was told of the return.
    let (name, data) = change(&mut bob).await;
    assert_eq!((&*name, &data["userId"]), ("user:offline", &json!("ada")));
    let last_seen = data["lastSeen"].as_str().unwrap().to_owned();
    assert!(
        lost.elapsed() >= GRACE - Duration::from_millis(100),
        "{:?}",
        lost.elapsed()
    );
    let presence = call(
        &node,
        "GET /api/presence?users=ada",
        &token(&node, "bob"),
        &Value::Null,
    )
    .await;
    let expected = json!({ "userId": "ada", "online": false, "lastSeen": last_seen });
    assert_eq!(presence.json()["presence"], json!([expected]));
    // Coming again is told again, and nothing was told in between.
    let _again = connect(&node, "ada").await;
    assert_eq!(change(&mut bob).await.0, "user:online");
    assert_eq!(node.scrape().await.sum("presence_online"), 2.0);
    node.is_well().await;
}

#[tokio::test]
async fn who_leaves_on_purpose_is_offline_at_once() {
    let node = Node::with(&[("presence.grace", "1h")]).await;
    befriend(&node, "ada", "bob").await;
    let mut bob = connect(&node, "bob").await;
    bob.ask_ok("presence:subscribe", &json!({ "userIds": ["ada"] }))
        .await;
    let mut ada = connect(&node, "ada").await;
    both(&mut bob, "user:online", true).await;
    ada.wire.send_text("41").await;
    both(&mut bob, "user:offline", false).await;
    bob.ask_ok("presence:unsubscribe", &json!({ "userIds": ["ada"] }))
        .await;
    let _ada = connect(&node, "ada").await;
    bob.ask_ok("presence:query", &json!({ "userId": "ada" }))
        .await;
    let next = saw(&mut bob, &["user:online", "presence:state"]).await;
    assert_eq!(
        next.0, "presence:state",
        "nothing is told of who is not watched"
    );
}

#[tokio::test]
async fn only_who_is_visible_can_be_seen() {
    let node = Node::start().await;
    let mut bob = connect(&node, "bob").await;
    let _eve = connect(&node, "eve").await;
    let ack = bob.ask("presence:query", &json!({ "userId": "eve" })).await;
    assert_eq!(code(&ack), "forbidden");
    let ask = json!({ "userIds": ["eve", "bob"] });
    let ack = bob.ask_ok("presence:subscribe", &ask).await;
    assert_eq!(ack["refused"], json!(["eve"]));
    assert_eq!(
        ack["presence"],
        json!([{ "userId": "bob", "online": true }])
    );
    let line = "GET /api/presence?users=eve,bob";
    let presence = call(&node, line, &token(&node, "bob"), &Value::Null)
        .await
        .json();
    assert_eq!(
        presence["presence"].as_array().unwrap().len(),
        1,
        "{presence}"
    );
    for wrong in [
        json!({}),
        json!({ "userIds": [] }),
        json!({ "userIds": [7] }),
    ] {
        let ack = bob.ask("presence:subscribe", &wrong).await;
        assert_eq!(
            (code(&ack), &ack["error"]["field"]),
            ("invalid", &json!("userIds"))
        );
    }
    let unknown = json!({ "conversationId": "not-mine" });
    assert_eq!(
        code(&bob.ask("presence:subscribe", &unknown).await),
        "forbidden"
    );
}

#[tokio::test]
async fn everybody_sees_everybody_where_that_is_switched_on() {
    let node = Node::with(&[("presence.broadcast", "all"), ("presence.grace", "100ms")]).await;
    let mut bob = connect(&node, "bob").await;
    let eve = connect(&node, "eve").await;
    loop {
        let (name, data) = change(&mut bob).await;
        if data["userId"] == "eve" {
            assert_eq!(name, "user:online");
            break;
        }
    }
    let ack = bob
        .ask_ok("presence:query", &json!({ "userId": "eve" }))
        .await;
    assert_eq!(ack["online"], true);
    drop(eve);
    let (name, data) = change(&mut bob).await;
    assert_eq!((&*name, &data["userId"]), ("user:offline", &json!("eve")));
    assert!(data["lastSeen"].is_string(), "{data}");
}

#[tokio::test]
async fn register_is_for_the_user_whom_the_token_names() {
    let node = Node::start().await;
    let mut ada = connect(&node, "ada").await;
    let ack = ada.ask_ok("register", &json!("ada")).await;
    assert_eq!(
        (&ack["userId"], &ack["online"]),
        (&json!("ada"), &json!(true))
    );
    let (_, state) = saw(&mut ada, &["presence:state"]).await;
    assert_eq!(state, json!({ "userId": "ada", "online": true }));
    ada.ask_ok("register", &json!({ "userId": "ada" })).await;
    assert_eq!(code(&ada.ask("register", &json!("bob")).await), "forbidden");
    for wrong in [json!(7), json!(""), json!(null), json!([])] {
        assert_eq!(
            code(&ada.ask("register", &wrong).await),
            "invalid",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_large_conversation_is_told_as_a_number_and_batches() {
    let node = Node::with(&[("presence.grace", "100ms")]).await;
    let members: Vec<String> = (0..101).map(|n| format!("member-{n}")).collect();
    let bob = token(&node, "bob");
    let made = call(
        &node,
        "POST /api/conversations",
        &bob,
        &json!({ "title": "crowd" }),
    )
    .await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let line = format!("POST /api/conversations/{id}/members");
    for some in members.chunks(50) {
        let added = call(&node, &line, &bob, &json!({ "userIds": some })).await;
        assert!((200..300).contains(&added.status), "{}", added.text());
    }
    let mut bob = connect(&node, "bob").await;
    let ack = bob
        .ask_ok("presence:subscribe", &json!({ "conversationId": id }))
        .await;
    assert_eq!(ack["conversationId"], json!(id));
    assert!(
        ack["online"].as_u64().unwrap() <= 1 && ack["presence"].is_null(),
        "{ack}"
    );
    let mut came = Vec::new();
    for member in &members[..5] {
        came.push(connect(&node, member).await);
    }
    let mut online: Vec<String> = Vec::new();
    while online
        .iter()
        .filter(|user| user.starts_with("member"))
        .count()
        < 5
    {
        let (_, state) = saw(&mut bob, &["presence:state"]).await;
        assert_eq!(state["conversationId"], json!(id));
        for change in state["changes"].as_array().unwrap() {
            assert_eq!(change["online"], true, "{change}");
            online.push(change["userId"].as_str().unwrap().to_owned());
        }
    }
    // All but one leave at once.
    let stays = came.into_iter().next();
    loop {
        let (_, state) = saw(&mut bob, &["presence:state"]).await;
        if state["online"] == 2 {
            break;
        }
    }
    assert!(stays.is_some());
    // A smaller one is told by member.
    let small = json!({ "title": "small", "members": [members[0]] });
    let made = call(
        &node,
        "POST /api/conversations",
        &token(&node, "bob"),
        &small,
    )
    .await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let ack = bob
        .ask_ok("presence:subscribe", &json!({ "conversationId": id }))
        .await;
    assert_eq!(
        (
            ack["online"].as_u64(),
            ack["presence"].as_array().unwrap().len()
        ),
        (Some(2), 2)
    );
}

#[tokio::test]
async fn a_node_that_stops_forgets_nobody() {
    let mut node = Node::with(&[("presence.grace", "1h"), ("drain.parting", "100ms")]).await;
    befriend(&node, "ada", "bob").await;
    let ada = connect(&node, "ada").await;
    let before = call(
        &node,
        "GET /api/presence?users=ada",
        &token(&node, "bob"),
        &Value::Null,
    )
    .await;
    assert_eq!(before.json()["presence"][0]["online"], true);
    assert!(node.stop().await.success());
    drop(ada);
    node.run().await;
    let after = call(
        &node,
        "GET /api/presence?users=ada",
        &token(&node, "bob"),
        &Value::Null,
    )
    .await;
    let state = &after.json()["presence"][0];
    assert_eq!(state["online"], false);
    assert!(state["lastSeen"].is_string(), "{state}");
}

#[tokio::test]
async fn connections_are_asked_for_answered_and_listed() {
    let node = Node::start().await;
    let (mut ada, mut bob) = (connect(&node, "ada").await, connect(&node, "bob").await);
    let wish = json!({ "toUserId": "bob" });
    let ack = ada.ask_ok("connection:request", &wish).await;
    let id = ack["requestId"].as_str().unwrap().to_owned();
    let (_, seen) = saw(&mut bob, &["connection:request"]).await;
    for (name, value) in [
        ("requestId", &*id),
        ("fromUserId", "ada"),
        ("toUserId", "bob"),
    ] {
        assert_eq!(
            (&ack[name], &seen[name]),
            (&json!(value), &json!(value)),
            "{name}"
        );
    }
    // Asked again it is the same request; asked the other way round it is a conflict.
    assert_eq!(
        ada.ask_ok("connection:request", &wish).await["requestId"],
        json!(id)
    );
    let back = json!({ "toUserId": "ada" });
    assert_eq!(
        code(&bob.ask("connection:request", &back).await),
        "conflict"
    );
    assert_eq!(code(&ada.ask("connection:request", &back).await), "invalid");
    let answer = json!({ "requestId": id });
    assert_eq!(
        code(&ada.ask("connection:accept", &answer).await),
        "not_found"
    );
    let ack = bob.ask_ok("connection:accept", &answer).await;
    assert_eq!(ack["status"], "accepted");
    assert_eq!(
        saw(&mut ada, &["connection:accepted"]).await.1["requestId"],
        json!(id)
    );
    bob.ask_ok("connection:accept", &answer).await;
    assert_eq!(
        code(&bob.ask("connection:reject", &answer).await),
        "not_found"
    );
    assert_eq!(
        code(&ada.ask("connection:request", &wish).await),
        "conflict"
    );
    for (user, status, count) in [
        ("ada", "accepted", 1),
        ("bob", "accepted", 1),
        ("bob", "pending", 0),
    ] {
        let line = format!("GET /api/connections?status={status}");
        let list = call(&node, &line, &token(&node, user), &Value::Null)
            .await
            .json();
        let found = list["connections"].as_array().unwrap();
        assert_eq!(found.len(), count, "{user} {status}: {list}");
    }
    // Lists go on by cursor, the newest first.
    for to in ["cyd", "dan"] {
        ada.ask_ok("connection:request", &json!({ "toUserId": to }))
            .await;
    }
    let mut after = String::new();
    let mut listed = Vec::new();
    loop {
        let line = format!("GET /api/connections?limit=1{after}");
        let page = call(&node, &line, &token(&node, "ada"), &Value::Null)
            .await
            .json();
        let connection = &page["connections"][0];
        listed.push(connection["toUserId"].as_str().unwrap().to_owned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(listed[2], "bob");
}

#[tokio::test]
async fn who_is_enrolled_is_in_the_room_at_once_and_seen_by_the_others() {
    let node = Node::start().await;
    let (mut ada, bob) = (connect(&node, "ada").await, token(&node, "bob"));
    let office = node.token_with("office", &["--scope", "members:write"]);
    let line = "POST /api/courses/bio/members";
    let refused = call(&node, line, &bob, &json!({ "userId": "ada" })).await;
    assert_eq!(refused.json()["code"], "forbidden");
    let refused = call(&node, line, &bob, &Value::Null).await;
    assert_eq!(
        refused.json()["code"],
        "forbidden",
        "nobody enrols itself by default"
    );
    for user in ["ada", "bob", "ada"] {
        let enrolled = call(&node, line, &office, &json!({ "userId": user })).await;
        assert_eq!(enrolled.status, 200, "{}", enrolled.text());
    }
    let members = call(&node, "GET /api/courses/bio/members", &bob, &Value::Null)
        .await
        .json();
    assert_eq!(
        members["members"],
        json!([{ "userId": "ada" }, { "userId": "bob" }])
    );
    let eve = token(&node, "eve");
    let hidden = call(&node, "GET /api/courses/bio/members", &eve, &Value::Null).await;
    assert_eq!(hidden.json()["code"], "forbidden");
    let query = json!({ "userId": "bob" });
    assert_eq!(ada.ask_ok("presence:query", &query).await["online"], false);
    let left = call(&node, "DELETE /api/courses/bio/members", &bob, &Value::Null).await;
    assert_eq!(left.status, 204, "{}", left.text());
    assert_eq!(code(&ada.ask("presence:query", &query).await), "forbidden");
    let building = "POST /api/buildings/7/members";
    assert_eq!(
        call(&node, building, &office, &json!({ "userId": "ada" }))
            .await
            .status,
        200
    );
}
