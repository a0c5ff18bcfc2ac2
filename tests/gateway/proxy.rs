//! Behind a balancer that speaks the PROXY protocol.

use super::support::client::{Client, POLLING};
use super::support::eventually;
use super::support::node::Node;
use super::support::wire::Wire;

const SETTINGS: &[(&str, &str)] = &[
    ("edge.proxy_protocol", "true"),
    ("edge.header_timeout", "1s"),
];
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2 for a TCP connection over IPv4, with a TLV that says nothing.
fn v2() -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 198, 51, 100, 1, 0xc8, 0x22, 0x01, 0xbb];
    let nothing = [0x04, 0, 1, 0];
    let length = u16::try_from(addresses.len() + nothing.len()).unwrap();
    [
        SIGNATURE,
        &[0x21, 0x11],
        &length.to_be_bytes(),
        &addresses,
        &nothing,
    ]
    .concat()
}

/// Version 2 of a health check: the proxy speaks for itself.
fn v2_local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0x00, 0, 0]].concat()
}

async fn behind(node: &Node, header: &[u8]) -> Wire {
    let mut wire = node.dial().await;
    wire.send(header).await;
    wire
}

#[tokio::test]
async fn both_transports_work_behind_every_kind_of_header() {
    let node = proxied().await;
    let headers = [V1.to_vec(), V1_UNKNOWN.to_vec(), v2(), v2_local()];
    for header in &headers {
        let mut client = Client::over(behind(&node, header).await, &node.token("ada")).await;
        client.join("lobby").await;
        client.say("lobby", "hello").await;
        let answer = behind(&node, header).await.get(POLLING, "").await;
        assert!(
            answer.status == 200 && answer.text().starts_with("0{"),
            "{}",
            answer.text()
        );
    }
    // In the same bytes as the request, and in pieces.
    let request = format!("GET {POLLING} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut wire = behind(&node, &[&v2(), request.as_bytes()].concat()).await;
    assert_eq!(wire.response().await.unwrap().status, 200);
    let mut wire = node.dial().await;
    for byte in V1 {
        wire.send(&[*byte]).await;
    }
    assert_eq!(wire.get(POLLING, "").await.status, 200);
}

#[tokio::test]
async fn a_connection_without_a_usable_header_is_refused() {
    let node = proxied().await;
    let mut long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    long.extend([0; 4_096]);
    let table: &[(&str, &[u8])] = &[
        ("a request", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        ("nothing", b""),
        ("half a header", b"PROXY TCP4 203.0.113.7"),
        ("a bad address", b"PROXY TCP4 203.0.113.777 1.2.3.4 1 2\r\n"),
        (
            "an endless line",
            &[b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
        ),
        ("an endless version 2", &long),
        ("version 3", &[SIGNATURE, &[0x31, 0x11, 0, 0]].concat()),
    ];
    for (count, (what, bytes)) in (1_u32..).zip(table) {
        let mut wire = behind(&node, bytes).await;
        assert_eq!(wire.rest().await, b"", "{what}: no answer, just the end");
        eventually(what, async || {
            let refused = node
                .scrape()
                .await
                .sum("edge_refused_total{why=\"proxy_header\"}");
            (refused >= f64::from(count)).then_some(())
        })
        .await;
    }
    assert!(!node.log().contains("panicked"));
    Client::over(behind(&node, V1).await, &node.token("ada")).await;
}

async fn proxied() -> Node {
    Node::with(SETTINGS).await
}
