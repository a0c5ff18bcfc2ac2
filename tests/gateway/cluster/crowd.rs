//! The node of 2,000 clients is killed, twenty times over: `tests/clients/recovery/crowd.mjs`.

#![expect(clippy::disallowed_methods, reason = "it waits where it may block")]

use std::time::Duration;

use serde_json::Value;

use super::check::Checker;
use super::{place, start};

const RUNS: usize = 20;
const CLIENTS: u64 = 2_000;
const WITHIN: Duration = Duration::from_secs(180);
/// All are back by then.
const BACK_MS: u64 = 10_000;
/// What the balancer takes to see that nodes are there.
const SEEN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes; make check-resume"]
async fn two_thousand_clients_come_back_when_their_node_is_killed() {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    tokio::task::block_in_place(|| {
        let mut cluster = start(&folder);
        for run in 0..RUNS {
            let victim = run % cluster.nodes.len();
            let others: Vec<usize> = (0..cluster.nodes.len()).filter(|n| *n != victim).collect();
            for n in &others {
                cluster.nodes[*n].end();
            }
            let mut crowd = Checker::of(&cluster, &["recovery/crowd.mjs"]);
            assert_eq!(crowd.says(WITHIN), "connected");
            for n in &others {
                cluster.nodes[*n].launch();
                cluster.nodes[*n].wait();
            }
            assert_eq!(crowd.says(WITHIN), "ready");
            std::thread::sleep(SEEN);
            cluster.nodes[victim].kill();
            let report = crowd.says(WITHIN);
            println!("run {run}: {report}");
            assert!(crowd.has_passed(), "{report}");
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["recovered"], CLIENTS, "{report}");
            let last = report["backMs"]["max"].as_u64().unwrap();
            assert!(last <= BACK_MS, "{report}");
            cluster.nodes[victim].launch();
            cluster.nodes[victim].wait();
        }
    });
}
