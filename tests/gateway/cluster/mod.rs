//! A whole cluster: three nodes on real Redis, Kafka and PostgreSQL behind a balancer without stickiness.
//!
//! What is quick to ask is asked of one cluster, step by step: to start it takes as long as all of that. The
//! long checks are `make check-cluster`.

mod check;
mod crowd;
mod log;
mod stall;
mod tabs;

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use self::check::{Fault, Load};
use self::log::Log;
use super::servers::cluster::{Cluster, Plan};
use super::support::node::{PROGRAM, place};
use super::support::program::{clients, passes};

const SECRET: &str = "what tokens of a cluster under test are proved by";

/// A cluster that believes the tokens of these tests, with what they set for every node.
fn start(folder: &TempDir) -> Cluster {
    let plan = Plan::new(PROGRAM.as_ref())
        .with("auth.mode", "token")
        .with("auth.secret", SECRET)
        .with("limits.enabled", "false")
        .with("presence.grace", "1s")
        // Peers that do not come back must not be sent away.
        .with("admission.shed", "false")
        // Without a URL they are heard on the first shard.
        .with("cluster.emitter.enabled", "true");
    Cluster::start(folder.path(), plan)
}

/// A program of the client tests, told where the cluster is.
fn program(name: &str, cluster: &Cluster) -> Command {
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
    let operations = cluster.nodes[0].backend().operations;
    let mut program = Command::new(name);
    program
        .current_dir(clients())
        .env("VESTIBULE_URL", cluster.url())
        .env("VESTIBULE_NODES", nodes.join(","))
        .env(
            "VESTIBULE_OPERATIONS_URL",
            format!("http://127.0.0.1:{operations}"),
        )
        .env("VESTIBULE_SECRET", SECRET)
        .env("VESTIBULE_TOKEN_COMMAND", "node lib/sign.js");
    program
}

/// One claim after the other, each with its own name in the output.
#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_one_server() {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = tokio::task::block_in_place(|| start(&folder));
    let log = Log::follow(&cluster.kafka.bootstrap(), folder.path());
    for suite in ["test:cluster", "test:sockets", "test:emitter"] {
        println!("{suite}");
        let mut npm = program("npm", &cluster);
        npm.args(["run", "--silent", suite])
            .env("VESTIBULE_LOG", log.file())
            .env("VESTIBULE_REDIS_PORT", cluster.shards[0].port().to_string());
        passes(&mut npm).await;
    }
    drop(log);
    println!("test:recovery");
    let mut npm = program("npm", &cluster);
    npm.args(["run", "--silent", "test:recovery"]);
    passes(&mut npm).await;
    println!("a node is killed, and its clients come back to their sockets");
    let mut killed = program("node", &cluster);
    killed.arg("recovery/killed.mjs");
    let kill = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        tokio::task::block_in_place(|| cluster.nodes[2].kill());
    };
    tokio::join!(passes(&mut killed), kill);
    println!("a node is killed and a shard restarted under load");
    let load = Load {
        senders: 40,
        rooms: 10,
        seconds: 15,
        rate: 60,
        kills: 1,
    };
    let faults = [(4, Fault::RestartShard(1)), (8, Fault::KillNode(1))];
    tokio::task::block_in_place(|| {
        cluster.nodes[2].launch();
        cluster.nodes[2].wait();
        check::run(&mut cluster, &load, &faults);
        check::is_drained(&cluster, Duration::from_secs(30));
    });
    newcomers_get_their_share(&mut cluster, &folder).await;
}

/// Clients are sent away from two nodes when a third joins.
async fn newcomers_get_their_share(cluster: &mut Cluster, folder: &TempDir) {
    println!("clients are sent to a node that joins");
    tokio::task::block_in_place(|| {
        cluster.nodes[2].kill();
        for node in &mut cluster.nodes[..2] {
            node.set("admission.shed", "true");
            node.set("admission.shed_after", "2s");
            node.end();
            node.launch();
            node.wait();
        }
    });
    let mark = folder.path().join("ready");
    let mut shed = program("node", cluster);
    shed.arg("recovery/shed.mjs").env("VESTIBULE_READY", &mark);
    let join = async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::task::block_in_place(|| {
            cluster.nodes[2].launch();
            cluster.nodes[2].wait();
        });
    };
    tokio::select! {
        () = passes(&mut shed) => {}
        // Only the clients can say that all went well.
        () = async { join.await; std::future::pending().await } => {}
    }
}

/// A shard is added while clients go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_added_under_load() {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    let load = Load {
        senders: 40,
        rooms: 20,
        seconds: 14,
        rate: 80,
        kills: 0,
    };
    tokio::task::block_in_place(|| {
        let mut cluster = start(&folder);
        let ring = |cluster: &Cluster, action: &str| {
            let output = cluster.nodes[0].command(&["ring", action]).output();
            let output = output.unwrap();
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        };
        let (is_done, text) = ring(&cluster, "apply");
        assert!(
            !is_done && text.contains("these shards with these weights already"),
            "{text}"
        );
        cluster.add_shard();
        let (is_done, text) = ring(&cluster, "show");
        assert!(
            is_done && text.contains("shard-2  not on the ring"),
            "{text}"
        );
        check::run(&mut cluster, &load, &[(4, Fault::ChangeRing)]);
        let (_, text) = ring(&cluster, "show");
        assert!(text.contains("shard-2  weight 1  33.3 %"), "{text}");
        let kept = cluster.shards[2].ask(&["KEYS", "{vb2}:t:*"]);
        assert!(
            kept.is_some_and(|keys| !keys.trim().is_empty()),
            "rooms have moved"
        );
        check::is_drained(&cluster, Duration::from_secs(30));
    });
}

/// As many as the machine sustains beside all the servers.
const LONG: Load = Load {
    senders: 200,
    rooms: 50,
    seconds: 60,
    rate: 400,
    kills: 0,
};

async fn long(load: Load, faults: &[(u64, Fault)]) {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    tokio::task::block_in_place(|| {
        let mut cluster = start(&folder);
        check::run(&mut cluster, &load, faults);
        check::is_drained(&cluster, Duration::from_secs(60));
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_all_is_well() {
    long(LONG, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_a_shard_restarts() {
    let faults = [
        (10, Fault::RestartShard(0)),
        (25, Fault::KillShard(1, Duration::from_secs(3))),
        (45, Fault::PauseShard(0, Duration::from_secs(3))),
    ];
    long(LONG, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_kafka_restarts() {
    let faults = [(10, Fault::KillKafka), (35, Fault::RestartKafka)];
    long(LONG, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_postgres_is_away() {
    let faults = [
        (10, Fault::RestartPostgres),
        (25, Fault::KillPostgres(Duration::from_secs(10))),
    ];
    long(LONG, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_nodes_are_killed() {
    let load = Load { kills: 2, ..LONG };
    let faults = [(15, Fault::KillNode(0)), (40, Fault::KillNode(2))];
    long(load, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make check-cluster"]
async fn nothing_is_lost_or_doubled_when_all_of_it_fails_in_turn() {
    let load = Load { kills: 1, ..LONG };
    let faults = [
        (8, Fault::KillShard(0, Duration::from_secs(3))),
        (20, Fault::KillNode(1)),
        (32, Fault::KillKafka),
        (48, Fault::KillPostgres(Duration::from_secs(3))),
    ];
    long(load, &faults).await;
}
