//! The wire protocols' cases against a program on the library.

use std::path::Path;
use std::process::Command;

use super::support::node::{PROGRAM, place};
use super::support::program::{clients, passes, root};

async fn cases(file: &str) {
    // The cases borrow a package of the client tests.
    clients();
    let example = Path::new(PROGRAM)
        .with_file_name("examples")
        .join("conformance");
    assert!(
        example.exists(),
        "{} is not built: cargo build --example conformance",
        example.display()
    );
    let _place = place().await;
    let mut node = Command::new("node");
    node.args(["--test", "--test-concurrency=1"])
        .arg(root().join("tests/conformance").join(file))
        .env("CONFORMANCE_COMMAND", format!("'{}'", example.display()));
    passes(&mut node).await;
}

#[tokio::test]
async fn engine_io_is_spoken_as_its_protocol_says() {
    cases("engineio.test.js").await;
}

#[tokio::test]
async fn socket_io_is_spoken_as_its_protocol_says() {
    cases("socketio.test.js").await;
}
