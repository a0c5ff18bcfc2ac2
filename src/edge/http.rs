//! One connection on its worker: PROXY header, TLS, HTTP/1.1 or HTTP/2, and the way of each request.
//!
//! Paths go to the Socket.IO transport, the REST API or the page, in this order. Header size, header
//! time and body size are bounded for all of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::client_addr::Trusted;
use super::intake::Accepted;
use super::origin::Cors;
use super::proxy;
use super::tls::Tls;
use crate::api::Api;
use crate::config::Edge;
use crate::lifecycle::{Drain, Phase};
use crate::telemetry::labels::{Method as MethodLabel, Refused, Route, Status};
use crate::telemetry::metrics;
use crate::transport::activity::{Activity, Patience};
use crate::transport::stream::Stream;
use crate::transport::{Caller, Sessions};
use crate::web;

/// Where the requests of one worker go.
pub struct Router {
    /// Bounds.
    pub config: Edge,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: Trusted,
    /// Which pages may call.
    pub cors: Cors,
    /// The certificate, when this listener has one.
    pub tls: Option<Tls>,
    /// Socket.IO sessions of this worker.
    pub sessions: Rc<Sessions>,
    /// REST, when the node has it.
    pub api: Option<Rc<Api>>,
    /// The page, when the node has it; true in development mode.
    pub page: Option<bool>,
    /// Ends idle connections when the node goes.
    pub drain: Drain,
}

/// What is known of a connection before any request.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    is_secure: bool,
    is_http2: bool,
}

/// Runs the streams of HTTP/2 connections on this worker.
#[derive(Clone, Copy)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}

/// Streams of one HTTP/2 connection at a time; browsers use far fewer.
const HTTP2_STREAMS_MAX: u32 = 128;
/// How often a silent HTTP/2 connection is asked whether it lives.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// Serves an accepted connection until it ends, becomes a session, or the node goes.
pub async fn serve(router: Rc<Router>, accepted: Accepted) {
    let Ok((mut stream, peer, permit)) = accepted.open() else {
        return;
    };
    let mut address = peer;
    if router.config.proxy_protocol {
        // Whoever may name a client is as trusted as one who may forward for it.
        if !router.trusted.is_empty() && !router.trusted.contains(peer.ip()) {
            metrics::EDGE_REFUSED.of(Refused::UntrustedProxy).add(1);
            return;
        }
        match proxy::read(&mut stream, router.config.header_timeout.get()).await {
            Ok(named) => address = named.unwrap_or(peer),
            Err(error) => {
                tracing::debug!(%peer, %error, "connection refused");
                metrics::EDGE_REFUSED.of(Refused::ProxyHeader).add(1);
                return;
            }
        }
    }
    let Some((stream, is_http2)) = secure(&router, stream, Box::new(permit)).await else {
        return;
    };
    let peer = Peer {
        address,
        is_secure: router.tls.is_some(),
        is_http2,
    };
    if peer.is_http2 {
        Box::pin(http2(router, stream, peer)).await;
    } else {
        Box::pin(http1(router, stream, peer)).await;
    }
}

/// The TLS handshake where there is a certificate; which version of HTTP follows.
async fn secure(
    router: &Router,
    stream: TcpStream,
    permit: Box<dyn Send>,
) -> Option<(Stream, bool)> {
    let Some(tls) = &router.tls else {
        let is_http2 = router.config.http2 && speaks_http2(&stream).await;
        return Some((Stream::plain(stream, permit), is_http2));
    };
    match tls
        .accept(stream, router.config.tls.handshake_timeout.get())
        .await
    {
        Ok(stream) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Some((Stream::tls(stream, permit), is_http2))
        }
        Err(error) => {
            tracing::debug!(%error, "connection refused");
            metrics::EDGE_REFUSED.of(Refused::Tls).add(1);
            None
        }
    }
}

/// Without TLS a client that knows beforehand may speak HTTP/2: RFC 9113 section 3.3. Its first three
/// bytes are the start of no HTTP/1 method. A client that sends nothing is left to the header timeout.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    let peeked = tokio::time::timeout(Duration::from_secs(1), stream.peek(&mut start)).await;
    matches!(peeked, Ok(Ok(3))) && &start == b"PRI"
}

async fn http1(router: Rc<Router>, mut stream: Stream, peer: Peer) {
    let activity = Arc::new(Activity::new(Instant::now()));
    stream.watch(Some(Arc::clone(&activity)));
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The library's own timeout knows no rest between requests; ours is in `out_of_patience`.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(router.config.max_header_bytes.bytes())
        .half_close(false);
    let service = {
        let (router, activity) = (Rc::clone(&router), Arc::clone(&activity));
        service_fn(move |request| {
            let (router, activity) = (Rc::clone(&router), Arc::clone(&activity));
            async move {
                activity.asked(Instant::now());
                let response = router.respond(request, peer).await;
                activity.answered(Instant::now());
                Ok::<_, Infallible>(response)
            }
        })
    };
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let _open = router.drain.hold(Phase::Flushing);
    let patience = Patience {
        head: router.config.header_timeout.get(),
        idle: router.config.idle_timeout.get(),
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = out_of_patience(&activity, &patience) => Ok(()),
        () = router.drain.reached(Phase::Flushing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended(result);
}

/// Resolves when a request's head took too long, or the rest between two requests.
async fn out_of_patience(activity: &Activity, patience: &Patience) {
    loop {
        let now = Instant::now();
        match activity.deadline(patience) {
            Some(deadline) if now >= deadline => break,
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            // A request is being answered; it has time limits of its own.
            None => tokio::time::sleep(patience.head.min(patience.idle)).await,
        }
    }
    if !activity.is_idle() {
        metrics::EDGE_REFUSED.of(Refused::HeaderTimeout).add(1);
    }
}

async fn http2(router: Rc<Router>, stream: Stream, peer: Peer) {
    let mut builder = hyper::server::conn::http2::Builder::new(OnWorker);
    let header_max = u32::try_from(router.config.max_header_bytes.bytes()).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(header_max)
        .keep_alive_interval(Some(HTTP2_PING))
        .keep_alive_timeout(router.config.header_timeout.get());
    let service = {
        let router = Rc::clone(&router);
        service_fn(move |request| {
            let router = Rc::clone(&router);
            async move { Ok::<_, Infallible>(router.respond(request, peer).await) }
        })
    };
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let _open = router.drain.hold(Phase::Flushing);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = router.drain.reached(Phase::Flushing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended(result);
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

impl Router {
    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let method = MethodLabel::from(request.method());
        let (route, mut response) = self.route(request, peer).await;
        let labels = (route, method, Status::from(response.status()));
        metrics::HTTP_REQUESTS.of(labels).add(1);
        metrics::HTTP_REQUEST_TIME
            .of(route)
            .record(started.elapsed());
        let sniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(http::header::X_CONTENT_TYPE_OPTIONS, sniff);
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> (Route, Response<Full<Bytes>>) {
        let path = request.uri().path();
        let is_transport = self.sessions.is_path(path);
        let api = self
            .api
            .as_ref()
            .filter(|_| path == "/api" || path.starts_with("/api/"));
        if !is_transport && api.is_none() {
            return self.page(&request);
        }
        let mut headers = HeaderMap::new();
        if request.method() == Method::OPTIONS && self.cors.is_on() {
            self.cors.preflight(request.headers(), &mut headers);
            let route = if is_transport {
                Route::EngineIo
            } else {
                Route::Api
            };
            return (route, with(StatusCode::NO_CONTENT, "", headers));
        }
        self.cors.answer(request.headers(), &mut headers);
        let address = self.trusted.client(peer.address.ip(), request.headers());
        let (route, mut response) = match api {
            Some(api) => api.respond(request, address).await,
            None => {
                let host = host(&request);
                let may_upgrade = self.cors.origins.admits(request.headers(), host);
                let caller = Caller {
                    address,
                    is_secure: peer.is_secure,
                    may_upgrade,
                };
                (
                    Route::EngineIo,
                    self.sessions.respond(request, caller).await,
                )
            }
        };
        response.headers_mut().extend(headers);
        (route, response)
    }

    fn page(&self, request: &Request<Incoming>) -> (Route, Response<Full<Bytes>>) {
        let page = self.page.and_then(|is_development| {
            let (method, path) = (request.method(), request.uri().path());
            web::respond(method, path, request.headers(), is_development)
        });
        match page {
            Some(response) => (Route::Page, response.map(Full::new)),
            None => (
                Route::Unknown,
                with(StatusCode::NOT_FOUND, "nothing here\n", HeaderMap::new()),
            ),
        }
    }
}

/// What the request calls this node.
fn host(request: &Request<Incoming>) -> Option<&str> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

fn with(status: StatusCode, text: &'static str, headers: HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !text.is_empty() {
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
