//! A shard, Kafka and PostgreSQL go away and come back: nobody is disconnected, everybody is told.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::servers::cluster::{Cluster, Plan};
use super::servers::node;
use super::support::client::{Client, Incoming};
use super::support::node::{PROGRAM, place};
use super::support::scrape::Scrape;
use super::support::wire::{Response, Wire};
use super::support::{eventually, within};

/// So long may anything take that is asked while something is away.
const BOUND: Duration = Duration::from_secs(7);
/// Once it is known, nothing waits for it.
const SOON: Duration = Duration::from_secs(2);
const CONVERSATIONS: usize = 8;

/// Somebody who stays connected, whatever happens, and notes what is shown.
struct Member {
    user: String,
    client: Client,
    address: SocketAddr,
    token: String,
    seen: Vec<(String, Value)>,
}

impl Member {
    async fn connect(node: &node::Node, data: &Path, user: &str) -> Self {
        let output = Command::new(PROGRAM)
            .args(["token", "--user", user, "--data"])
            .arg(data)
            .output()
            .unwrap();
        assert!(output.status.success());
        let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let address = SocketAddr::from(([127, 0, 0, 1], node.backend().clients));
        let client = Client::over(Wire::dial(address).await, &token).await;
        Self {
            user: user.to_owned(),
            client,
            address,
            token,
            seen: Vec::new(),
        }
    }

    /// Asks; fails unless the answer comes in time.
    async fn ask(&mut self, event: &str, data: &Value, bound: Duration) -> Value {
        let began = Instant::now();
        let answer = self.client.ask(event, data).await;
        let took = began.elapsed();
        assert!(took < bound, "{event} took {took:?}: {answer}");
        answer
    }

    async fn send(&mut self, conversation: &str, content: &str, bound: Duration) -> Value {
        let data = json!({
            "conversationId": conversation, "content": content, "clientMessageId": content,
        });
        self.ask("message:send", &data, bound).await
    }

    async fn join(&mut self, conversation: &str, bound: Duration) -> Value {
        let data = json!({ "conversationId": conversation });
        self.ask("join:conversation", &data, bound).await
    }

    async fn history(&self, conversation: &str) -> Response {
        let began = Instant::now();
        let mut wire = Wire::dial(self.address).await;
        let path = format!("/api/conversations/{conversation}/messages?limit=20");
        let headers = format!("authorization: Bearer {}\r\n", self.token);
        let response = wire.get(&path, &headers).await;
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        response
    }

    /// Reads until an event comes that is wanted; fails when the connection ends first.
    async fn hears(&mut self, what: &str, is_wanted: impl Fn(&str, &Value) -> bool) -> Value {
        let user = self.user.clone();
        let heard = async {
            loop {
                match self.client.next().await {
                    Some(Incoming::Event { name, data }) => {
                        self.seen.push((name.clone(), data.clone()));
                        if is_wanted(&name, &data) {
                            return data;
                        }
                    }
                    Some(Incoming::Ack { .. }) => {}
                    None => panic!("{user} was disconnected, waiting for {what}"),
                }
            }
        };
        within(&format!("{user} hears {what}"), heard).await
    }

    /// Joins, as a client does: what is not available right now is asked again.
    async fn joins(&mut self, conversation: &str) {
        let joined = async {
            while is_refused(&self.join(conversation, BOUND).await) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        within(&format!("{conversation} can be joined"), joined).await;
    }

    async fn told(&mut self, what: &str, is_over: bool) -> Value {
        let is_it = |name: &str, data: &Value| {
            name == "degraded" && data["what"] == what && data["until"].is_string() == is_over
        };
        let told = self
            .hears(&format!("degraded {what}, over: {is_over}"), is_it)
            .await;
        assert!(told["since"].is_string(), "{told}");
        told
    }

    fn times_shown(&self, content: &str) -> usize {
        let is_it = |(name, data): &&(String, Value)| {
            name == "message:new" && data["content"].as_str() == Some(content)
        };
        self.seen.iter().filter(is_it).count()
    }
}

fn is_refused(answer: &Value) -> bool {
    if answer["ok"] == true {
        return false;
    }
    let error = &answer["error"];
    assert_eq!(error["code"], "unavailable", "{answer}");
    assert!(error["retryAfterMs"].as_u64() > Some(0), "{answer}");
    true
}

struct Scene {
    cluster: Cluster,
    members: Vec<Member>,
    conversations: Vec<String>,
    rounds: usize,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = tokio::task::block_in_place(|| {
            let plan = Plan {
                nodes: 2,
                ..Plan::new(Path::new(PROGRAM))
            };
            Cluster::start(folder.path(), plan.with("limits.enabled", "false"))
        });
        let conversations: Vec<String> = (0..CONVERSATIONS).map(|n| format!("c{n}")).collect();
        let mut members = Vec::new();
        for (n, node) in cluster.nodes.iter().enumerate() {
            let user = format!("member-{n}");
            members.push(Member::connect(node, &cluster.data(), &user).await);
        }
        for member in &mut members {
            for conversation in &conversations {
                member.joins(conversation).await;
            }
        }
        let mut scene = Self {
            cluster,
            members,
            conversations,
            rounds: 0,
            _folder: folder,
        };
        scene.everything_works(&[]).await;
        scene
    }

    /// One sends into all conversations, also `again` what had been refused, and everybody sees each of
    /// them once.
    async fn everything_works(&mut self, again: &[(String, String)]) {
        self.rounds += 1;
        let fresh = self.conversations.iter();
        let fresh = fresh.map(|c| (c.clone(), format!("{c} works in round {}", self.rounds)));
        let all: Vec<_> = again.iter().cloned().chain(fresh).collect();
        for (conversation, content) in &all {
            let answer = self.members[0].send(conversation, content, BOUND).await;
            assert_eq!(answer["ok"], true, "{content}: {answer}");
        }
        for member in &mut self.members {
            for (_, content) in &all {
                if member.times_shown(content) == 0 {
                    let is_it = |name: &str, data: &Value| {
                        name == "message:new" && data["content"].as_str() == Some(content)
                    };
                    member.hears(content, is_it).await;
                }
            }
            for (_, content) in &all {
                assert_eq!(member.times_shown(content), 1, "{content}");
            }
        }
    }

    async fn told(&mut self, what: &str, is_over: bool) -> Vec<Value> {
        let mut all = Vec::new();
        for member in &mut self.members {
            all.push(member.told(what, is_over).await);
        }
        all
    }

    /// Sends a message into each conversation; those that were refused.
    async fn refused(&mut self, label: &str, bound: Duration) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        for conversation in self.conversations.clone() {
            let content = format!("{conversation} {label}");
            let answer = self.members[0].send(&conversation, &content, bound).await;
            if is_refused(&answer) {
                refused.push((conversation, content));
            }
        }
        refused
    }

    /// How many rooms cannot be joined again; those that can answer as soon.
    async fn unjoinable(&mut self) -> usize {
        let mut count = 0;
        for conversation in self.conversations.clone() {
            let joined = self.members[1].join(&conversation, SOON).await;
            count += usize::from(is_refused(&joined));
        }
        count
    }

    /// Reads each conversation: what was there before, or a typed refusal. How many were marked stale.
    async fn readable(&self) -> (usize, usize) {
        let (mut pages, mut stale) = (0, 0);
        for conversation in &self.conversations {
            let response = self.members[1].history(conversation).await;
            let body = response.json();
            match response.status {
                200 => {
                    pages += 1;
                    stale += usize::from(body["stale"] == true);
                    assert!(!body["messages"].as_array().unwrap().is_empty(), "{body}");
                }
                503 => assert_eq!(body["code"], "unavailable", "{body}"),
                status => panic!("{status}: {body}"),
            }
        }
        (pages, stale)
    }

    async fn newcomer(&self, user: &str) -> Member {
        Member::connect(&self.cluster.nodes[1], &self.cluster.data(), user).await
    }

    async fn operations(&self, path: &str) -> Response {
        let port = self.cluster.nodes[0].backend().operations;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Wire::dial(address).await.get(path, "").await
    }

    /// The node is ready all the same, and says what is wrong.
    async fn shows(&self, what: &str, dependency: &str) {
        let ready = self.operations("/readyz").await;
        assert_eq!(ready.status, 200);
        assert_eq!(ready.json()["reasons"][0]["name"], what, "{}", ready.text());
        let metrics = Scrape::parse(&self.operations("/metrics").await.text());
        let up = format!("dependency_up{{dependency=\"{dependency}\"}}");
        assert!(metrics.sum(&up) < 1.0, "{dependency}");
    }

    /// Everybody was told that it is over, with the same beginning.
    async fn is_over(&mut self, what: &str, began: &[Value]) {
        let ended = self.told(what, true).await;
        for (began, ended) in began.iter().zip(&ended) {
            assert_eq!(began["since"], ended["since"]);
            assert!(ended["until"].as_str() > ended["since"].as_str(), "{ended}");
        }
        let status = self.operations("/readyz").await;
        assert_eq!(status.json()["reasons"], Value::Null, "{}", status.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_disconnected_when_a_server_goes_away() {
    let _place = place().await;
    let mut scene = Scene::start().await;
    a_shard_goes_away(&mut scene).await;
    kafka_goes_away(&mut scene).await;
    postgres_goes_away(&mut scene).await;
}

async fn a_shard_goes_away(scene: &mut Scene) {
    // The first shard holds the leases too.
    tokio::task::block_in_place(|| scene.cluster.shards[0].kill());
    let began = scene.told("rooms", false).await;
    scene.shows("rooms", "rooms/shard-0").await;
    // The log takes everything: it gets its place in the room when there is one.
    assert_eq!(scene.refused("without a shard", SOON).await, []);
    let unjoinable = scene.unjoinable().await;
    assert!(unjoinable > 0, "some conversation is on the shard");
    assert!(unjoinable < CONVERSATIONS, "and some are not");
    let (pages, _) = scene.readable().await;
    assert_eq!(pages, CONVERSATIONS, "the archive has them");
    let lease = async || {
        let report = scene.operations("/cluster").await.json();
        (report["hasLease"] == false && report["shards"][0]["reachable"] == false).then_some(())
    };
    eventually("the lease is over", lease).await;
    let lease = async || {
        let metrics = Scrape::parse(&scene.operations("/metrics").await.text());
        (metrics.sum("cluster_lease_held") < 1.0).then_some(())
    };
    eventually("the metrics say so", lease).await;
    let mut newcomers = Vec::new();
    for n in 0..6 {
        let mut newcomer = scene.newcomer(&format!("newcomer-{n}")).await;
        let told = newcomer.told("rooms", false).await;
        assert_eq!(told["since"], began[1]["since"]);
        newcomers.push(newcomer);
    }
    tokio::task::block_in_place(|| scene.cluster.shards[0].restart());
    scene.is_over("rooms", &began).await;
    let sent = scene.conversations.iter();
    let sent = sent.map(|c| (c.clone(), format!("{c} without a shard")));
    let sent: Vec<_> = sent.collect();
    scene.everything_works(&sent).await;
    // Those who came meanwhile are in their rooms.
    for mut newcomer in newcomers {
        newcomer.told("rooms", true).await;
        let data = json!({ "toUserId": newcomer.user });
        let asked = scene.members[0]
            .ask("connection:request", &data, BOUND)
            .await;
        assert_eq!(asked["ok"], true, "{asked}");
        let is_it = |name: &str, _: &Value| name == "connection:request";
        newcomer.hears("a request", is_it).await;
    }
    assert_eq!(scene.unjoinable().await, 0);
    let lease = async || {
        let report = scene.operations("/cluster").await.json();
        (report["hasLease"] == true).then_some(())
    };
    eventually("there is a lease again", lease).await;
}

async fn kafka_goes_away(scene: &mut Scene) {
    tokio::task::block_in_place(|| scene.cluster.kafka.broker(0).kill());
    let early = scene.members[0].send("c0", "too early", BOUND).await;
    assert!(is_refused(&early), "{early}");
    let began = scene.told("log", false).await;
    scene.shows("log", "log").await;
    let mut refused = scene.refused("without the log", BOUND).await;
    assert_eq!(refused.len(), CONVERSATIONS);
    assert_eq!(scene.unjoinable().await, 0);
    assert_eq!(scene.readable().await, (CONVERSATIONS, 0));
    let mut newcomer = scene.newcomer("without-log").await;
    newcomer.told("log", false).await;
    tokio::task::block_in_place(|| scene.cluster.kafka.broker(0).restart());
    scene.is_over("log", &began).await;
    newcomer.told("log", true).await;
    refused.push(("c0".to_owned(), "too early".to_owned()));
    scene.everything_works(&refused).await;
}

async fn postgres_goes_away(scene: &mut Scene) {
    tokio::task::block_in_place(|| scene.cluster.postgres.kill());
    let began = scene.told("archive", false).await;
    scene.shows("archive", "archive").await;
    assert_eq!(scene.refused("without the archive", SOON).await, []);
    assert_eq!(scene.unjoinable().await, 0);
    // What rooms keep is enough.
    assert_eq!(scene.readable().await, (CONVERSATIONS, CONVERSATIONS));
    tokio::task::block_in_place(|| scene.cluster.postgres.restart());
    scene.is_over("archive", &began).await;
    scene.everything_works(&[]).await;
    assert_eq!(scene.readable().await, (CONVERSATIONS, 0));
}
