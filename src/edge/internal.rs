//! The internal listener's connections: what other nodes ask, answered on the worker that got them.
//!
//! Every request carries a seal, checked before its body is read and the body against it after. Requests
//! for sessions go to the transport, which finds the worker that owns the session; none is handed on to
//! another node. Questions about this node's sockets go to who registered for them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::intake::Accepted;
use crate::cluster::internal::Internal;
use crate::cluster::internal::seal::{CLIENT, Digest, SEAL};
use crate::lifecycle::{Drain, Phase};
use crate::telemetry::labels::Unsealed;
use crate::telemetry::metrics;
use crate::transport::stream::Stream;
use crate::transport::{Caller, Note, Sessions, TARGET};
use crate::types::SessionId;

/// What answers questions that are not about sessions: path and body in, JSON out; `None` for a path
/// that it does not know or a body that it cannot read.
pub type Answerer = dyn Fn(&str, Bytes) -> LocalBoxFuture<'static, Option<Bytes>>;

/// Where the requests of other nodes go on one worker.
pub struct Hatch {
    /// Who may ask.
    pub internal: Internal,
    /// Sessions of this worker, and the way to those of others.
    pub sessions: Rc<Sessions>,
    /// Questions about sockets.
    pub answerer: Rc<Answerer>,
    /// The largest body, in bytes.
    pub body_max: usize,
    /// Ends idle connections when the node goes.
    pub drain: Drain,
}

/// A node's connection rests longer than this only when it is forgotten.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// A request's line and headers: the longest query a client may send, and some more.
const HEAD_MAX: usize = 1 << 20;

/// Serves a connection of another node until it ends or becomes a session's WebSocket.
pub async fn serve(hatch: Rc<Hatch>, accepted: Accepted) {
    let Ok((stream, peer, permit)) = accepted.open() else {
        return;
    };
    let stream = Stream::plain(stream, Box::new(permit));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .half_close(false);
    let service = {
        let hatch = Rc::clone(&hatch);
        service_fn(move |request| {
            let hatch = Rc::clone(&hatch);
            async move { Ok::<_, Infallible>(hatch.respond(request, peer.ip()).await) }
        })
    };
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let _open = hatch.drain.hold(Phase::Flushing);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = hatch.drain.reached(Phase::Flushing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a node's connection ended early");
    }
}

impl Hatch {
    async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        match self.opened(request).await {
            Ok((request, client)) => {
                metrics::INTERNAL_ANSWERED.add(1);
                self.answer(request, client.unwrap_or(peer)).await
            }
            Err(why) => {
                metrics::INTERNAL_REFUSED.of(why).add(1);
                tracing::warn!(%peer, ?why, "a request on the internal listener is not believed");
                let mut response = with(StatusCode::UNAUTHORIZED, Bytes::new());
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                response
            }
        }
    }

    /// The request with its whole body, once it is known to come from a node.
    async fn opened(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Request<Full<Bytes>>, Option<IpAddr>), Unsealed> {
        let (head, body) = request.into_parts();
        let text = |name: &str| head.headers.get(name).map(HeaderValue::to_str);
        let seal = match text(SEAL) {
            Some(seal) => seal.map_err(|_| Unsealed::Malformed)?,
            None => return Err(Unsealed::Missing),
        };
        let client = match text(CLIENT) {
            Some(Ok(client)) => Some(client.parse().map_err(|_| Unsealed::Malformed)?),
            Some(Err(_)) => return Err(Unsealed::Malformed),
            None => None,
        };
        let target = head
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str());
        let asked = (head.method.as_str(), target, client);
        let seals = self.internal.seals();
        let (_, sealed) = seals.check(seal, asked, self.internal.nodes().now())?;
        let body = Limited::new(body, self.body_max).collect();
        let body = tokio::time::timeout(BODY_WITHIN, body).await;
        let Ok(Ok(body)) = body else {
            return Err(Unsealed::Body);
        };
        let body = body.to_bytes();
        if Digest::of(&body) != sealed {
            return Err(Unsealed::Body);
        }
        Ok((Request::from_parts(head, Full::new(body)), client))
    }

    async fn answer(&self, request: Request<Full<Bytes>>, client: IpAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == TARGET {
            let caller = Caller {
                address: client,
                // What counts is how the session was opened.
                is_secure: false,
                // The node that the client came to has judged its origin.
                may_upgrade: true,
            };
            return self.sessions.respond_here(request, caller).await;
        }
        if request.method() != Method::POST {
            return with(StatusCode::NOT_FOUND, Bytes::new());
        }
        if let Some(note) = Note::at(path) {
            let query = request.uri().query().unwrap_or_default();
            let id = query.strip_prefix("sid=").map(SessionId::parse);
            let Some(Ok(id)) = id else {
                return with(StatusCode::BAD_REQUEST, Bytes::new());
            };
            self.sessions.noted(id, note).await;
            return with(StatusCode::OK, Bytes::new());
        }
        let path = path.to_owned();
        let Ok(body) = request.into_body().collect().await;
        match (self.answerer)(&path, body.to_bytes()).await {
            Some(answer) => with(StatusCode::OK, answer),
            None => with(StatusCode::NOT_FOUND, Bytes::new()),
        }
    }
}

fn with(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
