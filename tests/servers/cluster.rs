//! A whole cluster: shards, Kafka, PostgreSQL, nodes, and a balancer without stickiness.

use std::path::{Path, PathBuf};

use super::haproxy::Balancer;
use super::kafka::Kafka;
use super::node::Node;
use super::postgres::Postgres;
use super::redis::Redis;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program of the nodes.
    pub program: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// How many shards.
    pub shards: usize,
    /// Settings of every node beside those that name the servers.
    pub settings: Vec<(String, String)>,
}

impl Plan {
    /// Three nodes and two shards.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            nodes: 3,
            shards: 2,
            settings: Vec::new(),
        }
    }

    /// With a setting more.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running cluster. Its servers end with it, the nodes first.
#[derive(Debug)]
pub struct Cluster {
    /// In front of the nodes.
    pub balancer: Balancer,
    /// In the order of their names: a, b, c, …
    pub nodes: Vec<Node>,
    /// In the order of the configuration.
    pub shards: Vec<Redis>,
    /// The archive.
    pub postgres: Postgres,
    /// The log.
    pub kafka: Kafka,
    folder: PathBuf,
    plan: Plan,
    named: Vec<(String, String)>,
}

/// Known to the nodes of one cluster only, and of no worth elsewhere.
const SECRET: &str = "a secret of a cluster on one machine";

impl Cluster {
    /// Starts everything below `folder`; returns when clients can be served.
    #[must_use]
    pub fn start(folder: &Path, plan: Plan) -> Self {
        let kafka = Kafka::start(folder);
        let shards: Vec<Redis> = (0..plan.shards).map(|_| Redis::start(folder)).collect();
        let urls: Vec<String> = (0..)
            .zip(&shards)
            .map(|(n, shard): (usize, &Redis)| format!("shard-{n}={}", shard.url()))
            .collect();
        let named = vec![("redis.shards".to_owned(), urls.join(","))];
        Self::of(folder, plan, (kafka, shards, named))
    }

    /// The same, over servers that were started and the settings that name the shards.
    #[must_use]
    pub fn of(
        folder: &Path,
        plan: Plan,
        (kafka, shards, mut named): (Kafka, Vec<Redis>, Vec<(String, String)>),
    ) -> Self {
        let postgres = Postgres::start(folder);
        named.push(("mode".to_owned(), "cluster".to_owned()));
        named.push(("kafka.brokers".to_owned(), kafka.bootstrap()));
        named.push(("postgres.url".to_owned(), postgres.url()));
        named.push(("cluster.secret".to_owned(), SECRET.to_owned()));
        named.extend(plan.settings.iter().cloned());
        let mut nodes = Vec::new();
        for index in 0..plan.nodes {
            nodes.push(node(folder, &plan, (index, &named)));
        }
        // The first makes the topics and the secret for tokens; the others find them.
        for node in &mut nodes {
            node.launch();
            node.wait();
        }
        let backends: Vec<_> = nodes.iter().map(Node::backend).collect();
        let balancer = Balancer::start(folder, &backends);
        Self {
            balancer,
            nodes,
            shards,
            postgres,
            kafka,
            folder: folder.to_owned(),
            plan,
            named,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.balancer.url()
    }

    /// The folder that the nodes share; the secret for tokens is there.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts another shard and tells each node of it, one after the other. It is not on the ring yet.
    pub fn add_shard(&mut self) {
        let shard = Redis::start(&self.folder);
        let named = self.named.iter_mut().find(|(key, _)| key == "redis.shards");
        let (_, urls) = named.expect("its shards are a list");
        urls.push_str(&format!(",shard-{}={}", self.shards.len(), shard.url()));
        let urls = urls.clone();
        self.shards.push(shard);
        for node in &mut self.nodes {
            node.set("redis.shards", &urls);
            node.end();
            node.launch();
            node.wait();
        }
    }

    /// Another node, which the balancer does not know.
    #[must_use]
    pub fn another(&self) -> Node {
        let mut node = node(&self.folder, &self.plan, (self.nodes.len(), &self.named));
        node.launch();
        node.wait();
        node
    }
}

fn node(folder: &Path, plan: &Plan, (index, named): (usize, &[(String, String)])) -> Node {
    let settings: Vec<(&str, &str)> = named
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let letter = (b'a'..=b'z').nth(index).map_or('z', char::from);
    Node::unstarted(&plan.program, folder, &letter.to_string(), &settings)
}
