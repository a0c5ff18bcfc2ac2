//! Where the path of an event is exported to: a collector that takes OTLP over HTTP.

#![expect(
    clippy::disallowed_methods,
    reason = "the collector ends with its test"
)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::support::client::Client;
use super::support::eventually;
use super::support::node::Node;

/// Spans are exported this often.
const EXPORTED_WITHIN: Duration = Duration::from_secs(5);

/// What came: of whom, and what.
type Spans = Arc<Mutex<Vec<(String, Span)>>>;

/// A collector; answers where it is and what it has.
async fn collector() -> (String, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let spans = Spans::default();
    let all = Arc::clone(&spans);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let all = Arc::clone(&all);
            let serve = service_fn(move |request| take(request, Arc::clone(&all)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
        }
    });
    (url, spans)
}

async fn take(request: Request<Incoming>, all: Spans) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    for of_node in export.resource_spans {
        let about = format!("{:?}", of_node.resource);
        for of_scope in of_node.scope_spans {
            let spans = of_scope.spans.into_iter().map(|span| (about.clone(), span));
            all.lock().unwrap().extend(spans);
        }
    }
    Ok(Response::new(Full::default()))
}

#[tokio::test]
async fn the_path_of_an_event_is_one_trace_named_by_its_id() {
    let (url, spans) = collector().await;
    let node = Node::with(&[("telemetry.otlp", &url), ("telemetry.otlp_one_in", "1")]).await;
    let mut ada = Client::connect(&node, "ada").await;
    ada.join("lobby").await;
    let sent = json!({ "conversationId": "lobby", "content": "traced" });
    let id = ada.ask_ok("message:send", &sent).await["id"].clone();
    let id = id.as_str().unwrap();
    ada.shown().await.unwrap();
    // The sixteen bytes of its id.
    let trace = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, id);
    let trace = trace.unwrap();
    let parts = [
        "publish", "fetched", "queued", "applied", "shown", "archived",
    ];
    let path = eventually("the parts of the path", async || {
        let all = spans.lock().unwrap();
        let of_it = all.iter().filter(|(_, span)| span.trace_id == trace);
        let path: Vec<(String, Span)> = of_it.cloned().collect();
        let has = |part: &&str| path.iter().any(|(_, span)| span.name == *part);
        parts.iter().all(has).then_some(path)
    })
    .await;
    let (about, root) = path
        .iter()
        .find(|(_, span)| span.name == "publish")
        .unwrap();
    assert!(root.parent_span_id.is_empty(), "{root:?}");
    for what in [
        "vestibule",
        "service.instance.id",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(about.contains(what), "{about}");
    }
    for (_, span) in path.iter().filter(|(_, span)| span.name != "publish") {
        assert_eq!(span.parent_span_id, root.span_id, "{span:?}");
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
    }
    node.is_well().await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nobody_anything() {
    let node = Node::with(&[
        ("telemetry.otlp", "http://127.0.0.1:9"),
        ("telemetry.otlp_one_in", "1"),
    ])
    .await;
    let mut ada = Client::connect(&node, "ada").await;
    ada.join("lobby").await;
    for n in 0..50 {
        ada.say("lobby", &format!("line {n}")).await;
    }
    let said = || {
        let log = node.log();
        log.matches("the collector of traces is not reached")
            .count()
    };
    eventually("it is said", async || (said() > 0).then_some(())).await;
    // It is tried again meanwhile.
    ada.say("lobby", "one more").await;
    tokio::time::sleep(2 * EXPORTED_WITHIN).await;
    assert_eq!(said(), 1, "{}", node.log());
    node.is_well().await;
}
