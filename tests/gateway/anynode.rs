//! Any node serves any client: two nodes behind a balancer without stickiness.
//!
//! The nodes run in this process, so that a test can say who their peers are.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, SemaphorePermit, oneshot};
use tokio::task::JoinSet;
use vestibule::app::App;
use vestibule::cluster::nodes::{NodeInfo, Nodes, Tag};
use vestibule::config::{Authentication, Config};
use vestibule::types::{NodeId, Secret, Span};

use super::servers::haproxy::{Backend, Balancer};
use super::support::node::place;
use super::support::program::{clients, passes};
use super::support::scrape::Scrape;
use super::support::wire::{Response, Wire};
use super::support::{eventually, within};

const SECRET: &str = "what nodes and tokens of these tests are proved by";
const LOOPBACK: &str = "127.0.0.1:0";

/// All nodes of this process count into the same metrics: one test at a time.
static COUNTING: Mutex<()> = Mutex::const_new(());

async fn alone() -> (MutexGuard<'static, ()>, SemaphorePermit<'static>) {
    (COUNTING.lock().await, place().await)
}

/// A node on a thread of its own.
struct Member {
    info: NodeInfo,
    nodes: Nodes,
    clients: SocketAddr,
    operations: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Member {
    fn start(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            node: Some(NodeId::parse(name).unwrap()),
            data: folder.path().join("data"),
            ..Config::default()
        };
        let address = LOOPBACK.parse().unwrap();
        config.edge.listen = address;
        config.edge.operations = address;
        config.edge.internal = address;
        config.edge.trusted_proxies = vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()];
        config.auth.mode = Authentication::Token;
        config.auth.secret = Some(Secret::new(SECRET.to_owned()));
        config.cluster.secret = Some(Secret::new(SECRET.to_owned()));
        config.limits.enabled = false;
        config.transport.ping_interval = Span::from_millis(500);
        config.transport.workers = 2;
        config.drain.parting = Span::from_secs(2);
        change(&mut config);
        let (said, hears) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut app = App::build(config).await.unwrap();
                let nodes = app.join().unwrap();
                said.send((app.node().clone(), nodes, app.addresses()))
                    .unwrap();
                let shutdown = async {
                    drop(stopped.await);
                };
                Box::pin(app.run(shutdown, std::future::pending()))
                    .await
                    .unwrap();
            });
        });
        let (id, nodes, addresses) = hears.recv().unwrap();
        Self {
            info: NodeInfo {
                id,
                address: addresses[2].1,
                version: "0".into(),
                load: 0,
            },
            nodes,
            clients: addresses[0].1,
            operations: addresses[1].1,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    const fn backend(&self) -> Backend {
        Backend {
            clients: self.clients.port(),
            operations: self.operations.port(),
        }
    }

    async fn is_ready(&self) {
        eventually("the node is ready", async || {
            let mut wire = Wire::try_dial(self.operations).await.ok()?;
            (wire.get("/readyz", "").await.status == 200).then_some(())
        })
        .await;
    }

    async fn poll(&self, query: &str) -> Response {
        let path = format!("/socket.io/?EIO=4&transport=polling{query}");
        Wire::dial(self.clients).await.get(&path, "").await
    }

    async fn post(&self, sid: &str, body: &str) -> Response {
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let mut wire = Wire::dial(self.clients).await;
        wire.post(&path, "content-type: text/plain\r\n", body.as_bytes())
            .await
    }

    /// Opens a session here.
    async fn open(&self) -> String {
        let opened = self.poll("").await.text();
        let packet: serde_json::Value = serde_json::from_str(&opened[1..]).unwrap();
        packet["sid"].as_str().unwrap().to_owned()
    }

    async fn scrape(&self) -> Scrape {
        let mut wire = Wire::dial(self.operations).await;
        Scrape::parse(&wire.get("/metrics", "").await.text())
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn two() -> [Member; 2] {
    two_with(|_| {}).await
}

async fn two_with(change: fn(&mut Config)) -> [Member; 2] {
    let members = ["red", "blue"].map(|name| Member::start(name, change));
    meet(&members);
    for member in &members {
        member.is_ready().await;
    }
    members
}

/// A poll that waits for packets.
async fn park(member: &Member, sid: &str) -> JoinSet<Response> {
    let mut wire = Wire::dial(member.clients).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let mut parked = JoinSet::new();
    parked.spawn(async move { wire.get(&path, "").await });
    parked
}

fn meet(members: &[Member]) {
    let all: Vec<_> = members.iter().map(|member| member.info.clone()).collect();
    for member in members {
        member.nodes.set(all.clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_needs_no_stickiness() {
    let _alone = alone().await;
    let members = two().await;
    let before = members[0].scrape().await;
    let folder = tempfile::tempdir().unwrap();
    let balancer = Balancer::start(folder.path(), &members.each_ref().map(Member::backend));
    let mut program = Command::new("npm");
    program
        .args(["run", "--silent", "test:anynode"])
        .current_dir(clients())
        .env("VESTIBULE_URL", balancer.url())
        .env("VESTIBULE_SECRET", SECRET)
        .env("VESTIBULE_TOKEN_COMMAND", "node lib/sign.js");
    passes(&mut program).await;
    let after = members[0].scrape().await;
    let counted = |series: &str| after.sum(series) - before.sum(series);
    let hops = counted("internal_asked_total{outcome=\"answered\"}");
    assert!(hops > 100.0, "{hops} requests went to another node");
    for trouble in ["broken", "late", "busy", "unreachable"] {
        let series = format!("internal_asked_total{{outcome=\"{trouble}\"}}");
        assert!(counted(&series) < 1.0, "{series}");
    }
    assert!(counted("internal_refused_total") < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_by_another_node_is_answered_as_by_its_own() {
    let _alone = alone().await;
    let [red, blue] = two().await;
    let sid = red.open().await;
    let posted = blue.post(&sid, "40{\"token\":\"none\"}").await;
    assert_eq!((posted.status, posted.text().as_str()), (200, "ok"));
    assert_eq!(posted.header("content-type"), Some("text/html"));
    let polled = blue.poll(&format!("&sid={sid}")).await;
    assert_eq!(polled.status, 200);
    assert!(polled.text().starts_with("44{"), "{}", polled.text());
    assert_eq!(
        polled.header("content-type"),
        Some("text/plain; charset=UTF-8")
    );
    assert_eq!(polled.header("cache-control"), Some("no-store"));
    // Two polls at once end a session, by whichever nodes they come.
    let mut parked = park(&red, &sid).await;
    let end = eventually("a second poll is refused", async || {
        let polled = blue.poll(&format!("&sid={sid}")).await;
        (polled.status == 400).then(|| polled.text())
    })
    .await;
    assert!(
        end.contains("Bad request") || end.contains("unknown"),
        "{end}"
    );
    within("the first poll ends", parked.join_next())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_dead_node_is_unknown() {
    let _alone = alone().await;
    let [mut red, blue] = two().await;
    let unknown = r#"{"code":1,"message":"Session ID unknown"}"#;
    let sid = red.open().await;
    assert_eq!(blue.post(&sid, "3").await.status, 200);
    let nowhere = format!(
        "A{}{}",
        Tag::of(&NodeId::parse("green").unwrap()).as_str(),
        &sid[5..]
    );
    let other = format!(
        "{}{}",
        &sid[..19],
        if sid.ends_with('x') { 'y' } else { 'x' }
    );
    for sid in [&nowhere, &other] {
        let answer = blue.poll(&format!("&sid={sid}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (400, unknown));
    }
    red.stop();
    // Known still, but not there any more.
    for answer in [
        blue.poll(&format!("&sid={sid}")).await,
        blue.post(&sid, "3").await,
    ] {
        assert_eq!((answer.status, answer.text().as_str()), (400, unknown));
    }
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let refused = Wire::dial(blue.clients).await.upgrade(&path, "").await;
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (400, "Session ID unknown")
    );
    blue.nodes.set(vec![blue.info.clone()]);
    let answer = blue.poll(&format!("&sid={sid}")).await;
    assert_eq!((answer.status, answer.text().as_str()), (400, unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing_from_the_internal_listener() {
    let _alone = alone().await;
    let [red, blue] = two().await;
    let sid = red.open().await;
    let before = red.scrape().await;
    let mut wire = Wire::dial(red.info.address).await;
    let path = format!("/engine?EIO=4&transport=polling&sid={sid}");
    let bare = wire.get(&path, "").await;
    assert_eq!((bare.status, bare.body.len()), (401, 0));
    let mut wire = Wire::dial(red.info.address).await;
    let seal =
        "x-vestibule-seal: 1 blue 1 1 1 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU AAAA\r\n";
    assert_eq!(wire.get(&path, seal).await.status, 401);
    let counted = red.scrape().await;
    for reason in ["missing", "wrong"] {
        let series = format!("internal_refused_total{{reason=\"{reason}\"}}");
        assert!(counted.sum(&series) > before.sum(&series), "{reason}");
    }
    // A node with another secret is one of them.
    let mut stranger = Member::start("green", |config| {
        config.cluster.secret = Some(Secret::new(SECRET.to_uppercase()));
    });
    stranger
        .nodes
        .set(vec![red.info.clone(), blue.info.clone()]);
    stranger.is_ready().await;
    assert_eq!(stranger.poll(&format!("&sid={sid}")).await.status, 502);
    stranger.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_given_up_ends_the_session_at_its_node() {
    let _alone = alone().await;
    let [red, blue] = two().await;
    let sid = red.open().await;
    let mut wire = Wire::dial(blue.clients).await;
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n42"
    );
    wire.send(head.as_bytes()).await;
    drop(wire);
    let end = eventually("the session ends", async || {
        let polled = red.poll(&format!("&sid={sid}")).await;
        (polled.status == 400 || polled.text() == "1").then_some(())
    });
    within("the session ends", end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_lets_go_of_the_sessions_of_others() {
    let _alone = alone().await;
    // No ping may answer the poll in the meantime.
    let [red, mut blue] = two_with(|config| {
        config.transport.ping_interval = Span::from_secs(60);
    })
    .await;
    let sid = red.open().await;
    let mut parked = park(&blue, &sid).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    tokio::task::block_in_place(|| blue.stop());
    let answer = within("the poll is let go", parked.join_next()).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "6"));
    // The session did not notice.
    assert_eq!(red.post(&sid, "3").await.text(), "ok");
}

/// A token that the nodes of these tests believe.
fn token(user: &str, scope: &str) -> String {
    let claims =
        serde_json::json!({"sub": user, "scope": scope, "exp": 4_000_000_000_u64, "jti": user});
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let head = encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let text = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", encode(&mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooms_sockets_are_found_on_every_node_and_who_is_silent_is_named() {
    let _alone = alone().await;
    let [mut red, blue] = two().await;
    let mut sids = Vec::new();
    for (member, user) in [(&red, "ada"), (&blue, "bo")] {
        let sid = member.open().await;
        let connect = format!("40{{\"token\":\"{}\"}}", token(user, ""));
        assert_eq!(member.post(&sid, &connect).await.text(), "ok");
        let answer = member.poll(&format!("&sid={sid}")).await.text();
        assert!(answer.starts_with("40{"), "{answer}");
        sids.push(sid);
    }
    let path = "/api/rooms/global%3Aannouncements/sockets";
    let bearer = |scope: &str| format!("authorization: Bearer {}\r\n", token("looker", scope));
    let ask = async |scope: &str| {
        Wire::dial(blue.clients)
            .await
            .get(path, &bearer(scope))
            .await
    };
    assert_eq!(ask("").await.status, 403);
    let found = ask("rooms:read").await.json();
    assert_eq!(
        (&found["complete"], &found["missing"]),
        (&true.into(), &serde_json::json!([]))
    );
    let sockets = found["sockets"].as_array().unwrap();
    let nodes: Vec<_> = sockets
        .iter()
        .map(|socket| socket["node"].as_str().unwrap())
        .collect();
    assert_eq!(nodes, ["blue", "red"]);
    assert!(
        sockets[1]["rooms"]
            .as_array()
            .unwrap()
            .contains(&"user:ada".into())
    );
    assert!(!found.to_string().contains("token:"), "{found}");
    let delete = async |scope: &str| {
        let mut wire = Wire::dial(blue.clients).await;
        let line = format!("DELETE {path}");
        wire.request(&line, &bearer(scope), b"").await;
        wire.response().await.unwrap().status
    };
    assert_eq!(delete("rooms:read").await, 403);
    assert_eq!(delete("rooms:write").await, 200);
    let closed = blue.poll(&format!("&sid={}", sids[1])).await.text();
    assert!(closed.contains("41"), "{closed}");
    tokio::task::block_in_place(|| red.stop());
    let found = ask("rooms:read").await.json();
    assert_eq!(
        (&found["complete"], &found["missing"]),
        (&false.into(), &serde_json::json!(["red"]))
    );
}
