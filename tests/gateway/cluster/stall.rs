//! How long events stay away from their rooms after the node that pumped them was killed:
//! `tests/chaos/stall.mjs`.

#![expect(clippy::disallowed_methods, reason = "it waits where it may block")]

use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::check::Checker;
use super::{SECRET, place};
use crate::servers::cluster::{Cluster, Plan};
use crate::support::node::PROGRAM;

/// Before the node is killed.
const ALL_WELL: Duration = Duration::from_secs(4);
const SECONDS: u64 = 20;
const WITHIN: Duration = Duration::from_secs(120);

/// Kills one of three nodes while users of the others send. Gives what was counted.
fn stall(folder: &TempDir, session_timeout: &str, is_restarted: bool) -> Value {
    let plan = Plan::new(PROGRAM.as_ref())
        .with("auth.mode", "token")
        .with("auth.secret", SECRET)
        .with("limits.enabled", "false")
        .with("kafka.session_timeout", session_timeout);
    let mut cluster = Cluster::start(folder.path(), plan);
    let victim = busiest(&cluster);
    let arguments = [format!("--victim={victim}"), format!("--seconds={SECONDS}")];
    let arguments = ["../chaos/stall.mjs", &arguments[0], &arguments[1]];
    let mut checker = Checker::of(&cluster, &arguments);
    assert_eq!(checker.says(WITHIN), "started");
    std::thread::sleep(ALL_WELL);
    cluster.nodes[victim].kill();
    if is_restarted {
        cluster.nodes[victim].launch();
    }
    assert_eq!(checker.says(WITHIN), "sent");
    let report = checker.says(WITHIN);
    let then = if is_restarted {
        " and started again"
    } else {
        ""
    };
    println!("killed{then}, session timeout {session_timeout}: {report}");
    assert!(checker.has_passed(), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(
        report["stalled"]["senders"].as_u64().unwrap() > 0,
        "it pumped nothing: {report}"
    );
    report
}

/// The node that pumps most partitions of topic `messages`, once all three pump something. The group spreads the
/// partitions of all topics evenly, and not those of each.
fn busiest(cluster: &Cluster) -> usize {
    let end = Instant::now() + WITHIN;
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    loop {
        let table = cluster
            .kafka
            .tool(class, &["--describe", "--group", "pump"]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let pumps = |node: &str, topic: Option<&str>| {
            let of = |row: &&Vec<&str>| {
                row.last() == Some(&node) && topic.is_none_or(|topic| row[1] == topic)
            };
            rows.iter().filter(of).count()
        };
        let all = cluster.nodes.iter().map(|node| pumps(node.name(), None));
        if all.min() > Some(0) {
            let messages = cluster
                .nodes
                .iter()
                .map(|node| pumps(node.name(), Some("messages")));
            let messages: Vec<usize> = messages.collect();
            println!("partitions of messages: {messages:?}");
            return (0..messages.len()).max_by_key(|n| messages[*n]).unwrap();
        }
        assert!(Instant::now() < end, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; make check-cluster"]
async fn how_long_events_of_a_killed_node_are_held_up() {
    let _place = place().await;
    let measure = |session_timeout, is_restarted| {
        let folder = tempfile::tempdir().unwrap();
        tokio::task::block_in_place(|| stall(&folder, session_timeout, is_restarted))
    };
    measure("6s", false);
    measure("6s", true);
    // The lease decides, not Kafka's patience.
    let report = measure("40s", false);
    assert!(
        report["waitMs"]["max"].as_u64().unwrap() < 30_000,
        "{report}"
    );
}

/// Partitions change hands within this.
const MOMENT_MS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute; make check-cluster"]
async fn a_node_that_joins_and_leaves_holds_events_up_for_a_moment_only() {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    tokio::task::block_in_place(|| {
        let plan = Plan::new(PROGRAM.as_ref())
            .with("auth.mode", "token")
            .with("auth.secret", SECRET)
            .with("limits.enabled", "false");
        let cluster = Cluster::start(folder.path(), plan);
        busiest(&cluster);
        let nobody = cluster.nodes.len().to_string();
        let arguments = ["../chaos/stall.mjs", "--victim", &nobody, "--seconds", "30"];
        let mut checker = Checker::of(&cluster, &arguments);
        assert_eq!(checker.says(WITHIN), "started");
        std::thread::sleep(ALL_WELL);
        let mut fourth = cluster.another();
        std::thread::sleep(3 * ALL_WELL);
        fourth.end();
        assert_eq!(checker.says(WITHIN), "sent");
        let report = checker.says(WITHIN);
        println!("a node joined and left: {report}");
        assert!(checker.has_passed(), "{report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        let longest = report["waitMs"]["max"].as_u64().unwrap();
        assert!(longest <= MOMENT_MS, "{report}");
    });
}
