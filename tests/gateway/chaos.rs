//! The checker of `tests/chaos`: that it judges as it says, and what it finds in a short run. `make chaos` runs longer.

use std::path::Path;
use std::process::Command;

use super::support::node::{PROGRAM, place};
use super::support::program::{clients, passes, root};

/// All `*.test.js` of a folder of the project.
fn node_tests(folder: &str) -> Command {
    // They borrow a package of the client tests.
    clients();
    let mut node = Command::new("node");
    node.arg("--test").current_dir(root().join(folder));
    node
}

#[tokio::test]
async fn the_judge_finds_what_is_wrong_and_links_break_as_told() {
    passes(&mut node_tests("tests/chaos")).await;
}

#[tokio::test]
async fn the_helper_decides_as_it_says() {
    passes(&mut node_tests("client")).await;
}

/// Faults of every kind under a fixed seed: no acknowledged event is missing, doubled or out of order anywhere.
#[tokio::test]
#[ignore = "four minutes; make chaos runs longer and everything"]
async fn nothing_is_lost_or_doubled_whatever_breaks() {
    let example = Path::new(PROGRAM)
        .with_file_name("examples")
        .join("servers");
    assert!(
        example.exists(),
        "{} is not built: cargo build --example servers",
        example.display()
    );
    clients();
    let _place = place().await;
    for (scenario, seed) in [("everything", "1"), ("nodes", "2")] {
        let mut node = Command::new("node");
        node.arg(root().join("tests/chaos/run.mjs"))
            .args(["--scenario", scenario, "--seed", seed, "--seconds", "60"])
            .args(["--program", PROGRAM, "--servers"])
            .arg(&example);
        passes(&mut node).await;
    }
}
