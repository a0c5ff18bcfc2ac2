//! The way to a collector: HTTP or HTTPS, on the node's own runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// The exporter has a thread of its own and no runtime.
#[derive(Debug)]
pub(super) struct Collector {
    runtime: Handle,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The last exchange failed, and that was said.
    is_away: AtomicBool,
}

impl Collector {
    pub(super) fn new() -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            runtime: Handle::current(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            is_away: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
            Ok::<_, HttpError>(Response::from_parts(head, body.to_bytes()))
        };
        // The time is counted by the runtime too.
        let exchange = async move { tokio::time::timeout(WITHIN, exchange).await };
        let exchange = self.runtime.spawn(exchange);
        let outcome: Result<Response<Bytes>, HttpError> = async { exchange.await?? }.await;
        self.note(&outcome);
        outcome
    }
}

impl Collector {
    /// Says when spans begin to get lost, and when they do no more.
    fn note(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let is_away = !matches!(outcome, Ok(answer) if answer.status().is_success());
        if self.is_away.swap(is_away, Ordering::Relaxed) == is_away {
            return;
        }
        match outcome {
            Ok(answer) if is_away => {
                tracing::warn!(
                    status = answer.status().as_u16(),
                    "the collector takes no traces"
                );
            }
            Ok(_) => tracing::info!("the collector takes traces again"),
            Err(error) => tracing::warn!(%error, "the collector of traces is not reached"),
        }
    }
}

const WITHIN: Duration = Duration::from_secs(10);
/// It answers with a few counts.
const ANSWER_BYTES_MAX: usize = 64 << 10;
