//! The operations listener: `/healthz`, `/readyz`, `/metrics`, `/cluster`.
//!
//! Its own port, plain HTTP, never for clients. It answers to the very end of the drain.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::cluster::membership::Membership;
use crate::edge::listener::Listener;
use crate::lifecycle::Readiness;
use crate::lifecycle::readiness::State;
use crate::telemetry::expose;

/// Scrapers, probes and a person; more is an accident.
const CONNECTIONS_MAX: usize = 64;
/// A connection that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What a probe reads.
#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reasons: &'a [Reason<'a>],
}

#[derive(Serialize)]
struct Reason<'a> {
    name: &'a str,
    text: &'a str,
}

/// Serves until it is aborted.
///
/// # Errors
/// When the socket cannot be watched.
pub(super) async fn serve(
    listener: Listener,
    readiness: Readiness,
    membership: Membership,
) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.into_std())?;
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let place = std::sync::Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (readiness, membership) = (readiness.clone(), membership.clone());
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = respond(&request, &readiness, &membership);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
            if let Err(error) = builder
                .serve_connection(TokioIo::new(stream), service)
                .await
            {
                tracing::debug!(%error, "operations connection ended early");
            }
            drop(place);
        });
    }
}

fn respond(
    request: &Request<Incoming>,
    readiness: &Readiness,
    membership: &Membership,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "use GET\n".to_owned(),
        );
    }
    match request.uri().path() {
        // Alive is whoever can answer; what is missing is readiness.
        "/healthz" => health(StatusCode::OK, "ok", &[]),
        "/readyz" => {
            let status = readiness.status();
            let reasons: Vec<_> = status
                .reasons
                .iter()
                .map(|reason| Reason {
                    name: reason.name,
                    text: &reason.text,
                })
                .collect();
            let word = match status.state {
                State::Ready => "ready",
                State::Draining => "draining",
                _ => "broken",
            };
            let code =
                StatusCode::from_u16(status.code()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            health(code, word, &reasons)
        }
        "/metrics" => answer(StatusCode::OK, expose::CONTENT_TYPE, expose::render()),
        "/cluster" => {
            let report = serde_json::to_string(&membership.report()).unwrap_or_default();
            answer(StatusCode::OK, "application/json", report)
        }
        _ => answer(
            StatusCode::NOT_FOUND,
            "text/plain",
            "here are /healthz, /readyz, /metrics and /cluster\n".to_owned(),
        ),
    }
}

fn health(status: StatusCode, word: &str, reasons: &[Reason<'_>]) -> Response<Full<Bytes>> {
    let body = serde_json::to_string(&Health {
        status: word,
        reasons,
    })
    .unwrap_or_default();
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
