//! Conversations over the wire and over HTTP: members and roles, messages for one, receipts, edits,
//! reactions, keys for retries, and what is refused.

use serde_json::{Value, json};

use super::support::client::{Client, Incoming};
use super::support::node::Node;
use super::support::wire::Response;
use super::support::{eventually, within};

/// Somebody whose token opens no room: what may be done is what is stored.
struct Person<'n> {
    node: &'n Node,
    token: String,
}

impl<'n> Person<'n> {
    fn new(node: &'n Node, name: &str) -> Self {
        Self::with(node, name, &[])
    }

    fn with(node: &'n Node, name: &str, more: &[&str]) -> Self {
        let mut args = vec!["--rooms", "nothing:at-all"];
        args.extend(more);
        let token = node.token_with(name, &args);
        Self { node, token }
    }

    async fn connect(&self) -> Client {
        Client::over(self.node.dial().await, &self.token).await
    }

    /// A request like `POST /api/messages`.
    async fn call(&self, line: &str, body: &Value) -> Response {
        self.call_with(line, "", body).await
    }

    async fn call_with(&self, line: &str, more: &str, body: &Value) -> Response {
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let headers = format!(
            "authorization: Bearer {}\r\ncontent-type: application/json\r\n{more}",
            self.token
        );
        let mut wire = self.node.dial().await;
        wire.request(line, &headers, &body).await;
        within(line, wire.response()).await.expect("an answer")
    }

    /// The same for what has to succeed; its JSON.
    async fn ok(&self, line: &str, body: &Value) -> Value {
        let response = self.call(line, body).await;
        let text = response.text();
        assert!((200..300).contains(&response.status), "{line}: {text}");
        if text.is_empty() {
            Value::Null
        } else {
            response.json()
        }
    }

    /// The same for what has to be refused with this code.
    async fn refused(&self, line: &str, body: &Value, code: &str) -> Value {
        let response = self.call(line, body).await;
        let answer = response.json();
        assert_eq!(answer["code"], code, "{line} {body}: {answer}");
        answer
    }

    /// A group of these; its id.
    async fn group(&self, title: &str, members: &[&str]) -> String {
        let wish = json!({ "title": title, "members": members });
        let made = self.ok("POST /api/conversations", &wish).await;
        made["id"].as_str().unwrap().to_owned()
    }

    async fn history(&self, conversation: &str) -> Vec<Value> {
        let line = format!("GET /api/conversations/{conversation}/messages");
        let page = self.ok(&line, &Value::Null).await;
        page["messages"].as_array().unwrap().clone()
    }

    /// This conversation in the list, once `is_so` holds of it.
    async fn listed(&self, conversation: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually("the list says so", async || {
            let list = self.ok("GET /api/conversations", &Value::Null).await;
            let all = list["conversations"].as_array().unwrap().clone();
            let mut found = all.into_iter().filter(|c| c["id"] == *conversation);
            found.next().filter(|c| is_so(c))
        })
        .await
    }
}

/// The next event of this name, skipping everything else.
async fn event(client: &mut Client, wanted: &str) -> Value {
    loop {
        match within(wanted, client.next()).await {
            Some(Incoming::Event { name, data }) if name == wanted => return data,
            Some(_) => {}
            None => panic!("closed before {wanted}"),
        }
    }
}

async fn refused(client: &mut Client, event: &str, data: &Value, code: &str) -> Value {
    let ack = within(event, client.ask(event, data)).await;
    assert_eq!(ack["ok"], false, "{event} {data}: {ack}");
    assert_eq!(ack["error"]["code"], code, "{event} {data}: {ack}");
    ack["error"].clone()
}

fn id(ack: &Value) -> String {
    ack["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{ack}"))
        .to_owned()
}

const NO_LIMITS: &[(&str, &str)] = &[("limits.enabled", "false")];

#[tokio::test]
async fn private_messages_go_both_ways_in_one_conversation() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob, cid) = (
        Person::new(&node, "ann"),
        Person::new(&node, "bob"),
        Person::new(&node, "cid"),
    );
    let (mut a, mut b) = (ann.connect().await, bob.connect().await);
    let hello = json!({ "toUserId": "bob", "message": "hello", "clientMessageId": "1" });
    let sent = a.ask_ok("private-message", &hello).await;
    let conversation = sent["conversationId"].as_str().unwrap().to_owned();
    assert_eq!(sent["room"], format!("conversation:{conversation}"));
    let got = event(&mut b, "private-message").await;
    assert_eq!(got["fromUserId"], "ann", "{got}");
    assert_eq!(
        (&got["message"], &got["conversationId"]),
        (&json!("hello"), &json!(conversation))
    );
    assert!(got["timestamp"].is_string(), "{got}");
    let again = a.ask_ok("private-message", &hello).await;
    assert_eq!(again["id"], sent["id"], "a retry is the same message");
    b.join(&conversation).await;
    let back = json!({ "toUserId": "ann", "message": "hi" });
    let answered = b.ask_ok("private-message", &back).await;
    assert_eq!(answered["conversationId"], conversation);
    assert_eq!(event(&mut b, "message:new").await["content"], "hi");
    loop {
        // The sender's own message comes to the sender's room too.
        let got = event(&mut a, "private-message").await;
        if got["fromUserId"] == "bob" {
            assert_eq!(got["message"], "hi");
            break;
        }
    }
    let contents: Vec<_> = ann.history(&conversation).await;
    let contents: Vec<_> = contents.iter().map(|m| m["content"].clone()).collect();
    assert_eq!(contents, ["hello", "hi"]);
    let listed = ann
        .listed(&conversation, |c| c["lastMessage"]["content"] == "hi")
        .await;
    assert_eq!(
        (&listed["kind"], &listed["other"]),
        (&json!("direct"), &json!("bob"))
    );
    // Over REST it is the same one.
    let wish = json!({ "kind": "direct", "members": ["ann"] });
    assert_eq!(
        id(&bob.ok("POST /api/conversations", &wish).await),
        conversation
    );
    let third = json!({ "toUserId": "bob", "content": "third" });
    let third = ann.ok("POST /api/messages", &third).await;
    assert_eq!(third["conversationId"], conversation);

    let own = json!({ "toUserId": "ann", "message": "me" });
    assert_eq!(
        refused(&mut a, "private-message", &own, "invalid").await["field"],
        "toUserId"
    );
    let empty = json!({ "toUserId": "bob", "message": "" });
    assert_eq!(
        refused(&mut a, "private-message", &empty, "invalid").await["field"],
        "message"
    );
    refused(
        &mut a,
        "private-message",
        &json!({ "message": "x" }),
        "invalid",
    )
    .await;
    let line = format!("GET /api/conversations/{conversation}/messages");
    cid.refused(&line, &Value::Null, "forbidden").await;
    let mut c = cid.connect().await;
    let data = json!({ "conversationId": conversation });
    refused(&mut c, "join:conversation", &data, "forbidden").await;
    let line = format!("POST /api/conversations/{conversation}/members");
    let more = json!({ "userIds": ["cid"] });
    ann.refused(&line, &more, "conflict").await;
    node.is_well().await;
}

#[tokio::test]
async fn members_come_and_go_by_role() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob, cid) = (
        Person::new(&node, "ann"),
        Person::new(&node, "bob"),
        Person::new(&node, "cid"),
    );
    let mut b = bob.connect().await;
    let group = ann.group("Garden", &["bob"]).await;
    let told = event(&mut b, "conversation:changed").await;
    assert_eq!(told["conversationId"], group, "{told}");
    b.join(&group).await;
    let members = format!("/api/conversations/{group}/members");
    let add = |users: &[&str]| json!({ "userIds": users });
    bob.refused(&format!("POST {members}"), &add(&["cid"]), "forbidden")
        .await;
    cid.refused(&format!("POST {members}"), &add(&["cid"]), "forbidden")
        .await;
    cid.refused(&format!("GET {members}"), &Value::Null, "forbidden")
        .await;
    let added = ann
        .ok(&format!("POST {members}"), &add(&["cid", "bob"]))
        .await;
    assert_eq!(added["added"], json!(["cid"]));
    let list = cid
        .ok(&format!("GET {members}?limit=2"), &Value::Null)
        .await;
    assert_eq!(list["members"][0]["role"], "owner", "{list}");
    let next = list["next"].as_str().expect("a second page");
    let rest = cid
        .ok(&format!("GET {members}?limit=2&after={next}"), &Value::Null)
        .await;
    assert_eq!(rest["members"][0]["userId"], "cid", "{rest}");
    assert_eq!(cid.listed(&group, |_| true).await["members"], 3);

    // Roles are given by owners, one of whom stays.
    let moderator = json!({ "role": "moderator" });
    bob.refused(&format!("PATCH {members}/bob"), &moderator, "forbidden")
        .await;
    ann.ok(&format!("PATCH {members}/bob"), &moderator).await;
    bob.refused(&format!("DELETE {members}/ann"), &Value::Null, "forbidden")
        .await;
    let as_owner = json!({ "userIds": ["dan"], "role": "owner" });
    bob.refused(&format!("POST {members}"), &as_owner, "forbidden")
        .await;
    ann.refused(&format!("DELETE {members}/me"), &Value::Null, "conflict")
        .await;
    ann.refused(&format!("PATCH {members}/me"), &moderator, "conflict")
        .await;
    ann.refused(&format!("PATCH {members}/zoe"), &moderator, "not_found")
        .await;
    ann.refused(
        &format!("PATCH {members}/bob"),
        &json!({ "role": "king" }),
        "invalid",
    )
    .await;

    // Who is taken out is out at once, also of the room.
    let mut c = cid.connect().await;
    c.join(&group).await;
    bob.ok(&format!("DELETE {members}/cid"), &Value::Null).await;
    let told = event(&mut c, "conversation:changed").await;
    assert_eq!(told["change"], "removed", "{told}");
    b.say(&group, "without cid").await;
    let message = json!({ "conversationId": group, "content": "x" });
    refused(&mut c, "message:send", &message, "forbidden").await;
    let data = json!({ "conversationId": group });
    refused(&mut c, "join:conversation", &data, "forbidden").await;
    // Whatever was sent to the room came before this answer.
    c.ask_ok("leave:conversation", &data).await;
    assert!(c.drained().iter().all(|name| name != "message:new"));
    cid.refused(&format!("GET {members}"), &Value::Null, "forbidden")
        .await;
    assert!(
        cid.ok("GET /api/conversations", &Value::Null).await["conversations"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    bob.ok(&format!("DELETE {members}/me"), &Value::Null).await;
    node.is_well().await;
}

#[tokio::test]
async fn unread_moves_with_reads_and_only_forward() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob) = (Person::new(&node, "ann"), Person::new(&node, "bob"));
    let group = ann.group("Reading", &["bob"]).await;
    let (mut a, mut b) = (ann.connect().await, bob.connect().await);
    a.join(&group).await;
    b.join(&group).await;
    let mut seqs = Vec::new();
    for content in ["one", "two", "three"] {
        a.say(&group, content).await;
        seqs.push(event(&mut b, "message:new").await["seq"].as_u64().unwrap());
    }
    bob.listed(&group, |c| c["unread"] == 3).await;
    assert_eq!(
        ann.listed(&group, |_| true).await["unread"],
        0,
        "one's own are read"
    );
    let read = |up_to: u64| json!({ "conversationId": group, "upTo": up_to });
    let ack = b.ask_ok("message:read", &read(seqs[1])).await;
    assert_eq!(ack["upTo"], seqs[1]);
    let told = event(&mut a, "message:read").await;
    assert_eq!(
        (&told["userId"], &told["upTo"]),
        (&json!("bob"), &json!(seqs[1])),
        "{told}"
    );
    bob.listed(&group, |c| c["unread"] == 1).await;
    b.ask_ok("message:read", &read(seqs[0])).await;
    let listed = bob.listed(&group, |_| true).await;
    assert_eq!(
        (&listed["unread"], &listed["read"]["seq"]),
        (&json!(1), &json!(seqs[1]))
    );
    let line = format!("POST /api/conversations/{group}/read");
    let ack = bob.ok(&line, &json!({ "upTo": 1_000_000 })).await;
    assert!(ack["upTo"].as_u64().unwrap() < 1_000, "{ack}");
    bob.listed(&group, |c| c["unread"] == 0).await;
    let whole = ann
        .ok(&format!("GET /api/conversations/{group}"), &Value::Null)
        .await;
    assert_eq!(whole["reads"][0]["userId"], "bob", "{whole}");

    refused(
        &mut b,
        "message:read",
        &json!({ "conversationId": group }),
        "invalid",
    )
    .await;
    let text = json!({ "conversationId": group, "upTo": "all" });
    refused(&mut b, "message:read", &text, "invalid").await;
    let other = json!({ "conversationId": "elsewhere", "upTo": 1 });
    refused(&mut b, "message:read", &other, "forbidden").await;
    node.is_well().await;
}

#[tokio::test]
async fn receipts_are_gathered_and_the_last_one_is_told() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob) = (Person::new(&node, "ann"), Person::new(&node, "bob"));
    let group = ann.group("Reading", &["bob"]).await;
    let (mut a, mut b) = (ann.connect().await, bob.connect().await);
    a.join(&group).await;
    let mut last = 0;
    for n in 0..20 {
        a.say(&group, &n.to_string()).await;
        last = event(&mut a, "message:new").await["seq"].as_u64().unwrap();
        let data = json!({ "conversationId": group, "upTo": last });
        b.ask_ok("message:read", &data).await;
    }
    let mut told = Vec::new();
    while told.last() != Some(&last) {
        told.push(
            event(&mut a, "message:read").await["upTo"]
                .as_u64()
                .unwrap(),
        );
    }
    assert!(told.is_sorted(), "{told:?}");
    assert!(
        told.len() < 15,
        "20 reads in a moment are a few receipts: {told:?}"
    );
}

#[tokio::test]
async fn nobody_is_told_who_read_what_above_a_hundred_members() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob) = (Person::new(&node, "ann"), Person::new(&node, "bob"));
    let names: Vec<String> = (0..98).map(|n| format!("u{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("bob");
    for (more, is_told) in [(None, true), (Some("one-more"), false)] {
        names.extend(more);
        let group = ann.group("Many", &names).await;
        let (mut a, mut b) = (ann.connect().await, bob.connect().await);
        a.join(&group).await;
        b.say(&group, "first").await;
        let seq = event(&mut a, "message:new").await["seq"].clone();
        let data = json!({ "conversationId": group, "upTo": seq });
        b.ask_ok("message:read", &data).await;
        b.say(&group, "second").await;
        let mut seen = Vec::new();
        loop {
            match within("an event", a.next()).await {
                Some(Incoming::Event { name, data }) if data["conversationId"] == group => {
                    let is_end = data["content"] == "second";
                    seen.push(name);
                    if is_end {
                        break;
                    }
                }
                Some(_) => {}
                None => panic!("closed"),
            }
        }
        let told = seen.iter().any(|name| name == "message:read");
        assert_eq!(told, is_told, "{} others: {seen:?}", names.len());
    }
}

#[tokio::test]
async fn edits_deletions_and_reactions_are_live_in_history_and_in_what_was_missed() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob) = (Person::new(&node, "ann"), Person::new(&node, "bob"));
    let group = ann.group("Work", &["bob"]).await;
    let (mut a, mut b) = (ann.connect().await, bob.connect().await);
    let joined = b.join(&group).await;
    let (first, second) = (a.say(&group, "first").await, a.say(&group, "second").await);
    let at = event(&mut b, "message:new").await["seq"].clone();
    let edit = json!({ "messageId": first, "content": "first, edited" });
    a.ask_ok("message:edit", &edit).await;
    let edited = event(&mut b, "message:edited").await;
    assert_eq!(edited["id"], first, "{edited}");
    assert_eq!(
        (&edited["content"], &edited["userId"]),
        (&json!("first, edited"), &json!("ann"))
    );
    assert!(
        edited["editedAt"].is_string() && edited["seq"].as_u64() > at.as_u64(),
        "{edited}"
    );
    a.ask_ok("message:delete", &json!({ "messageId": second }))
        .await;
    let deleted = event(&mut b, "message:deleted").await;
    assert_eq!(
        (&deleted["id"], &deleted["conversationId"]),
        (&json!(second), &json!(group))
    );
    assert!(
        deleted["seq"].as_u64() > edited["seq"].as_u64(),
        "{deleted}"
    );

    let like = json!({ "messageId": first, "emoji": "👍" });
    assert_eq!(b.ask_ok("reaction:add", &like).await["count"], 1);
    assert_eq!(
        b.ask_ok("reaction:add", &like).await["count"],
        1,
        "each user counts once"
    );
    assert_eq!(a.ask_ok("reaction:add", &like).await["count"], 2);
    let line = format!("DELETE /api/messages/{first}/reactions");
    let left = ann.ok(&line, &json!({ "emoji": "👍" })).await;
    assert_eq!(left["count"], 1);
    let removed = event(&mut b, "reaction:removed").await;
    assert_eq!(
        (&removed["userId"], &removed["count"]),
        (&json!("ann"), &json!(1)),
        "{removed}"
    );
    assert_eq!(removed["messageId"], first);

    let look = format!("GET /api/messages/{first}/reactions");
    let reactions = bob.ok(&look, &Value::Null).await["reactions"].clone();
    assert_eq!(
        reactions,
        json!([{ "emoji": "👍", "count": 1, "users": ["bob"] }])
    );
    let is_folded = |history: &[Value]| {
        assert_eq!(history.len(), 2, "messages only: {history:?}");
        assert_eq!(history[0]["content"], "first, edited");
        assert!(history[0]["editedAt"].is_string());
        assert_eq!(history[0]["reactions"], reactions);
        assert_eq!(history[1]["content"], "");
        assert!(history[1]["deletedAt"].is_string());
    };
    is_folded(&bob.history(&group).await);

    let after = json!({ "epoch": joined["epoch"], "seq": joined["seq"] });
    let mut late = bob.connect().await;
    let data = json!({ "conversationId": group, "after": after });
    let missed = late.ask_ok("join:conversation", &data).await["missed"].clone();
    let names: Vec<&str> = missed
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "message:new",
            "message:new",
            "message:edited",
            "message:deleted",
            "reaction:added",
            "reaction:added",
            "reaction:added",
            "reaction:removed",
        ]
    );
    drop((a, b, late));

    // Nothing of it was in memory only.
    let (group, mut node) = (group.clone(), node);
    node.kill();
    node.run().await;
    is_folded(&Person::new(&node, "bob").history(&group).await);
}

#[tokio::test]
async fn only_who_sent_a_message_or_moderates_its_group_changes_it() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob, cid) = (
        Person::new(&node, "ann"),
        Person::new(&node, "bob"),
        Person::new(&node, "cid"),
    );
    let group = ann.group("Work", &["bob"]).await;
    let (mut a, mut b, mut c) = (
        ann.connect().await,
        bob.connect().await,
        cid.connect().await,
    );
    let (mine, theirs) = (a.say(&group, "of ann").await, b.say(&group, "of bob").await);
    let edit = |message: &str| json!({ "messageId": message, "content": "changed" });
    let which = |message: &str| json!({ "messageId": message });
    let react = |message: &str, emoji: &str| json!({ "messageId": message, "emoji": emoji });
    refused(&mut b, "message:edit", &edit(&mine), "forbidden").await;
    refused(&mut b, "message:delete", &which(&mine), "forbidden").await;
    for name in [
        "message:edit",
        "message:delete",
        "reaction:add",
        "reaction:remove",
    ] {
        let mut data = react(&mine, "👍");
        data["content"] = json!("x");
        refused(&mut c, name, &data, "forbidden").await;
        data["messageId"] = json!("nobody-has-this");
        refused(&mut a, name, &data, "not_found").await;
        refused(
            &mut a,
            name,
            &json!({ "content": "x", "emoji": "x" }),
            "invalid",
        )
        .await;
        refused(&mut a, name, &json!("x"), "invalid").await;
    }
    assert_eq!(
        refused(&mut a, "message:edit", &which(&mine), "invalid").await["field"],
        "content"
    );
    for emoji in ["", &"x".repeat(33)] {
        let error = refused(&mut a, "reaction:add", &react(&mine, emoji), "invalid").await;
        assert_eq!(error["field"], "emoji");
    }
    // The owner of the group moderates it.
    a.ask_ok("message:edit", &edit(&theirs)).await;
    let line = format!("DELETE /api/messages/{theirs}");
    ann.ok(&line, &Value::Null).await;
    eventually("it is deleted for good", async || {
        let ack = b.ask("message:edit", &edit(&theirs)).await;
        (ack["error"]["code"] == "conflict").then_some(())
    })
    .await;
    refused(&mut b, "message:delete", &which(&theirs), "conflict").await;
    refused(&mut b, "reaction:add", &react(&theirs, "👍"), "conflict").await;
    let line = format!("PATCH /api/messages/{mine}");
    bob.refused(&line, &json!({ "content": "x" }), "forbidden")
        .await;
    ann.refused(&line, &json!({ "content": "" }), "invalid")
        .await;
    ann.ok(&line, &json!({ "content": "at last" })).await;

    // A conversation of two has no moderator, whoever began it.
    let hello = json!({ "toUserId": "ann", "message": "hello" });
    let hello = id(&b.ask_ok("private-message", &hello).await);
    let reply = json!({ "toUserId": "bob", "message": "hi" });
    let reply = id(&a.ask_ok("private-message", &reply).await);
    refused(&mut a, "message:edit", &edit(&hello), "forbidden").await;
    refused(&mut b, "message:delete", &which(&reply), "forbidden").await;
    node.is_well().await;
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_again() {
    let node = Node::with(NO_LIMITS).await;
    let (ann, bob) = (Person::new(&node, "ann"), Person::new(&node, "bob"));
    let line = "POST /api/conversations";
    let wish = json!({ "title": "Once" });
    let key = "idempotency-key: k-1\r\n";
    let first = ann.call_with(line, key, &wish).await;
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = ann.call_with(line, key, &wish).await;
    assert_eq!((again.status, again.text()), (201, first.text()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = ann.call_with(line, key, &json!({ "title": "Twice" })).await;
    assert_eq!(
        (other.status, &other.json()["code"]),
        (409, &json!("conflict"))
    );
    let somebody = bob.call_with(line, key, &wish).await;
    assert_eq!(somebody.status, 201);
    assert_ne!(somebody.text(), first.text(), "a key is its user's");
    let bad = ann.call_with(line, "idempotency-key: a b\r\n", &wish).await;
    assert_eq!(
        (bad.status, &bad.json()["field"]),
        (400, &json!("Idempotency-Key"))
    );

    // A refusal keeps no key.
    let group = id(&first.json());
    let key = "idempotency-key: k-2\r\n";
    let line = "POST /api/messages";
    let message = json!({ "conversationId": group, "content": "" });
    assert_eq!(ann.call_with(line, key, &message).await.status, 400);
    let message = json!({ "conversationId": group, "content": "one" });
    let calls = (0..5).map(|_| ann.call_with(line, key, &message));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().any(|answer| answer.status == 201));
    for answer in &answers {
        if answer.status == 409 {
            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
        } else {
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
    }
    eventually("the one message", async || {
        (ann.history(&group).await.len() == 1).then_some(())
    })
    .await;
    node.is_well().await;
}

#[tokio::test]
async fn services_act_for_users_and_nobody_else_does() {
    let node = Node::with(NO_LIMITS).await;
    let ann = Person::new(&node, "ann");
    let service = Person::with(&node, "mailer", &["--scope", "users:act members:write"]);
    let group = ann.group("Work", &[]).await;
    let message =
        json!({ "channelId": group, "content": "x", "senderId": "ann", "senderName": "A" });
    service.ok("POST /api/messages", &message).await;
    let as_bob = json!({ "channelId": group, "content": "x", "senderId": "bob" });
    service
        .refused("POST /api/messages", &as_bob, "forbidden")
        .await;
    let error = ann
        .refused("POST /api/messages", &as_bob, "forbidden")
        .await;
    assert_eq!(error["field"], "senderId");
    let members = format!("POST /api/conversations/{group}/members");
    service.ok(&members, &json!({ "userIds": ["bob"] })).await;
    service.ok("POST /api/messages", &as_bob).await;
    eventually("both are ordered", async || {
        let users: Vec<_> = ann
            .history(&group)
            .await
            .iter()
            .map(|m| m["userId"].clone())
            .collect();
        (users == ["ann", "bob"]).then_some(())
    })
    .await;
    // An id of one's own choice would open a room that others are in by their tokens.
    let wish = json!({ "id": "somebodys", "title": "x" });
    let error = ann
        .refused("POST /api/conversations", &wish, "forbidden")
        .await;
    assert_eq!(error["field"], "id");
    assert_eq!(
        id(&service.ok("POST /api/conversations", &wish).await),
        "somebodys"
    );
    ann.refused(
        "GET /api/conversations/somebodys",
        &Value::Null,
        "forbidden",
    )
    .await;
}

#[tokio::test]
async fn requests_are_held_to_their_form() {
    let node = Node::with(NO_LIMITS).await;
    let ann = Person::new(&node, "ann");
    let mut wire = node.dial().await;
    let headers = format!(
        "authorization: Bearer {}\r\ncontent-type: text/plain\r\n",
        ann.token
    );
    let response = wire.post("/api/conversations", &headers, b"{}").await;
    assert_eq!(
        (response.status, &response.json()["code"]),
        (415, &json!("invalid"))
    );
    let response = ann.call("PUT /api/conversations", &json!({})).await;
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("GET, POST, HEAD"))
    );
    for (line, field) in [
        ("GET /api/conversations?limit=0", "limit"),
        ("GET /api/conversations?after=x", "after"),
        ("GET /api/conversations/%FF", "conversationId"),
    ] {
        let error = ann.refused(line, &Value::Null, "invalid").await;
        assert_eq!(error["field"], field, "{line}");
    }
    for body in [
        "",
        "[]",
        "{",
        "\"x\"",
        "{\"members\":\"ann\"}",
        "{\"title\":7}",
    ] {
        let headers = format!("authorization: Bearer {}\r\n", ann.token);
        let mut wire = node.dial().await;
        let answer = wire
            .post("/api/conversations", &headers, body.as_bytes())
            .await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    // A page at a time, everything once.
    for n in 0..5 {
        ann.group(&n.to_string(), &[]).await;
    }
    let (mut titles, mut after) = (Vec::new(), String::new());
    loop {
        let line = format!("GET /api/conversations?limit=2{after}");
        let page = ann.ok(&line, &Value::Null).await;
        for conversation in page["conversations"].as_array().unwrap() {
            titles.push(conversation["title"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(titles, ["4", "3", "2", "1", "0"]);
    let mut wire = node.dial().await;
    let headers = format!(
        "authorization: Bearer {}\r\nconnection: close\r\n",
        ann.token
    );
    wire.request("HEAD /api/conversations", &headers, b"").await;
    let rest = String::from_utf8(wire.rest().await).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200"), "{rest}");
    assert!(rest.ends_with("\r\n\r\n"), "no body: {rest}");
    node.is_well().await;
}
