//! Load by stock clients, faults at fixed times, and the judgement: `tests/chaos/check.mjs`.

#![expect(clippy::disallowed_methods, reason = "it waits on a thread of its own")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::program;
use crate::servers::cluster::Cluster;
use crate::servers::node::Node;

/// How long everything may take to arrive and be read after the last was sent.
const SETTLE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a node may take until it is ready again, while the load goes on.
const CONNECTS_WITHIN: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) senders: u32,
    pub(super) rooms: u32,
    pub(super) seconds: u64,
    /// Messages each second, of all senders together.
    pub(super) rate: u32,
    /// How often a client may lose its connection.
    pub(super) kills: u32,
}

/// What goes wrong meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Asked to end, and started again.
    RestartShard(usize),
    /// Killed, and started again after this time.
    KillShard(usize, Duration),
    /// Stopped in its tracks for this time.
    PauseShard(usize, Duration),
    /// Killed, and started again at once.
    KillKafka,
    /// Asked to end, and started again.
    RestartKafka,
    /// Ended, and started again.
    RestartPostgres,
    /// Killed, and started again after this time.
    KillPostgres(Duration),
    /// Killed, and started again at once.
    KillNode(usize),
    /// All shards that the nodes know share the rooms from now on.
    ChangeRing,
}

impl Fault {
    fn happen(self, cluster: &mut Cluster) {
        match self {
            Self::RestartShard(n) => cluster.shards[n].restart(),
            Self::KillShard(n, away) => {
                cluster.shards[n].kill();
                thread::sleep(away);
                cluster.shards[n].restart();
            }
            Self::PauseShard(n, away) => {
                cluster.shards[n].process().pause();
                thread::sleep(away);
                cluster.shards[n].process().resume();
            }
            Self::KillKafka => {
                cluster.kafka.broker(0).kill();
                cluster.kafka.broker(0).restart();
            }
            Self::RestartKafka => cluster.kafka.broker(0).restart(),
            Self::RestartPostgres => cluster.postgres.restart(),
            Self::KillPostgres(away) => {
                cluster.postgres.kill();
                thread::sleep(away);
                cluster.postgres.restart();
            }
            Self::KillNode(n) => {
                let node = &mut cluster.nodes[n];
                node.kill();
                node.launch();
                node.wait();
            }
            Self::ChangeRing => {
                let mut apply = cluster.nodes[0].command(&["ring", "apply", "--wait"]);
                let output = apply.output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{output:?}");
                assert!(text.contains("every room is at its place"), "{text}");
                println!("{text}");
            }
        }
    }
}

/// The program that sends and judges. Ended with the value.
pub(super) struct Checker {
    child: Child,
    lines: Receiver<String>,
}

impl Checker {
    fn start(cluster: &Cluster, load: &Load) -> Self {
        let mut arguments = vec!["../chaos/check.mjs".to_owned()];
        for (name, value) in [
            ("senders", u64::from(load.senders)),
            ("rooms", u64::from(load.rooms)),
            ("seconds", load.seconds),
            ("rate", u64::from(load.rate)),
            ("kills", u64::from(load.kills)),
            ("settle", SETTLE.as_secs()),
        ] {
            arguments.push(format!("--{name}={value}"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self::of(cluster, &arguments)
    }

    /// A program with its arguments, told where the cluster is.
    pub(super) fn of(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut node = program("node", cluster);
        let mut child = node
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Its next line.
    pub(super) fn says(&self, within: Duration) -> String {
        let line = self.lines.recv_timeout(within);
        line.unwrap_or_else(|error| panic!("the check says nothing within {within:?}: {error}"))
    }

    /// Whether it ended and found nothing wrong.
    pub(super) fn has_passed(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Loads the cluster, lets the faults happen at their seconds, and fails unless all is as it should be.
pub(super) fn run(cluster: &mut Cluster, load: &Load, faults: &[(u64, Fault)]) {
    let mut checker = Checker::start(cluster, load);
    assert_eq!(checker.says(CONNECTS_WITHIN), "started");
    let start = Instant::now();
    for (second, fault) in faults {
        let at = Duration::from_secs(*second);
        thread::sleep(at.saturating_sub(start.elapsed()));
        println!("{:5.1} s: {fault:?}", start.elapsed().as_secs_f64());
        fault.happen(cluster);
        println!("{:5.1} s: it is back", start.elapsed().as_secs_f64());
    }
    let rest = Duration::from_secs(load.seconds).saturating_sub(start.elapsed());
    assert_eq!(checker.says(rest + 2 * SETTLE), "sent");
    let report = checker.says(4 * SETTLE);
    println!("{report}");
    let status = checker.child.wait().unwrap();
    let ended: Vec<String> = cluster.nodes.iter_mut().filter_map(ended).collect();
    if !status.success() || !ended.is_empty() {
        for node in &cluster.nodes {
            println!("{}", complaints(node));
        }
        println!("{}", cluster.balancer.said());
    }
    assert!(ended.is_empty(), "nobody ended them: {ended:?}");
    assert!(status.success(), "{status}: {report}");
}

/// How a node ended that should run.
fn ended(node: &mut Node) -> Option<String> {
    let how = node.ending();
    (!node.is_running()).then(|| format!("{}: {how:?}", node.name()))
}

/// The last that a node found wrong.
fn complaints(node: &Node) -> String {
    let log = std::fs::read_to_string(node.log()).unwrap_or_default();
    let is_wrong = |line: &&str| !line.contains(" INFO ") && !line.contains(" DEBUG ");
    let mut lines: Vec<&str> = log.lines().rev().filter(is_wrong).take(40).collect();
    lines.reverse();
    format!("node {}:\n{}", node.name(), lines.join("\n"))
}

/// Fails unless the consumers of the cluster come to the end of the log.
pub(super) fn is_drained(cluster: &Cluster, within: Duration) {
    let end = Instant::now() + within;
    loop {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let table = cluster.kafka.tool(class, &["--describe", "--all-groups"]);
        let lags = lags(&table);
        let lag: u64 = lags.iter().sum();
        if !lags.is_empty() && lag == 0 {
            println!("lag 0 in {} partitions", lags.len());
            return;
        }
        assert!(Instant::now() < end, "the lag is {lag}:\n{table}");
        thread::sleep(LOOK_EVERY);
    }
}

/// The column LAG. Where nothing was committed there is a dash.
fn lags(table: &str) -> Vec<u64> {
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| row.get(5)?.parse().ok()).collect()
}
