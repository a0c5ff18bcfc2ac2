//! How often somebody may do something, as clients are told.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::client::Client;
use super::support::node::Node;
use super::support::wire::Response;

async fn limited(settings: &[(&str, &str)]) -> Node {
    let mut all = vec![("limits.enabled", "true")];
    all.extend(settings);
    Node::with(&all).await
}

fn number(response: &Response, header: &str) -> u64 {
    let value = response.header(header);
    value
        .unwrap_or_else(|| panic!("no {header} in a {} answer", response.status))
        .parse()
        .unwrap()
}

async fn post(node: &Node, path: &str, user: &str, body: &Value) -> Response {
    let authorization = format!(
        "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
        node.token(user)
    );
    let mut wire = node.dial().await;
    wire.post(path, &authorization, body.to_string().as_bytes())
        .await
}

fn refusal(ack: &Value) -> Duration {
    assert_eq!(ack["ok"], false, "{ack}");
    assert_eq!(ack["error"]["code"], "rate_limited", "{ack}");
    Duration::from_millis(ack["error"]["retryAfterMs"].as_u64().unwrap())
}

#[tokio::test]
async fn the_31st_message_of_a_minute_is_refused_on_every_socket_and_over_rest() {
    let node = limited(&[]).await;
    let mut one = Client::connect(&node, "ann").await;
    let mut other = Client::connect(&node, "ann").await;
    let data = json!({ "conversationId": "c", "content": "hello" });
    for n in 0..30 {
        let socket = if n % 2 == 0 { &mut one } else { &mut other };
        socket.ask_ok("message:send", &data).await;
    }
    let wait = refusal(&one.ask("message:send", &data).await);
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
    refusal(&other.ask("message:send", &data).await);
    let answer = post(&node, "/api/messages", "ann", &data).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(number(&answer, "RateLimit-Limit"), 30);
    assert_eq!(number(&answer, "RateLimit-Remaining"), 0);
    // Everything else goes on, and so does everybody else.
    one.join("c").await;
    let mut bob = Client::connect(&node, "bob").await;
    bob.say("c", "hello").await;
    assert!(
        node.scrape()
            .await
            .sum("limits_refused_total{limiter=\"messages\"}")
            >= 3.0
    );
    node.is_well().await;
}

#[tokio::test]
async fn every_answer_says_what_is_left_and_a_refusal_how_long_to_wait() {
    let node = limited(&[("limits.other", "3/1m"), ("limits.api", "20/1h")]).await;
    let mut left = Vec::new();
    for _ in 0..3 {
        let answer = node.get("/api/presence?users=ann", Some("ann")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(number(&answer, "RateLimit-Limit"), 3);
        assert!((1..=60).contains(&number(&answer, "RateLimit-Reset")));
        left.push(number(&answer, "RateLimit-Remaining"));
    }
    assert_eq!(left, [2, 1, 0]);
    let refused = node.get("/api/presence?users=ann", Some("ann")).await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(number(&refused, "RateLimit-Remaining"), 0);
    assert!((1..=20).contains(&number(&refused, "Retry-After")));
    let problem = refused.json();
    assert_eq!(problem["code"], "rate_limited");
    assert!(
        problem["retryAfterMs"].as_u64().unwrap() <= 20_000,
        "{problem}"
    );
    // Another endpoint, another user, and what is not there: all with headers.
    for (path, user, status) in [
        ("/api/connections", Some("ann"), 200),
        ("/api/presence?users=bob", Some("bob"), 200),
        ("/api/presence?users=bob", None, 401),
        ("/api/nothing", Some("ann"), 404),
        ("/api/messages", Some("ann"), 405),
    ] {
        let answer = node.get(path, user).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        number(&answer, "RateLimit-Remaining");
    }
}

#[tokio::test]
async fn the_whole_interface_has_a_limit_for_each_user() {
    let node = limited(&[("limits.api", "4/1h")]).await;
    for path in [
        "/api/nothing",
        "/api/messages",
        "/api/connections",
        "/api/openapi.json",
    ] {
        assert_ne!(node.get(path, Some("ann")).await.status, 429, "{path}");
    }
    assert_eq!(node.get("/api/connections", Some("ann")).await.status, 429);
    assert_eq!(node.get("/api/connections", Some("bob")).await.status, 200);
    assert_eq!(node.get("/api/openapi.json", None).await.status, 200);
}

#[tokio::test]
async fn logins_are_limited_by_address_whoever_says_to_be_asking() {
    let node = limited(&[("limits.login", "2/5m"), ("limits.signup", "1/1d")]).await;
    let login = json!({ "email": "ann@example.com", "password": "wrong password" });
    for user in ["ann", "bob"] {
        assert_eq!(post(&node, "/api/login", user, &login).await.status, 401);
    }
    assert_eq!(post(&node, "/api/login", "cyd", &login).await.status, 429);
    let account = json!({ "email": "a@example.com", "password": "correct horse", "name": "A" });
    assert_eq!(
        post(&node, "/api/signup", "ann", &account).await.status,
        201
    );
    let again = json!({ "email": "b@example.com", "password": "correct horse", "name": "B" });
    assert_eq!(post(&node, "/api/signup", "bob", &again).await.status, 429);
}

#[tokio::test]
async fn a_socket_that_sends_too_much_is_refused_and_lives() {
    let node = limited(&[("limits.events_per_socket", "5/1s")]).await;
    let mut ann = Client::connect(&node, "ann").await;
    let data = json!({ "conversationId": "c" });
    let mut wait = None;
    // Sent at once, so that no time passes between them.
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(ann.emit("leave:conversation", &data).await.0);
    }
    for id in ids {
        let ack = ann.ack(id).await;
        if ack["ok"] == false {
            wait = Some(refusal(&ack));
        }
    }
    let wait = wait.expect("one of forty is refused");
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
    tokio::time::sleep(wait).await;
    ann.ask_ok("leave:conversation", &data).await;
    let mut other = Client::connect(&node, "ann").await;
    other.ask_ok("leave:conversation", &data).await;
}

#[tokio::test]
async fn without_limits_nothing_is_said_of_them() {
    let node = Node::start().await;
    let answer = node.get("/api/connections", Some("ann")).await;
    assert_eq!(
        (answer.status, answer.header("RateLimit-Limit")),
        (200, None)
    );
    let mut ann = Client::connect(&node, "ann").await;
    for _ in 0..40 {
        ann.say("c", "hello").await;
    }
}
