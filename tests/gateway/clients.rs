//! The official client, a client in Python, a generated one and a browser against a node.

use std::process::Command;

use super::support::node::{Node, PROGRAM, place};
use super::support::program::{clients, passes, python, root};

/// These suites send as much as they can: that is what they are about.
const UNLIMITED: &[(&str, &str)] = &[("limits.enabled", "false")];

async fn against_a_node(program: Command) {
    against(program, UNLIMITED).await;
}

async fn against(mut program: Command, settings: &[(&str, &str)]) {
    let node = Node::with(settings).await;
    let token = format!("'{PROGRAM}' token --data '{}'", node.data().display());
    program
        .env("VESTIBULE_URL", format!("http://{}", node.address()))
        .env(
            "VESTIBULE_OPERATIONS_URL",
            format!("http://{}", node.operations()),
        )
        .env("VESTIBULE_TOKEN_COMMAND", token);
    passes(&mut program).await;
    node.is_well().await;
}

fn npm(script: &str) -> Command {
    let mut npm = Command::new("npm");
    npm.args(["run", "--silent", script]).current_dir(clients());
    npm
}

async fn suite(script: &str) {
    against_a_node(npm(script)).await;
}

fn pytest(file: &str) -> Command {
    let mut pytest = Command::new(python());
    pytest
        .args(["-m", "pytest", file])
        .current_dir(root().join("tests/python"));
    pytest
}

#[tokio::test]
async fn the_stock_client_gets_what_it_was_promised() {
    suite("test:sockets").await;
}

/// Little is kept, so that what lies beyond it is soon reached.
#[tokio::test]
async fn the_stock_client_comes_back_as_if_it_had_not_been_away() {
    let settings = [
        ("recovery.window", "3s"),
        ("recovery.events_max", "200"),
        ("timeline.entries_max", "50"),
        ("timeline.keep_min", "50"),
        ("presence.grace", "1s"),
        ("transport.workers", "2"),
    ];
    let mut suite = npm("test:recovery");
    suite
        .env("VESTIBULE_RECOVERY_WINDOW_MS", "3000")
        .env("VESTIBULE_RECOVERY_EVENTS_MAX", "200");
    against(suite, &settings).await;
}

#[tokio::test]
async fn the_page_serves_people_in_a_browser() {
    suite("test:page").await;
}

#[tokio::test]
async fn a_client_in_python_gets_the_same() {
    against_a_node(pytest("test_socketio.py")).await;
}

#[tokio::test]
async fn what_the_node_answers_is_what_its_description_says() {
    against_a_node(pytest("test_openapi.py")).await;
}

/// Its nodes are its own: each has a catalogue of its own.
#[tokio::test]
async fn every_row_of_the_vocabulary_does_what_it_says() {
    let _place = place().await;
    passes(npm("test:vocabulary").env("VESTIBULE_PROGRAM", PROGRAM)).await;
}
