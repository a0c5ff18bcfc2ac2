//! HTTPS: both versions of HTTP, WebSockets, and a certificate that changes under way.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertifiedKey;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::client::{Client, POLLING};
use super::support::node::Node;
use super::support::wire::Wire;
use super::support::{eventually, within};

const SETTINGS: &[(&str, &str)] = &[
    ("edge.tls.certificate", "certificate.pem"),
    ("edge.tls.key", "key.pem"),
    ("edge.tls.reload_interval", "1s"),
];

/// A certificate for `localhost`, signed by itself.
struct Issued {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

impl Issued {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            key: signing_key.serialize_pem(),
        }
    }

    fn install(&self, node: &Node) {
        for (name, text) in [("certificate.pem", &self.pem), ("key.pem", &self.key)] {
            let written = node.folder().join("new");
            std::fs::write(&written, text).unwrap();
            std::fs::rename(written, node.folder().join(name)).unwrap();
        }
    }
}

async fn node_with(certificate: &Issued) -> Node {
    let mut node = Node::unstarted(SETTINGS).await;
    certificate.install(&node);
    node.run().await;
    node
}

/// A TLS connection by somebody who trusts only these certificates.
async fn dial(
    node: &Node,
    trusted: &[&Issued],
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.der.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(node.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    within(
        "a TLS handshake",
        TlsConnector::from(Arc::new(config)).connect(name, stream),
    )
    .await
}

#[tokio::test]
async fn websockets_and_requests_work_over_tls() {
    let certificate = Issued::new();
    let node = node_with(&certificate).await;
    let link = dial(&node, &[&certificate], "http/1.1").await.unwrap();
    let mut wire = Wire::new(link);
    let answer = wire.get(POLLING, "").await;
    assert!(
        answer.status == 200 && answer.text().starts_with("0{"),
        "{}",
        answer.text()
    );
    let link = dial(&node, &[&certificate], "http/1.1").await.unwrap();
    let mut client = Client::over(Wire::new(link), &node.token("ada")).await;
    client.join("lobby").await;
    let id = client.say("lobby", "sealed").await;
    assert_eq!(client.shown().await.unwrap().id, id);
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_asked_for() {
    let certificate = Issued::new();
    let node = node_with(&certificate).await;
    let link = dial(&node, &[&certificate], "h2").await.unwrap();
    assert_eq!(link.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(link);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut requests, connection) = handshake.unwrap();
    let mut running = JoinSet::new();
    running.spawn(connection);
    for (user, status) in [(Some("ada"), 200), (None, 401)] {
        let mut request = http::Request::get("https://localhost/api/conversations/lobby/messages");
        if let Some(user) = user {
            request = request.header("authorization", format!("Bearer {}", node.token(user)));
        }
        let answer = requests.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap());
        let answer = within("an answer over HTTP/2", answer).await.unwrap();
        assert_eq!(
            (answer.version(), answer.status().as_u16()),
            (http::Version::HTTP_2, status)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (Issued::new(), Issued::new());
    let node = node_with(&old).await;
    let link = dial(&node, &[&old], "http/1.1").await.unwrap();
    let mut client = Client::over(Wire::new(link), &node.token("ada")).await;
    client.say("lobby", "before").await;
    new.install(&node);
    eventually("the new certificate is served", async || {
        let link = dial(&node, &[&old, &new], "http/1.1").await.unwrap();
        let served = link
            .get_ref()
            .1
            .peer_certificates()
            .unwrap()
            .first()
            .cloned();
        (served.as_ref() == Some(&new.der)).then_some(())
    })
    .await;
    assert!(
        dial(&node, &[&old], "http/1.1").await.is_err(),
        "the old one is served no more"
    );
    client.say("lobby", "after").await;

    // One that does not fit is refused, and the good one stays.
    std::fs::write(node.folder().join("key.pem"), &old.key).unwrap();
    eventually("the refusal is counted", async || {
        let failed = node
            .scrape()
            .await
            .sum("tls_reloads_total{result=\"failed\"}");
        (failed >= 1.0).then_some(())
    })
    .await;
    dial(&node, &[&new], "http/1.1").await.unwrap();
    client.say("lobby", "still here").await;
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_refused_and_counted() {
    let certificate = Issued::new();
    let node = node_with(&certificate).await;
    let mut wire = node.dial().await;
    wire.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    eventually("it is counted", async || {
        (node.scrape().await.sum("edge_refused_total{why=\"tls\"}") >= 1.0).then_some(())
    })
    .await;
    let link = dial(&node, &[&certificate], "http/1.1").await.unwrap();
    assert_eq!(Wire::new(link).get(POLLING, "").await.status, 200);
    assert!(!node.log().contains("panicked"));
}
