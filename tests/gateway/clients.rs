//! The official client and a browser against a node.

use std::process::Command;

use super::support::node::{Node, PROGRAM};
use super::support::program::{clients, passes};

async fn suite(script: &str) {
    let folder = clients();
    let node = Node::start().await;
    let token = format!("'{PROGRAM}' token --data '{}'", node.data().display());
    let mut npm = Command::new("npm");
    npm.args(["run", "--silent", script])
        .current_dir(folder)
        .env("VESTIBULE_URL", format!("http://{}", node.address()))
        .env(
            "VESTIBULE_OPERATIONS_URL",
            format!("http://{}", node.operations()),
        )
        .env("VESTIBULE_TOKEN_COMMAND", token);
    passes(&mut npm).await;
    node.is_well().await;
}

#[tokio::test]
async fn the_stock_client_gets_what_it_was_promised() {
    suite("test:sockets").await;
}

#[tokio::test]
async fn the_page_serves_people_in_a_browser() {
    suite("test:page").await;
}
