//! Two tabs of a real browser on different nodes of a cluster as `make cluster` starts it:
//! `tests/clients/page/killed.mjs`.

use std::time::Duration;

use super::check::Checker;
use super::place;
use crate::servers::cluster::{Cluster, Plan};
use crate::support::node::PROGRAM;

const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_chat_on_when_the_node_of_one_is_killed() {
    let _place = place().await;
    let folder = tempfile::tempdir().unwrap();
    tokio::task::block_in_place(|| {
        let mut cluster = Cluster::start(folder.path(), Plan::new(PROGRAM.as_ref()));
        let mut tabs = Checker::of(&cluster, &["page/killed.mjs"]);
        let victim: usize = tabs.says(WITHIN).parse().unwrap();
        cluster.nodes[victim].kill();
        let report = tabs.says(WITHIN);
        println!("{report}");
        assert!(tabs.has_passed(), "{report}");
    });
}
