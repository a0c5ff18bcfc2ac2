//! The reference's Redis emitter, heard by a node.

use std::process::Command;

use super::servers::redis::Redis;
use super::support::eventually;
use super::support::node::{Node, PROGRAM};
use super::support::program::{clients, passes};

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_emitter_reaches_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(folder.path());
    let url = redis.url();
    let node = Node::with(&[
        ("cluster.emitter.enabled", "true"),
        ("cluster.emitter.url", &url),
    ])
    .await;
    is_heard(&node).await;
    // What broke is mended by itself.
    tokio::task::block_in_place(|| redis.kill());
    eventually("the loss is noticed", async || {
        (node.scrape().await.sum("emitter_connected") < 1.0).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| redis.restart());
    is_heard(&node).await;
    let mut program = Command::new("npm");
    program
        .args(["run", "--silent", "test:emitter"])
        .current_dir(clients())
        .env("VESTIBULE_REDIS_PORT", redis.port().to_string())
        .env("VESTIBULE_URL", format!("http://{}", node.address()))
        .env(
            "VESTIBULE_TOKEN_COMMAND",
            format!("'{PROGRAM}' token --data '{}'", node.data().display()),
        );
    passes(&mut program).await;
    let counted = node.scrape().await;
    for kind in [
        "event",
        "join",
        "leave",
        "disconnect",
        "ignored",
        "malformed",
    ] {
        let series = format!("emitter_messages_total{{kind=\"{kind}\"}}");
        assert!(counted.sum(&series) > 0.0, "{series}");
    }
    assert!(counted.sum("emitter_messages_total{kind=\"dropped\"}") < 1.0);
    node.is_well().await;
}

async fn is_heard(node: &Node) {
    eventually("emitters are heard", async || {
        (node.scrape().await.sum("emitter_connected") > 0.0).then_some(())
    })
    .await;
}
