//! A whole cluster on this machine, for trying it out: `make cluster`.
//!
//! Two Redis shards, Kafka, PostgreSQL, three nodes, and HAProxy in front without stickiness, on free loopback
//! ports and with data in a temporary folder. Ctrl-C ends all of it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it talks to a person"
)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

#[path = "../tests/servers/mod.rs"]
mod servers;

use servers::cluster::{Cluster, Plan};
use servers::node::Node;
use servers::redis::{Redis, RedisCluster};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (program, on_redis_cluster, settings) = asked()?;
    let folder = tempfile::tempdir()?;
    println!("starting Redis, Kafka, PostgreSQL, three nodes and HAProxy …");
    let plan = Plan {
        settings,
        ..Plan::new(&program)
    };
    let mut redis_cluster = None;
    let mut cluster = if on_redis_cluster {
        let kafka = servers::kafka::Kafka::start(folder.path());
        let redis = RedisCluster::start(folder.path());
        let hosts: Vec<String> = redis
            .urls()
            .iter()
            .map(|url| url.replace("redis://", ""))
            .collect();
        let url = format!("redis+cluster://{}", hosts.join(","));
        redis_cluster = Some(redis);
        Cluster::of(
            folder.path(),
            plan,
            (
                kafka,
                Vec::<Redis>::new(),
                vec![("redis.cluster".to_owned(), url)],
            ),
        )
    } else {
        Cluster::start(folder.path(), plan)
    };
    show(&mut cluster);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for node in &mut cluster.nodes {
                    if !node.is_running() {
                        println!("node {} ended; it starts again", node.name());
                        node.launch();
                        describe(node);
                    }
                }
            }
            signal = tokio::signal::ctrl_c() => {
                signal?;
                println!("\nstopping");
                drop(cluster);
                drop(redis_cluster);
                return Ok(());
            }
        }
    }
}

/// The program, whether on a Redis Cluster, and settings of the nodes.
type Asked = (PathBuf, bool, Vec<(String, String)>);

/// What the command line asks.
fn asked() -> Result<Asked, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (mut program, mut on_redis_cluster) = (PathBuf::from("target/release/vestibule"), false);
    let mut settings = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--program" => program = args.next().ok_or("--program PATH")?.into(),
            "--redis-cluster" => on_redis_cluster = true,
            "--set" => {
                let setting = args.next().ok_or("--set KEY=VALUE")?;
                let (key, value) = setting.split_once('=').ok_or("--set KEY=VALUE")?;
                settings.push((key.to_owned(), value.to_owned()));
            }
            other => {
                return Err(format!(
                    "{other}? known are --program PATH, --redis-cluster, --set KEY=VALUE"
                )
                .into());
            }
        }
    }
    Ok((program, on_redis_cluster, settings))
}

fn show(cluster: &mut Cluster) {
    println!("\nopen {}/", cluster.url());
    println!("  in two tabs: they reach different nodes\n");
    for node in &mut cluster.nodes {
        describe(node);
    }
    for (n, shard) in cluster.shards.iter().enumerate() {
        println!("redis shard {n}: {}", shard.url());
    }
    println!("kafka: {}", cluster.kafka.bootstrap());
    println!("postgres: {}", cluster.postgres.url());
    println!(
        "tokens: vestibule token --user NAME --data {}",
        cluster.data().display()
    );
    println!("\nCtrl-C ends all of it; `kill -9 PID` ends one node, which then starts again");
}

fn describe(node: &mut Node) {
    let operations = node.backend().operations;
    let (name, url) = (node.name().to_owned(), node.url());
    let id = node.process().map_or(0, |process| process.id());
    println!("node {name}: {url}  pid {id}  http://127.0.0.1:{operations}/cluster");
}
