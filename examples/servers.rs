//! Servers and nodes for a program that drives them: `tests/chaos`.
//!
//! It reads one JSON object on each line of its input and answers with one on each line of its output. First
//! it starts Redis, Kafka and PostgreSQL as the command line says and tells their ports; then it waits to be
//! told of the nodes, because their ways to the servers may lead through the driver. Everything ends with it,
//! and it ends with its input.
//!
//! | asked | done |
//! |---|---|
//! | `{"do":"nodes","nodes":[{"settings":{…},"environment":{…}}]}` | starts nodes, and a balancer in front of all but those that are `"extra"` |
//! | `{"do":"kill","what":"node","n":0}` | ends a server at once: `node`, `shard`, `broker`, `postgres`, `primary` (of the Sentinels' shard) |
//! | `"pause"`, `"resume"` | stops it in its tracks, lets it go on |
//! | `"part"` | asks a node to end |
//! | `"start"` | starts it again (a node: without waiting for it) |
//! | `"lose"` | ends a shard, throws its data away and starts it |
//! | `{"do":"dump","what":"messages"}` | writes what a topic holds to a file, and answers where |
//! | `"running"` | which nodes run, and how those ended that do not |

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it talks to a program; what cannot be done ends it, and its driver sees why"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

#[path = "../tests/servers/mod.rs"]
mod servers;

use servers::haproxy::Balancer;
use servers::kafka::Kafka;
use servers::node::Node;
use servers::postgres::Postgres;
use servers::process::Process;
use servers::redis::{Redis, SENTINEL_NAME, Sentinels};

/// What there is to be, from the command line: one JSON object.
#[derive(Debug, Deserialize)]
struct Asked {
    /// The program of the nodes.
    program: PathBuf,
    /// Redis servers, beside the Sentinels' two.
    shards: usize,
    /// Whether there is a primary with a replica and Sentinels too.
    #[serde(default)]
    sentinels: bool,
    /// For each broker the ports that it tells clients of its further listeners.
    brokers: Vec<Vec<u16>>,
}

/// A node that is to be.
#[derive(Debug, Deserialize)]
struct Wanted {
    name: String,
    settings: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The balancer does not know it, and it is started when that is asked.
    #[serde(default)]
    extra: bool,
}

/// A line of the driver's.
#[derive(Debug, Deserialize)]
struct Order {
    #[serde(rename = "do")]
    verb: String,
    #[serde(default)]
    what: String,
    #[serde(default)]
    n: usize,
    #[serde(default)]
    nodes: Vec<Wanted>,
}

struct Everything {
    balancer: Option<Balancer>,
    nodes: Vec<Node>,
    shards: Vec<Redis>,
    sentinels: Option<Sentinels>,
    postgres: Postgres,
    kafka: Kafka,
    vias: Vec<Vec<u16>>,
    program: PathBuf,
    folder: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::args()
        .nth(1)
        .ok_or("one JSON object is expected")?;
    let asked: Asked = serde_json::from_str(&asked)?;
    let folder = tempfile::tempdir()?;
    let mut all = Everything::start(folder.path(), asked);
    say(&all.servers());
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let answer = all.obey(&order);
        say(&answer);
    }
    drop(all);
    Ok(())
}

fn say(what: &Value) {
    println!("{what}");
    // Whoever does not listen has ended, and so does this with its input.
    drop(std::io::stdout().flush());
}

impl Everything {
    fn start(folder: &Path, asked: Asked) -> Self {
        let (kafka, vias) = Kafka::behind(folder, &asked.brokers);
        Self {
            balancer: None,
            nodes: Vec::new(),
            shards: (0..asked.shards).map(|_| Redis::start(folder)).collect(),
            sentinels: asked.sentinels.then(|| Sentinels::start(folder)),
            postgres: Postgres::start(folder),
            kafka,
            vias,
            program: asked.program,
            folder: folder.to_owned(),
        }
    }

    fn servers(&self) -> Value {
        let ports: Vec<u16> = self.shards.iter().map(Redis::port).collect();
        let sentinels = self.sentinels.as_ref().map(|sentinels| {
            let hosts: Vec<String> = sentinels
                .urls()
                .iter()
                .map(|url| url.replace("redis://", ""))
                .collect();
            format!("redis+sentinel://{}/{SENTINEL_NAME}", hosts.join(","))
        });
        json!({
            "folder": self.folder,
            "shards": ports,
            "sentinels": sentinels,
            "kafka": self.kafka.bootstrap(),
            "vias": self.vias,
            "postgres": self.postgres.port(),
        })
    }

    fn obey(&mut self, order: &Order) -> Value {
        match order.verb.as_str() {
            "nodes" => return self.start_nodes(&order.nodes),
            "running" => {
                let running: Vec<bool> = self.nodes.iter_mut().map(Node::is_running).collect();
                let endings: Vec<_> = self.nodes.iter_mut().map(Node::ending).collect();
                return json!({ "running": running, "endings": endings });
            }
            "dump" => return self.dump(&order.what),
            "kill" => self.kill(order),
            "pause" => self.process(order).pause(),
            "resume" => self.process(order).resume(),
            "part" => self.nodes[order.n].part(),
            "start" => self.start_again(order),
            "lose" => self.shards[order.n].lose(),
            other => panic!("{other}? see the table at the top of this file"),
        }
        json!({ "done": order.verb })
    }

    fn start_nodes(&mut self, wanted: &[Wanted]) -> Value {
        for one in wanted {
            let settings: Vec<(&str, &str)> = one
                .settings
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            let mut node = Node::unstarted(&self.program, &self.folder, &one.name, &settings);
            for (name, value) in &one.environment {
                node.set_variable(name, value);
            }
            // One after the other: the first makes the topics, the others find them.
            if !one.extra {
                node.launch();
                node.wait();
            }
            self.nodes.push(node);
        }
        let behind = self.nodes.iter().zip(wanted).filter(|(_, one)| !one.extra);
        let backends: Vec<_> = behind.map(|(node, _)| node.backend()).collect();
        let balancer = Balancer::start(&self.folder, &backends);
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                let operations = format!("http://127.0.0.1:{}", node.backend().operations);
                json!({ "name": node.name(), "url": node.url(), "operations": operations, "log": node.log() })
            })
            .collect();
        let url = balancer.url();
        self.balancer = Some(balancer);
        json!({ "url": url, "nodes": nodes })
    }

    /// Partition, offset and time stand before each record.
    fn dump(&self, topic: &str) -> Value {
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let mut arguments = vec!["--topic", topic, "--from-beginning", "--timeout-ms", "5000"];
        for shown in [
            "print.partition=true",
            "print.offset=true",
            "print.timestamp=true",
            "print.key=true",
        ] {
            arguments.extend(["--property", shown]);
        }
        let file = self.folder.join(format!("{topic}.txt"));
        std::fs::write(&file, self.kafka.tool(class, &arguments)).unwrap();
        json!({ "file": file })
    }

    fn kill(&mut self, order: &Order) {
        match order.what.as_str() {
            "node" => self.nodes[order.n].kill(),
            "shard" => self.shards[order.n].kill(),
            "broker" => self.kafka.broker(order.n).kill(),
            "postgres" => self.postgres.kill(),
            "primary" => {
                let sentinels = self.sentinels.as_mut().unwrap();
                let primary = sentinels.primary().unwrap();
                sentinels.servers[primary].kill();
            }
            other => panic!("{other} cannot be killed"),
        }
    }

    fn start_again(&mut self, order: &Order) {
        match order.what.as_str() {
            "node" => {
                let node = &mut self.nodes[order.n];
                node.end();
                node.launch();
            }
            "shard" => self.shards[order.n].restart(),
            "broker" => self.kafka.broker(order.n).restart(),
            "postgres" => self.postgres.restart(),
            // Whichever is down: starting a server anew that runs would be a fault of its own.
            "primary" => {
                let sentinels = self.sentinels.as_mut().unwrap();
                let down = sentinels
                    .servers
                    .iter_mut()
                    .find(|server| !server.is_started());
                if let Some(server) = down {
                    server.restart();
                }
            }
            other => panic!("{other} cannot be started"),
        }
    }

    fn process(&mut self, order: &Order) -> &mut Process {
        match order.what.as_str() {
            "node" => self.nodes[order.n].process().unwrap(),
            "shard" => self.shards[order.n].process(),
            "broker" => self.kafka.broker(order.n).process(),
            "postgres" => self.postgres.process(),
            other => panic!("{other} cannot be paused"),
        }
    }
}
