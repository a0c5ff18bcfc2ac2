//! Accounts from outside: sign-up, cookies, devices, revocation, bans, tokens that end.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::client::{Client, WEBSOCKET};
use super::support::node::{Node, PROGRAM};
use super::support::wire::{Response, Wire};
use super::support::{eventually, within};

const PASSWORD: &str = "correct horse battery staple";
/// What has to happen within 2 s on a node with nothing else to do; here it has.
const SOON: Duration = Duration::from_secs(10);

/// A browser: it keeps cookies and sends them back.
struct Browser<'n> {
    node: &'n Node,
    cookies: HashMap<String, String>,
}

impl<'n> Browser<'n> {
    fn new(node: &'n Node) -> Self {
        Self {
            node,
            cookies: HashMap::new(),
        }
    }

    fn cookie(&self) -> String {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    async fn send(&mut self, line: &str, headers: &str, body: &Value) -> Response {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let cookie = self.cookie();
        let mut lines = format!("content-type: application/json\r\n{headers}");
        if !cookie.is_empty() {
            lines.push_str(&format!("cookie: {cookie}\r\n"));
        }
        let mut wire = self.node.dial().await;
        wire.request(line, &lines, body.as_bytes()).await;
        let response = wire.response().await.expect("an answer");
        for set in response.headers("set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            if set.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// As the page does it: what changes something repeats the CSRF value.
    async fn act(&mut self, line: &str, body: &Value) -> Response {
        let csrf = self
            .cookies
            .get("vestibule_csrf")
            .cloned()
            .unwrap_or_default();
        self.send(line, &format!("x-csrf-token: {csrf}\r\n"), body)
            .await
    }

    async fn sign_up(&mut self, email: &str) -> Value {
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        let response = self.send("POST /api/signup", "", &body).await;
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }

    async fn login(&mut self, email: &str, password: &str) -> Response {
        let body = json!({ "email": email, "password": password });
        self.send("POST /api/login", "", &body).await
    }

    /// A socket that only the cookie vouches for, and the answer to its CONNECT.
    async fn socket(&self) -> (Wire, String) {
        let mut wire = self.node.dial().await;
        let headers = format!("cookie: {}\r\n", self.cookie());
        let answer = wire.upgrade(WEBSOCKET, &headers).await;
        assert_eq!(answer.status, 101, "{}", answer.text());
        assert!(wire.text().await.unwrap().starts_with("0{"));
        wire.send_text("40").await;
        let reply = wire.text().await.expect("an answer to CONNECT");
        (wire, reply)
    }
}

async fn node() -> Node {
    Node::with(&[("limits.enabled", "false")]).await
}

/// Waits until the node ends a socket in the words of Socket.IO, as clients show `io server
/// disconnect`; how long it took.
async fn ended(wire: &mut Wire) -> Duration {
    let since = Instant::now();
    within("the socket is ended", async {
        loop {
            match wire.text().await {
                Some(packet) if packet == "41" => return,
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    })
    .await;
    since.elapsed()
}

fn token(node: &Node, args: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(["token", "--data"])
        .arg(node.data())
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_browser_signs_up_and_its_cookie_vouches_for_it() {
    let node = node().await;
    let mut browser = Browser::new(&node);
    let made = browser.sign_up("Ada@Example.org").await;
    assert_eq!(made["user"]["email"], "ada@example.org");
    assert_eq!(made["user"]["role"], "user");
    assert_eq!(
        browser.cookies["vestibule_token"],
        made["token"].as_str().unwrap()
    );

    let profile = browser.send("GET /api/profile", "", &Value::Null).await;
    assert_eq!(profile.status, 200, "{}", profile.text());
    assert_eq!(profile.json()["id"], made["user"]["id"]);

    let change = json!({ "name": "Ada L." });
    for headers in ["", "x-csrf-token: wrong\r\n", "x-csrf-token: \r\n"] {
        let refused = browser.send("PATCH /api/profile", headers, &change).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (403, &json!("forbidden"))
        );
    }
    let changed = browser.act("PATCH /api/profile", &change).await;
    assert_eq!(
        (changed.status, &changed.json()["name"]),
        (200, &json!("Ada L."))
    );
    let profile = browser.send("GET /api/profile", "", &Value::Null).await;
    assert_eq!(profile.json()["name"], "Ada L.", "caches were told");

    // What happened is in the log: a sign-up, two changes at least with what follows from them.
    eventually("the events are logged", async || {
        let scrape = node.scrape().await;
        (scrape.sum("eventlog_appended_total{topic=\"user-events\"}") >= 2.0).then_some(())
    })
    .await;

    // Whoever sends the token itself is no browser that was tricked.
    let bearer = format!(
        "authorization: Bearer {}\r\n",
        made["token"].as_str().unwrap()
    );
    let mut plain = Browser::new(&node);
    let changed = plain.send("PATCH /api/profile", &bearer, &change).await;
    assert_eq!(changed.status, 200, "{}", changed.text());

    let (mut wire, reply) = browser.socket().await;
    assert!(reply.starts_with("40{\"sid\""), "{reply}");
    let left = browser.act("POST /api/logout", &Value::Null).await;
    assert_eq!(left.status, 204, "{}", left.text());
    assert!(ended(&mut wire).await < SOON);
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies.keys());
    let refused = plain.send("GET /api/profile", &bearer, &Value::Null).await;
    assert_eq!(refused.status, 401);
    node.is_well().await;
}

#[tokio::test]
async fn cookies_are_for_requests_of_this_site_only() {
    let node = node().await;
    let mut browser = Browser::new(&node);
    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "name": "Ada" });
    let response = browser.send("POST /api/signup", "", &body).await;
    let cookies = response.headers("set-cookie");
    let of = |name: &str| {
        *cookies
            .iter()
            .find(|cookie| cookie.starts_with(name))
            .unwrap()
    };
    let (token, csrf) = (of("vestibule_token="), of("vestibule_csrf="));
    for cookie in [token, csrf] {
        assert!(
            cookie.contains("; SameSite=Lax") && cookie.contains("; Path=/"),
            "{cookie}"
        );
        assert!(!cookie.contains("Secure"), "plain loopback: {cookie}");
    }
    assert!(token.contains("; HttpOnly") && !csrf.contains("HttpOnly"));
    // A page of another site that could not read an answer must not log its visitor in either.
    let origin = "origin: https://evil.example\r\n";
    let form = format!("{origin}content-type: text/plain\r\n");
    for headers in [origin, &form] {
        let mut wire = node.dial().await;
        let body = json!({ "email": "ada@example.org", "password": PASSWORD }).to_string();
        let refused = wire.post("/api/login", headers, body.as_bytes()).await;
        assert!([400, 415].contains(&refused.status), "{}", refused.text());
        assert!(refused.headers("set-cookie").is_empty());
    }
    let mut wire = node.dial().await;
    let headers = format!("cookie: {}\r\n{origin}", browser.cookie());
    assert_eq!(wire.upgrade(WEBSOCKET, &headers).await.status, 400);
}

#[tokio::test]
async fn a_device_that_is_revoked_loses_its_socket_and_no_other() {
    let node = node().await;
    let (mut laptop, mut phone) = (Browser::new(&node), Browser::new(&node));
    laptop.sign_up("ada@example.org").await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    let response = phone
        .send("POST /api/login", "user-agent: Phone\r\n", &body)
        .await;
    assert_eq!(response.status, 200, "{}", response.text());
    let (mut lost, _) = phone.socket().await;
    let (mut kept, _) = laptop.socket().await;

    let listed = laptop
        .send("GET /api/sessions", "", &Value::Null)
        .await
        .json();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let other = sessions
        .iter()
        .find(|session| session["device"] == "Phone")
        .unwrap();
    assert_eq!(
        (&other["current"], &other["address"]),
        (&json!(false), &json!("127.0.0.1"))
    );
    let revoke = format!("DELETE /api/sessions/{}", other["id"].as_str().unwrap());
    let response = laptop.act(&revoke, &Value::Null).await;
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(ended(&mut lost).await < SOON);
    let (_, refusal) = phone.socket().await;
    assert!(
        refusal.starts_with("44") && refusal.contains("unauthenticated"),
        "{refusal}"
    );
    let again = laptop.act(&revoke, &Value::Null).await;
    assert_eq!(again.status, 404);
    let unknown = laptop
        .act("DELETE /api/sessions/nobody", &Value::Null)
        .await;
    assert_eq!(unknown.status, 404);

    kept.send_text("420[\"leave:conversation\",{\"conversationId\":\"1\"}]")
        .await;
    let ack = within("an ack", async {
        loop {
            let packet = kept.text().await.expect("still there");
            if packet.starts_with("430") {
                return packet;
            }
        }
    });
    assert!(ack.await.contains("\"ok\":true"));
}

#[tokio::test]
async fn a_socket_is_in_its_own_rooms_when_connect_is_answered() {
    let node = node().await;
    let mut browser = Browser::new(&node);
    browser.sign_up("ada@example.org").await;
    let service = token(&node, &["--user", "svc", "--scope", "events:write"]);
    let service = format!("authorization: Bearer {service}\r\n");
    let (mut wire, _) = browser.socket().await;
    let event = json!({ "type": "ANNOUNCEMENT", "data": { "title": "all hands" } });
    let mut other = Browser::new(&node);
    let sent = other.send("POST /api/events", &service, &event).await;
    assert!([200, 201, 202].contains(&sent.status), "{}", sent.text());
    let shown = within("the announcement", async {
        loop {
            let packet = wire.text().await.expect("still there");
            if packet.starts_with("42") {
                return packet;
            }
        }
    });
    let shown = shown.await;
    assert!(
        shown.contains("notification:new") && shown.contains("all hands"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_ban_ends_every_socket_and_keeps_its_user_out() {
    let node = node().await;
    let mut browser = Browser::new(&node);
    let made = browser.sign_up("eve@example.org").await;
    let user = made["user"]["id"].as_str().unwrap();
    // Also those that a token from elsewhere let in.
    let mut foreign = Client::over(node.dial().await, &token(&node, &["--user", user])).await;
    let (mut one, _) = browser.socket().await;
    let (mut other, _) = browser.socket().await;

    let path = format!("/api/users/{user}/ban");
    let refused = browser.act(&format!("POST {path}"), &Value::Null).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let service = token(&node, &["--user", "svc", "--scope", "users:ban"]);
    let service = format!("authorization: Bearer {service}\r\n");
    let mut admin = Browser::new(&node);
    let response = admin
        .send(&format!("POST {path}"), &service, &json!({}))
        .await;
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(ended(&mut one).await < SOON && ended(&mut other).await < SOON);
    assert!(ended(&mut foreign.wire).await < SOON);
    let (_, refusal) = browser.socket().await;
    assert!(
        refusal.starts_with("44") && refusal.contains("forbidden"),
        "{refusal}"
    );
    assert_eq!(
        browser
            .send("GET /api/profile", "", &Value::Null)
            .await
            .status,
        403
    );
    assert_eq!(browser.login("eve@example.org", PASSWORD).await.status, 403);

    let lifted = admin
        .send(&format!("DELETE {path}"), &service, &Value::Null)
        .await;
    assert_eq!(lifted.status, 204, "{}", lifted.text());
    let (_, reply) = browser.socket().await;
    assert!(reply.starts_with("40{"), "{reply}");
}

#[tokio::test]
async fn who_guesses_learns_nothing_and_is_slowed_down() {
    let node = Node::with(&[("limits.enabled", "true")]).await;
    let mut browser = Browser::new(&node);
    browser.sign_up("ada@example.org").await;
    let wrong = browser.login("ada@example.org", "incorrect horse").await;
    let unknown = browser.login("bob@example.org", PASSWORD).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(
        (wrong.status, wrong.text()),
        (unknown.status, unknown.text())
    );
    assert!(wrong.headers("set-cookie").is_empty());
    for _ in 0..3 {
        browser.login("ada@example.org", "incorrect horse").await;
    }
    let limited = browser.login("ada@example.org", PASSWORD).await;
    assert_eq!(
        (limited.status, &limited.json()["code"]),
        (429, &json!("rate_limited"))
    );
    assert!(limited.header("retry-after").is_some());
}

#[tokio::test]
async fn a_sign_up_that_is_wrong_names_the_field() {
    let node = node().await;
    let mut browser = Browser::new(&node);
    browser.sign_up("ada@example.org").await;
    let good = json!({ "email": "bob@example.org", "password": PASSWORD, "name": "Bob" });
    for (member, value, status, field) in [
        ("email", json!("bob"), 400, "email"),
        ("email", json!("ADA@example.org"), 409, "email"),
        ("password", json!("short"), 400, "password"),
        ("password", json!("x".repeat(129)), 400, "password"),
        ("name", json!(" "), 400, "name"),
        ("id", json!("a b"), 400, "id"),
        ("attributes", json!([1]), 400, "attributes"),
    ] {
        let mut body = good.clone();
        body[member] = value.clone();
        let refused = browser.send("POST /api/signup", "", &body).await;
        let found = (refused.status, refused.json()["field"].clone());
        assert_eq!(found, (status, json!(field)), "{member} {value}");
    }
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let settings = [("auth.leeway", "0ms"), ("limits.enabled", "false")];
    let node = Node::with(&settings).await;
    let short = token(&node, &["--user", "ada", "--ttl", "3s"]);
    let mut short = Client::over(node.dial().await, &short).await;
    let mut long = Client::connect(&node, "bob").await;
    ended(&mut short.wire).await;
    long.ask_ok("leave:conversation", &json!({ "conversationId": "1" }))
        .await;
    let expired = token(&node, &["--user", "ada", "--ttl", "1s"]);
    eventually("the token expires", async || {
        let bearer = format!("authorization: Bearer {expired}\r\n");
        let response = node.dial().await.get("/api/sessions", &bearer).await;
        (response.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_with_public_keys_only_says_what_to_set() {
    let mut node = Node::unstarted(&[
        ("auth.mode", "token"),
        ("auth.jwks_file", "keys.json"),
        ("limits.enabled", "false"),
    ])
    .await;
    let set = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }] });
    std::fs::write(node.folder().join("keys.json"), set.to_string()).unwrap();
    node.run().await;
    let mut browser = Browser::new(&node);
    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "name": "Ada" });
    for line in ["POST /api/signup", "POST /api/login"] {
        let refused = browser.send(line, "", &body).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(
            refused.text().contains("auth.secret_file"),
            "{}",
            refused.text()
        );
    }
}

#[tokio::test]
async fn a_name_of_tokens_from_elsewhere_cannot_be_signed_up_for() {
    let secret = "a secret of thirty-two bytes, no less";
    let node = Node::with(&[
        ("auth.mode", "token"),
        ("auth.secret", secret),
        ("limits.enabled", "false"),
    ])
    .await;
    let mut browser = Browser::new(&node);
    let mut body = json!({ "email": "eve@example.org", "password": PASSWORD, "name": "Eve" });
    body["id"] = json!("ada");
    let refused = browser.send("POST /api/signup", "", &body).await;
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (403, &json!("id"))
    );
    let made = browser.sign_up("eve@example.org").await;
    assert_ne!(made["user"]["id"], "ada");
    let (_, reply) = browser.socket().await;
    assert!(reply.starts_with("40{"), "{reply}");
}

#[tokio::test]
async fn neither_passwords_nor_tokens_are_logged() {
    let mut node = Node::with(&[
        ("telemetry.log_level", "trace,sqlx=trace,hyper=trace"),
        ("limits.enabled", "false"),
    ])
    .await;
    let secrets = {
        let mut browser = Browser::new(&node);
        let made = browser.sign_up("ada@example.org").await;
        let wrong = "an incorrect horse indeed";
        browser.login("ada@example.org", wrong).await;
        let (_wire, reply) = browser.socket().await;
        assert!(reply.starts_with("40{"), "{reply}");
        Client::over(node.dial().await, made["token"].as_str().unwrap()).await;
        let signature = made["token"].as_str().unwrap().rsplit('.').next().unwrap();
        let csrf = browser.cookies["vestibule_csrf"].clone();
        let left = browser.act("POST /api/logout", &Value::Null).await;
        assert_eq!(left.status, 204);
        [
            PASSWORD.to_owned(),
            wrong.to_owned(),
            signature.to_owned(),
            csrf,
            "$argon2id$".to_owned(),
        ]
    };
    node.stop().await;
    let log = node.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret}");
    }
}
