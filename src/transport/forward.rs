//! Requests for a session of another node: handed on over the internal listener, the answer brought back.
//!
//! Clients of a balancer without stickiness send each poll to any node. The session's id names its node;
//! that one answers as if the request had come to it. What belongs to the session (origin, cookies, token)
//! was bound to it by its first request, so only the client's address goes along. A WebSocket that a
//! polling session moves to becomes a tunnel: from then on bytes are copied, nothing is looked at.
//!
//! A session of a node that is not alive is unknown, as it is after a restart: the client starts anew.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::answers::{Reply, status};
use super::request::Caller;
use super::session::NOOP;
use super::sessions::Sessions;
use super::stream::Stream;
use crate::cluster::internal::{self, Answer, Call, Lane, Peers, Place};
use crate::cluster::nodes::NodeInfo;
use crate::lifecycle::Phase;
use crate::protocol::engineio::handshake::Refusal;
use crate::rooms::Link as _;
use crate::telemetry::{Raised, metrics};
use crate::types::{CloseReason, SessionId};

/// Where the internal listener takes requests for sessions; the client's query follows.
pub const TARGET: &str = "/engine";

/// What a node says about another node's session, beside requests of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Packets of it are lost: its client gave up a POST whose body was on its way.
    Lost,
    /// Its waiting poll is to be answered: who brought it goes.
    Release,
}

impl Note {
    /// Where it is told.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Lost => "/engine/lost",
            Self::Release => "/engine/release",
        }
    }

    /// What a path tells.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        [Self::Lost, Self::Release]
            .into_iter()
            .find(|note| note.target() == path)
    }
}

/// Of a POST or an upgrade, what the session's node has to see.
const SENT: &[HeaderName] = &[
    CONTENT_TYPE,
    ORIGIN,
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
];
/// Of the answer, what the client has to see; the rest is between the nodes.
const BROUGHT: &[HeaderName] = &[CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER];
const BROUGHT_UPGRADED: &[HeaderName] = &[
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL,
];

/// Bytes in each direction of a tunnel.
const TUNNEL_BUFFER: usize = 4 << 10;
/// A poll is answered by a ping at the latest; the answer needs some time too.
const SLACK: Duration = Duration::from_secs(5);
/// A note that comes later is of no use.
const NOTED_WITHIN: Duration = Duration::from_secs(5);

impl Sessions {
    /// Has the session's own node answer.
    pub(super) async fn forward(
        self: &Rc<Self>,
        node: &NodeInfo,
        (id, is_upgrade): (SessionId, bool),
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Reply, Refusal> {
        let Some(peers) = self.settings().peers.clone() else {
            return Err(Refusal::SessionUnknown);
        };
        if is_upgrade {
            if !caller.may_upgrade {
                return Err(Refusal::Forbidden);
            }
            return self.tunnel(peers, node, request, caller).await;
        }
        let is_post = request.method() == Method::POST;
        let (head, body) = request.into_parts();
        let mut call = self.call(&head, caller);
        if is_post {
            let mut lost = Lost {
                peers: Some((peers.clone(), node.clone())),
                id: &id,
            };
            call.lane = Lane::Short;
            let body = self.body(body).await;
            let is_whole = match &body {
                Ok(_) => true,
                Err(failure) => failure.end.is_none(),
            };
            if is_whole {
                lost.peers = None;
            }
            call.body = match body {
                Ok(body) => body,
                Err(failure) => return Ok(status(failure.status)),
            };
            // From here on the other node notices by itself when this request is given up.
        }
        let asked = peers.ask(node, call);
        if is_post {
            return brought(asked.await);
        }
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            answer = &mut asked => brought(answer),
            () = self.leaving() => {
                // Its client finds another way in; the session stays.
                note(&peers, node, &id, Note::Release).await;
                brought(asked.await)
            }
        }
    }

    /// Does what another node says of a session here.
    pub async fn noted(&self, id: SessionId, note: Note) {
        let key = id.clone();
        self.at_owner(&id, move |here| {
            if let Some(session) = here.find(&key) {
                match note {
                    Note::Lost => session.close(CloseReason::TransportError),
                    Note::Release => session.release(NOOP),
                }
            }
        })
        .await;
    }

    async fn tunnel(
        self: &Rc<Self>,
        peers: Peers,
        node: &NodeInfo,
        mut request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Reply, Refusal> {
        let client = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let Answer {
            mut response,
            place,
        } = match peers.open(node, self.call(&head, caller)).await {
            Ok(answer) => answer,
            Err(error) => return failed(&error),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A refusal; its text is the same wherever it is made.
            return Err(if response.status() == StatusCode::FORBIDDEN {
                Refusal::Forbidden
            } else {
                Refusal::SessionUnknown
            });
        }
        let session = hyper::upgrade::on(&mut response);
        let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
        *reply.headers_mut() = chosen(response.headers(), BROUGHT_UPGRADED);
        let sessions = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            sessions.copy(client, session, place).await;
        }));
        Ok(reply)
    }

    /// Copies until either end is done, or this node goes.
    async fn copy(&self, client: OnUpgrade, session: OnUpgrade, place: Place) {
        let (Ok(client), Ok(session)) = tokio::join!(client, session) else {
            return;
        };
        let Some(mut client) = bare(client) else {
            return;
        };
        let mut session = TokioIo::new(session);
        let _shown = Tunnel::new(place);
        let (a, b) = (TUNNEL_BUFFER, TUNNEL_BUFFER);
        tokio::select! {
            done = copy_bidirectional_with_sizes(&mut client, &mut session, a, b) => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a tunnel broke off");
                }
            }
            () = self.leaving() => {}
        }
    }

    /// Resolves when it is time to send somebody else's client away: spread over the parting.
    async fn leaving(&self) {
        let drain = self.drain();
        drain.reached(Phase::Parting).await;
        let share = f32::from(rand::random::<u8>()) / 256.0 * 0.9;
        tokio::time::sleep(drain.deadlines().of(Phase::Parting).mul_f32(share)).await;
    }

    fn call(&self, head: &http::request::Parts, caller: Caller) -> Call {
        let timing = &self.settings().timing;
        let query = head.uri.query().unwrap_or_default();
        Call {
            method: head.method.clone(),
            target: format!("{TARGET}?{query}"),
            client: Some(caller.address),
            headers: chosen(&head.headers, SENT),
            body: Bytes::new(),
            lane: Lane::Long,
            within: timing.ping_interval + timing.ping_timeout + SLACK,
        }
    }
}

/// The end of a POST's body did not come. Unless that is taken back, the session hears of it.
struct Lost<'a> {
    peers: Option<(Peers, NodeInfo)>,
    id: &'a SessionId,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if let Some((peers, node)) = self.peers.take() {
            let id = self.id.clone();
            drop(tokio::task::spawn_local(async move {
                note(&peers, &node, &id, Note::Lost).await;
            }));
        }
    }
}

/// A tunnel as the metrics show it, and its place among the open requests.
struct Tunnel {
    _place: Place,
    _raised: Raised<'static>,
}

impl Tunnel {
    fn new(place: Place) -> Self {
        Self {
            _place: place,
            _raised: metrics::INTERNAL_TUNNELS.raised(),
        }
    }
}

async fn note(peers: &Peers, node: &NodeInfo, id: &SessionId, note: Note) {
    let call = Call {
        method: Method::POST,
        target: format!("{}?sid={id}", note.target()),
        client: None,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        lane: Lane::Short,
        within: NOTED_WITHIN,
    };
    if let Err(error) = peers.ask(node, call).await {
        // The session finds out by its next ping.
        tracing::debug!(%error, "a session's node was not told");
    }
}

fn brought(answer: Result<Response<Bytes>, internal::Error>) -> Result<Reply, Refusal> {
    match answer {
        Ok(response) => {
            let mut reply = status(response.status());
            *reply.headers_mut() = chosen(response.headers(), BROUGHT);
            Ok(reply.map(|_| Full::new(response.into_body())))
        }
        Err(error) => failed(&error),
    }
}

/// A node that cannot be reached has no sessions; about others nothing can be said.
fn failed(error: &internal::Error) -> Result<Reply, Refusal> {
    match error {
        internal::Error::Unreachable(_) => {
            tracing::debug!(%error, "a session's node is gone");
            Err(Refusal::SessionUnknown)
        }
        internal::Error::Busy => {
            let mut reply = status(StatusCode::SERVICE_UNAVAILABLE);
            let soon = HeaderValue::from_static("1");
            reply.headers_mut().insert(RETRY_AFTER, soon);
            Ok(reply)
        }
        internal::Error::Disbelieved(_) => {
            tracing::error!(%error, "sessions of another node cannot be reached");
            Ok(status(StatusCode::BAD_GATEWAY))
        }
        internal::Error::Late(_) => Ok(status(StatusCode::GATEWAY_TIMEOUT)),
        internal::Error::Broken(..) => {
            tracing::debug!(%error, "a session's node broke off");
            Ok(status(StatusCode::BAD_GATEWAY))
        }
    }
}

fn chosen(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut chosen = HeaderMap::with_capacity(names.len());
    for name in names {
        for value in headers.get_all(name) {
            chosen.append(name, value.clone());
        }
    }
    chosen
}

/// The client's connection without the HTTP library's buffer.
pub(super) fn bare(upgraded: Upgraded) -> Option<Stream> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    let mut stream = parts.io.into_inner();
    stream.put_back(&parts.read_buf);
    stream.watch(None);
    Some(stream)
}
