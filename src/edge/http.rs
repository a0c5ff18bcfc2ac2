//! One connection: HTTP/1.1 or HTTP/2, and the way of each request.
//!
//! Paths go to the Socket.IO transport, the REST API or the page, in this order. Header size, header
//! time and body size are bounded here for all of them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::client_addr;
use super::origin::Origins;
use crate::api::Api;
use crate::config::sections::Edge as Config;
use crate::lifecycle::drain::{Drain, Phase};
use crate::telemetry::metrics;
use crate::transport::Sessions;
use crate::transport::stream::Stream;
use crate::web;

/// Where requests of one worker go.
pub struct Router {
    /// Bounds and trust.
    pub config: Config,
    /// Who may call from a browser.
    pub origins: Origins,
    /// Socket.IO sessions of this worker.
    pub sessions: Rc<Sessions>,
    /// REST.
    pub api: Rc<Api>,
    /// Development mode shows itself on the page.
    pub is_development: bool,
    /// Ends idle connections when the node goes.
    pub drain: Drain,
}

/// What is known of a connection before any request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The other end, after the PROXY protocol.
    pub address: SocketAddr,
    /// True over TLS.
    pub is_secure: bool,
    /// True when the client chose HTTP/2.
    pub is_http2: bool,
}

/// Runs futures of HTTP/2 streams on this worker.
#[derive(Clone, Copy)]
struct OnWorker;

impl<F> hyper::rt::Executor<F> for OnWorker
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}

/// Serves one connection until it ends, is upgraded, or the node drains.
pub async fn serve(router: Rc<Router>, stream: Stream, peer: Peer) {
    let drain = router.drain.clone();
    let service = {
        let router = Rc::clone(&router);
        service_fn(move |request| {
            let router = Rc::clone(&router);
            async move { Ok::<_, std::convert::Infallible>(router.respond(request, peer).await) }
        })
    };
    let io = TokioIo::new(stream);
    let result = if peer.is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(OnWorker);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(router.config.max_header_bytes.bytes()).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(HTTP2_PING));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => result,
            () = drain.reached(Phase::Parting) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(router.config.header_timeout.get())
            .max_buf_size(router.config.max_header_bytes.bytes().max(8192))
            .half_close(false);
        let connection = builder.serve_connection(io, service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = drain.reached(Phase::Parting) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Streams of one HTTP/2 connection at a time; browsers use far fewer.
const HTTP2_STREAMS_MAX: u32 = 128;
/// How often a silent HTTP/2 connection is asked whether it lives.
const HTTP2_PING: Duration = Duration::from_secs(30);

impl Router {
    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let client = client_addr::client(&self.config, peer.address.ip(), request.headers());
        if self.sessions.is_path(path) {
            return self.socketio(request, client, peer).await;
        }
        if path.starts_with("/api/") {
            return self.rest(request, client).await;
        }
        let method = request.method().clone();
        let tag = request.headers().get(http::header::IF_NONE_MATCH);
        let tag = tag.and_then(|value| value.to_str().ok());
        let page = web::respond(&method, path, tag, self.is_development);
        match page {
            Some(response) => response.map(Full::new),
            None => plain(StatusCode::NOT_FOUND, "nothing here\n"),
        }
    }

    async fn socketio(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        if request.method() == Method::OPTIONS
            && let Some(answer) = self.origins.preflight(request.headers())
        {
            return answer.map(|()| Full::default());
        }
        let cors = self.origins.headers(request.headers());
        let may_upgrade = self.origins.allows_handshake(request.headers());
        let mut response =
            self.sessions.respond(request, client, peer.is_secure, may_upgrade).await;
        response.headers_mut().extend(cors);
        response
    }

    async fn rest(&self, request: Request<Incoming>, client: IpAddr) -> Response<Full<Bytes>> {
        if request.method() == Method::OPTIONS
            && let Some(answer) = self.origins.preflight(request.headers())
        {
            return answer.map(|()| Full::default());
        }
        let cors = self.origins.headers(request.headers());
        let started = std::time::Instant::now();
        let method = request.method().clone();
        let (route, mut response) = self.api.respond(request, client).await;
        metrics::http_request(route, &method, response.status(), started.elapsed());
        response.headers_mut().extend(cors);
        response
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let value = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}
