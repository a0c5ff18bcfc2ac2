//! What follows from events, over the wire: records, notifications, mentions, and each of them once,
//! whenever the node is killed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::client::{Client, Incoming};
use super::support::node::Node;
use super::support::wire::Response;
use super::support::{eventually, within};

/// Opens no room: what a user may do is what is stored.
const NO_ROOMS: [&str; 2] = ["--rooms", "nothing:at-all"];

struct Caller<'n> {
    node: &'n Node,
    token: String,
}

impl<'n> Caller<'n> {
    fn user(node: &'n Node, name: &str) -> Self {
        let token = node.token_with(name, &NO_ROOMS);
        Self { node, token }
    }

    fn service(node: &'n Node, scope: &str) -> Self {
        let token = node.token_with("svc", &["--rooms", "nothing:at-all", "--scope", scope]);
        Self { node, token }
    }

    async fn connect(&self) -> Client {
        Client::over(self.node.dial().await, &self.token).await
    }

    async fn call(&self, line: &str, more: &str, body: &Value) -> Response {
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

    /// A request that has to be answered with this status; its JSON.
    async fn answered(&self, status: u16, line: &str, body: &Value) -> Value {
        let response = self.call(line, "", body).await;
        assert_eq!(
            response.status,
            status,
            "{line} {body}: {}",
            response.text()
        );
        if response.body.is_empty() {
            Value::Null
        } else {
            response.json()
        }
    }

    async fn tell(&self, kind: &str, data: &Value) -> Value {
        let event = json!({ "type": kind, "data": data });
        self.answered(201, "POST /api/events", &event).await
    }

    async fn notifications(&self) -> Vec<Value> {
        let list = self.answered(200, "GET /api/notifications", &Value::Null);
        list.await["notifications"].as_array().unwrap().clone()
    }

    /// Its notifications of a type once there are this many.
    async fn notified(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} of {kind}"), async || {
            let mut all = self.notifications().await;
            all.retain(|one| one["type"] == kind);
            (all.len() >= count).then_some(all)
        })
        .await
    }
}

/// The next event of this name.
async fn event(client: &mut Client, wanted: &str) -> Value {
    within(wanted, async {
        loop {
            match client.next().await.expect("a live socket") {
                Incoming::Event { name, data } if name == wanted => return data,
                _ => {}
            }
        }
    })
    .await
}

fn complaint(id: &str, more: &Value) -> Value {
    let mut complaint = json!({
        "id": id, "title": "no heat", "description": "since monday", "status": "open",
        "userId": "ann", "building": "7"
    });
    let members = complaint.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    complaint
}

#[tokio::test]
async fn a_domain_event_makes_a_record_and_notifies_once() {
    let node = Node::start().await;
    let service = Caller::service(&node, "events:write records:read records:write");
    let ann = Caller::user(&node, "ann");
    let mut socket = ann.connect().await;
    let path = "GET /api/records/complaint/c1";
    let read = async || service.answered(200, path, &Value::Null).await;

    service.answered(404, path, &Value::Null).await;
    let told = service
        .tell("complaint.created", &complaint("c1", &json!({})))
        .await;
    assert_eq!(
        (&told["ok"], &told["topic"]),
        (&json!(true), &json!("complaints"))
    );
    // Read as soon as the answer is there, although it had been looked for and not found.
    let record = read().await;
    assert_eq!(record["data"]["title"], "no heat", "{record}");
    assert_eq!(
        (&record["kind"], &record["id"]),
        (&json!("complaint"), &json!("c1"))
    );

    let change = json!({ "id": "c1", "status": "closed", "userId": "ann" });
    service.tell("complaint.updated", &change).await;
    let changed = read().await;
    assert_eq!(changed["data"]["status"], "closed");
    assert_eq!(
        changed["data"]["title"], "no heat",
        "what was not said stays"
    );
    assert_ne!(changed["version"], record["version"]);
    let shown = event(&mut socket, "notification:new").await;
    assert_eq!(
        (&shown["type"], &shown["userId"]),
        (&json!("notification.created"), &json!("ann"))
    );
    assert_eq!(shown["data"]["complaintId"], "c1");
    let listed = ann.notified("notification.created", 1).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0], shown, "the list shows what the socket was shown");

    service
        .tell("complaint.deleted", &json!({ "id": "c1" }))
        .await;
    service.answered(404, path, &Value::Null).await;
    node.is_well().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_said_by_field_and_scope() {
    let node = Node::start().await;
    let service = Caller::service(&node, "events:write");
    let post = "POST /api/events";
    let refused = async |who: &Caller<'_>, body: Value, status: u16, field: Option<&str>| {
        let answer = who.answered(status, post, &body).await;
        assert_eq!(answer["field"].as_str(), field, "{body}: {answer}");
    };
    let event = |data: Value| json!({ "eventType": "complaint.created", "data": data });
    let good = event(complaint("c1", &json!({})));
    refused(&Caller::user(&node, "ann"), good.clone(), 403, None).await;
    refused(
        &Caller::service(&node, "records:read"),
        good.clone(),
        403,
        None,
    )
    .await;
    refused(&service, event(json!({ "title": "x" })), 400, Some("id")).await;
    refused(
        &service,
        event(json!({ "id": "1", "title": 7 })),
        400,
        Some("title"),
    )
    .await;
    refused(&service, json!({ "data": {} }), 400, Some("type")).await;
    let unknown = json!({ "type": "no.such", "data": {} });
    refused(&service, unknown, 404, Some("type")).await;
    let typing = json!({ "type": "TYPING_START", "data": { "conversationId": "1" } });
    refused(&service, typing, 400, Some("type")).await;
    // Another user's event takes a scope of its own.
    let mut others = good.clone();
    others["userId"] = json!("ann");
    refused(&service, others.clone(), 403, None).await;
    let acting = Caller::service(&node, "events:write users:act");
    acting.answered(201, post, &others).await;
    // The same id again is the same event.
    let mut twice = event(complaint("c2", &json!({})));
    twice["id"] = json!("given");
    for _ in 0..2 {
        let answer = service.answered(201, post, &twice).await;
        assert_eq!(answer["id"], "given");
    }
    node.is_well().await;
}

#[tokio::test]
async fn records_are_written_whole_and_only_over_what_is_known() {
    let node = Node::start().await;
    let service = Caller::service(&node, "records:read records:write");
    let put = "PUT /api/records/complaint/c9";
    let get = "GET /api/records/complaint/c9";
    let delete = "DELETE /api/records/complaint/c9";
    let data = complaint("c9", &json!({}));
    Caller::user(&node, "ann")
        .answered(403, get, &Value::Null)
        .await;
    Caller::service(&node, "records:read")
        .answered(403, put, &data)
        .await;
    service
        .answered(404, "GET /api/records/nothing/1", &Value::Null)
        .await;
    let wrong = service.answered(400, put, &json!({ "id": "c9" })).await;
    assert_eq!(wrong["field"], "title");
    let other = service
        .answered(400, put, &complaint("c8", &json!({})))
        .await;
    assert_eq!(other["field"], "id");

    let made = service.call(put, "if-none-match: *\r\n", &data).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let tag = made.header("etag").unwrap().to_owned();
    assert_eq!(
        service
            .call(put, "if-none-match: *\r\n", &data)
            .await
            .status,
        409
    );
    let known = format!("if-match: {tag}\r\n");
    let again = complaint("c9", &json!({ "status": "closed" }));
    let replaced = service.call(put, &known, &again).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    assert_eq!(
        service.call(put, &known, &data).await.status,
        409,
        "it is another by now"
    );
    assert_eq!(service.call(delete, &known, &Value::Null).await.status, 409);
    let read = service.call(get, "", &Value::Null).await;
    assert_eq!(read.header("etag"), replaced.header("etag"));
    assert_eq!(read.json()["data"]["status"], "closed");
    service.answered(200, put, &data).await;
    service.answered(204, delete, &Value::Null).await;
    service.answered(404, get, &Value::Null).await;
    service.answered(404, delete, &Value::Null).await;
    service.answered(201, put, &data).await;
    node.is_well().await;
}

#[tokio::test]
async fn who_is_away_or_mentioned_is_notified_and_marks_it_read() {
    let node = Node::start().await;
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| Caller::user(&node, name));
    let wish = json!({ "title": "t", "members": ["bob", "cid"] });
    let made = ann.answered(201, "POST /api/conversations", &wish).await;
    let id = made["id"].as_str().unwrap();
    let mut here = bob.connect().await;
    let mut sender = ann.connect().await;
    sender.say(id, "hello @bob and @eve").await;
    let mention = event(&mut here, "notification:new").await;
    assert_eq!(
        (&mention["type"], &mention["data"]["fromUserId"]),
        (&json!("MENTION"), &json!("ann"))
    );
    assert_eq!(mention["data"]["conversationId"], id);
    let away = cid.notified("MESSAGE_NOTIFICATION", 1).await;
    assert_eq!(away[0]["data"]["fromUserId"], "ann");
    // Who is here is not told of what it sees, and nobody of its own message.
    let kinds = |list: Vec<Value>| {
        list.iter()
            .map(|one| one["type"].clone())
            .collect::<Vec<_>>()
    };
    bob.notified("MENTION", 1).await;
    assert_eq!(kinds(bob.notifications().await), ["MENTION"]);
    assert!(ann.notifications().await.is_empty());

    let patch = "PATCH /api/notifications";
    let ids = json!({ "ids": [mention["id"]] });
    let done = bob.answered(200, patch, &ids).await;
    assert_eq!((&done["read"], &done["unread"]), (&json!(1), &json!(0)));
    assert_eq!(bob.answered(200, patch, &ids).await["read"], 0);
    let unread = "GET /api/notifications?unread=true";
    let list = bob.answered(200, unread, &Value::Null).await;
    assert_eq!(list["notifications"], json!([]));
    assert!(bob.notifications().await[0]["readAt"].is_string());
    let all = cid.answered(200, patch, &json!({ "all": true })).await;
    assert_eq!(all["unread"], 0);
    bob.answered(400, patch, &json!({})).await;
    node.is_well().await;
}

#[tokio::test]
async fn services_notify_and_lists_have_pages() {
    let node = Node::start().await;
    let service = Caller::service(&node, "notifications:write");
    let ann = Caller::user(&node, "ann");
    let post = "POST /api/notifications";
    let grade = |n: i32| json!({ "userId": "ann", "type": "GRADE_POSTED", "data": { "title": format!("g{n}") } });
    ann.answered(403, post, &grade(0)).await;
    let wrong = json!({ "userId": "ann", "type": "complaint.created", "data": {} });
    assert_eq!(service.answered(400, post, &wrong).await["field"], "type");
    for n in 0..5 {
        service.answered(201, post, &grade(n)).await;
    }
    ann.notified("GRADE_POSTED", 5).await;
    let (mut titles, mut next) = (Vec::new(), String::new());
    loop {
        let line = format!("GET /api/notifications?limit=2{next}");
        let page = ann.answered(200, &line, &Value::Null).await;
        assert_eq!(page["unread"], 5);
        let list = page["notifications"].as_array().unwrap();
        titles.extend(
            list.iter()
                .map(|one| one["data"]["title"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(before) => next = format!("&before={before}"),
            None => break,
        }
    }
    assert_eq!(titles, ["g4", "g3", "g2", "g1", "g0"]);
    node.is_well().await;
}

#[tokio::test]
async fn kills_leave_each_notification_once() {
    const ROUNDS: usize = 4;
    const EACH: usize = 25;
    let limits = [("limits.enabled", "false")];
    let mut node = Node::with(&limits).await;
    let mut sent = BTreeSet::new();
    let conversation = {
        let ann = Caller::user(&node, "ann");
        let wish = json!({ "title": "t", "members": ["bob"] });
        let made = ann.answered(201, "POST /api/conversations", &wish).await;
        made["id"].as_str().unwrap().to_owned()
    };
    for _ in 0..ROUNDS {
        {
            let mut sender = Caller::user(&node, "ann").connect().await;
            for _ in 0..EACH {
                sent.insert(sender.say(&conversation, "hello @bob").await);
            }
        }
        // Between the append of a message and the commit of what follows from it.
        node.kill();
        node.run().await;
    }
    let bob = Caller::user(&node, "bob");
    for kind in ["MENTION", "MESSAGE_NOTIFICATION"] {
        let of = eventually(kind, async || {
            let line = "GET /api/notifications?limit=200";
            let list = bob.answered(200, line, &Value::Null).await;
            let all = list["notifications"].as_array().unwrap();
            let of = all.iter().filter(|one| one["type"] == kind);
            let of: Vec<String> = of
                .map(|one| one["data"]["messageId"].as_str().unwrap().to_owned())
                .collect();
            (of.len() >= sent.len()).then_some(of)
        })
        .await;
        assert_eq!(of.len(), sent.len(), "{kind}");
        assert_eq!(of.into_iter().collect::<BTreeSet<_>>(), sent, "{kind}");
    }
    node.is_well().await;
}
