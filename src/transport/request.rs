//! Requests on the Socket.IO path.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::answers::{Reply, again_after, answer, polled, status, text};
use super::polling::{Answer, stamp};
use super::session::NOOP;
use super::sessions::Sessions;
use super::stream::Stream;
use crate::lifecycle::admission::Opening;
use crate::protocol::engineio::handshake::{Query, Refusal, Transport};
use crate::server::Handshake;
use crate::types::{CloseReason, SessionId};

/// A request's body: of a client as it arrives, or of another node, read already.
pub(super) trait Body:
    hyper::body::Body<Data = Bytes, Error: Into<Fault>> + 'static
{
}
impl<B: hyper::body::Body<Data = Bytes, Error: Into<Fault>> + 'static> Body for B {}
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// After trusted proxies.
    pub address: IpAddr,
    /// True over TLS.
    pub is_secure: bool,
    /// The origin may open WebSockets.
    pub may_upgrade: bool,
}

impl Sessions {
    /// Answers a request on the Socket.IO path.
    pub async fn respond(self: &Rc<Self>, request: Request<Incoming>, caller: Caller) -> Reply {
        let is_upgrade = is_upgrade_request(&request);
        let result = self.route(request, caller).await;
        result.unwrap_or_else(|refusal| answer(refusal, is_upgrade))
    }

    /// Answers a request that another node hands on because a session here is meant. It goes no further.
    pub async fn respond_here(
        self: &Rc<Self>,
        request: Request<Full<Bytes>>,
        caller: Caller,
    ) -> Reply {
        let is_upgrade = is_upgrade_request(&request);
        let text = request.uri().query().unwrap_or_default();
        let result = match Query::parse(text, &self.settings().transports) {
            Ok(query) => match query.session.as_deref().map(SessionId::parse) {
                Some(Ok(id)) => {
                    self.of_session((id, query.transport), request, caller)
                        .await
                }
                _ => Err(Refusal::SessionUnknown),
            },
            Err(refusal) => Err(refusal),
        };
        result.unwrap_or_else(|refusal| answer(refusal, is_upgrade))
    }

    async fn route(
        self: &Rc<Self>,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Reply, Refusal> {
        let text = request.uri().query().unwrap_or_default();
        let query = Query::parse(text, &self.settings().transports)?;
        let is_upgrade = is_upgrade_request(&request);
        if let Some(session) = &query.session {
            let id = SessionId::parse(session).map_err(|_| Refusal::SessionUnknown)?;
            if is_upgrade != (query.transport == Transport::WebSocket) {
                return Err(Refusal::BadRequest);
            }
            return match self.elsewhere(&id) {
                Some(node) => self.forward(&node, (id, is_upgrade), request, caller).await,
                None => {
                    self.of_session((id, query.transport), request, caller)
                        .await
                }
            };
        }
        if request.method() != Method::GET {
            return Err(Refusal::BadMethod);
        }
        if is_upgrade != (query.transport == Transport::WebSocket) {
            return Err(Refusal::BadRequest);
        }
        if is_upgrade && !caller.may_upgrade {
            return Err(Refusal::Forbidden);
        }
        if !query.is_supported {
            return Err(Refusal::UnsupportedVersion);
        }
        if self.is_draining() {
            // Clients try again at once and reach another node, spread by the wait.
            return Ok(again_after(1 + rand::random::<u64>() % 3));
        }
        let admission = &self.settings().admission;
        let Some(opening) = admission.open() else {
            return Ok(again_after(admission.again_after().as_secs()));
        };
        if is_upgrade {
            self.open_websocket(request, caller, opening)
        } else {
            Ok(self.open_polling(&request, caller, opening))
        }
    }

    async fn of_session<B: Body>(
        self: &Rc<Self>,
        (id, transport): (SessionId, Transport),
        request: Request<B>,
        caller: Caller,
    ) -> Result<Reply, Refusal> {
        let is_upgrade = is_upgrade_request(&request);
        match (transport, request.method()) {
            (Transport::WebSocket, _) if is_upgrade => self.probe(id, request, caller).await,
            (Transport::WebSocket, _) => Err(Refusal::BadRequest),
            (Transport::Polling, _) if is_upgrade => Err(Refusal::BadRequest),
            (Transport::Polling, &Method::GET) => {
                let stamp = stamp(request.uri().query().unwrap_or_default());
                self.get(id, stamp).await
            }
            (Transport::Polling, &Method::POST) => self.post(id, request).await,
            _ => Ok(status(StatusCode::INTERNAL_SERVER_ERROR)),
        }
    }

    fn open_polling(&self, request: &Request<Incoming>, caller: Caller, opening: Opening) -> Reply {
        let handshake = (handshake(request, caller), opening);
        let session = self.open(Transport::Polling, handshake);
        session.opened_with(stamp(request.uri().query().unwrap_or_default()));
        text(session.open_packet())
    }

    fn open_websocket(
        self: &Rc<Self>,
        mut request: Request<Incoming>,
        caller: Caller,
        opening: Opening,
    ) -> Result<Reply, Refusal> {
        let handshake = (handshake(&request, caller), opening);
        let (reply, upgraded) = switch(&mut request)?;
        let sessions = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            let stream = connection(upgraded).await;
            // Opened meanwhile, it would be overlooked by the parting and cut off at the end.
            if let Some(stream) = stream.filter(|_| !sessions.is_draining()) {
                sessions
                    .open(Transport::WebSocket, handshake)
                    .start_websocket(stream);
            }
        }));
        Ok(reply)
    }

    async fn probe<B: Body>(
        self: &Rc<Self>,
        id: SessionId,
        mut request: Request<B>,
        caller: Caller,
    ) -> Result<Reply, Refusal> {
        if !caller.may_upgrade {
            return Err(Refusal::Forbidden);
        }
        let key = id.clone();
        let begin = move |here: &Rc<Self>| {
            here.find(&key)
                .ok_or(Refusal::SessionUnknown)?
                .begin_probe()
        };
        let begun = self
            .at_owner(&id, begin)
            .await
            .ok_or(Refusal::SessionUnknown)?;
        let (reply, upgraded) = switch(&mut request)?;
        match begun {
            Ok(()) => {}
            // As the reference does: the second connection of a session is opened and closed.
            Err(Refusal::BadRequest) => {
                drop(tokio::task::spawn_local(
                    async move { drop(upgraded.await) },
                ));
                return Ok(reply);
            }
            Err(refusal) => return Err(refusal),
        }
        let sessions = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            let Some(stream) = connection(upgraded).await else {
                return;
            };
            let Ok(parcel) = stream.pack() else { return };
            let key = id.clone();
            // When the session's worker is gone the parcel is dropped, which closes it.
            sessions
                .at_owner(&id, move |here| {
                    if let (Some(session), Ok(stream)) = (here.find(&key), Stream::unpack(parcel)) {
                        session.start_probe(stream);
                    }
                })
                .await;
        }));
        Ok(reply)
    }

    async fn get(self: &Rc<Self>, id: SessionId, stamp: Option<u64>) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        let key = id.clone();
        // From before the session can park it: a request may be given up at any await.
        let mut waiting = Waiting {
            sessions: self,
            id: id.clone(),
            answer: Some(answer),
        };
        let found = self.at_owner(&id, move |here| {
            let session = here.find(&key);
            if let Some(session) = &session {
                session.get_stamped(reply, stamp);
            }
            session.is_some()
        });
        if found.await != Some(true) {
            waiting.answer = None;
            return Err(Refusal::SessionUnknown);
        }
        waiting.answered().await
    }

    async fn post<B: Body>(
        self: &Rc<Self>,
        id: SessionId,
        request: Request<B>,
    ) -> Result<Reply, Refusal> {
        let key = id.clone();
        let begin = move |here: &Rc<Self>| {
            let session = here
                .find(&key)
                .ok_or(Answer::Refused(Refusal::SessionUnknown))?;
            session.begin_post()
        };
        let given_up = Some(Some(CloseReason::TransportError));
        let mut posting = Posting {
            sessions: self,
            id: id.clone(),
            end: given_up,
        };
        let begun = self.at_owner(&id, begin).await;
        if !matches!(begun, Some(Ok(()))) {
            posting.end = None;
            return begun
                .and_then(Result::err)
                .map_or(Err(Refusal::SessionUnknown), polled);
        }
        let body = match self.text_body(request).await {
            Ok(body) => body,
            Err(failure) => {
                posting.end = Some(failure.end);
                return Ok(status(failure.status));
            }
        };
        let (reply, answer) = oneshot::channel();
        let key = id.clone();
        let handed = self.at_owner(&id, move |here| {
            if let Some(session) = here.find(&key) {
                drop(tokio::task::spawn_local(async move {
                    drop(reply.send(session.post(body).await));
                }));
            }
        });
        let handed = handed.await;
        posting.end = None;
        handed.ok_or(Refusal::SessionUnknown)?;
        polled(answer.await.map_err(|_| Refusal::SessionUnknown)?)
    }

    async fn text_body<B: Body>(&self, request: Request<B>) -> Result<String, Failure> {
        let kind = request.headers().get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream")) {
            // Version 4 has no binary bodies.
            return Err(Failure {
                status: StatusCode::BAD_REQUEST,
                end: Some(CloseReason::ParseError),
            });
        }
        let bytes = self.body(request.into_body()).await?;
        String::from_utf8(bytes.into()).map_err(|_| Failure {
            status: StatusCode::BAD_REQUEST,
            end: Some(CloseReason::ParseError),
        })
    }

    /// A POST's whole body, whatever it says.
    pub(super) async fn body<B: Body>(&self, body: B) -> Result<Bytes, Failure> {
        // Packets of it may be missing.
        let broken = Some(CloseReason::TransportError);
        let limited = std::pin::pin!(Limited::new(body, self.settings().payload_max));
        let read = tokio::time::timeout(self.settings().body_within, limited.collect());
        let (status, end) = match read.await {
            Ok(Ok(collected)) => return Ok(collected.to_bytes()),
            // As the reference does: the session goes on.
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
            Ok(Err(_)) => (StatusCode::BAD_REQUEST, broken),
            Err(_) => (StatusCode::REQUEST_TIMEOUT, broken),
        };
        Err(Failure { status, end })
    }
}

/// Why a POST's body was not taken, and whether the session ends for it.
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) end: Option<CloseReason>,
}

/// A POST whose body is on its way. When the client gives it up, its session ends: packets of it are
/// lost.
struct Posting<'a> {
    sessions: &'a Rc<Sessions>,
    id: SessionId,
    /// What is still to be told: that the session may take another POST, and whether it ends.
    end: Option<Option<CloseReason>>,
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.end.take() {
            let id = self.id.clone();
            self.sessions.tell_owner(&self.id, move |here| {
                if let Some(session) = here.find(&id) {
                    session.abandon_post(reason);
                }
            });
        }
    }
}

/// A GET that waits for packets. When the client gives it up, its session hears of it.
struct Waiting<'a> {
    sessions: &'a Rc<Sessions>,
    id: SessionId,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Waiting<'_> {
    async fn answered(mut self) -> Result<Reply, Refusal> {
        let Some(answer) = &mut self.answer else {
            return Err(Refusal::SessionUnknown);
        };
        let answer = answer.await;
        self.answer = None;
        polled(answer.map_err(|_| Refusal::SessionUnknown)?)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        // Closed first, so that the session sees the other end gone.
        answer.close();
        let has_lost = matches!(answer.try_recv(), Ok(Answer::Packets(body)) if body != NOOP);
        let id = self.id.clone();
        self.sessions.tell_owner(&self.id, move |here| {
            if let Some(session) = here.find(&id) {
                session.get_dropped(has_lost);
            }
        });
    }
}

/// 101, with the first subprotocol that the client offers.
fn switch<B>(request: &mut Request<B>) -> Result<(Reply, UpgradeFut), Refusal> {
    let protocol = request
        .headers()
        .get(SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| {
            let first = value.to_str().ok()?.split(',').next()?.trim();
            HeaderValue::from_str(first)
                .ok()
                .filter(|value| !value.is_empty())
        });
    let (reply, upgraded) = upgrade(request).map_err(|_| Refusal::BadRequest)?;
    let mut reply = reply.map(|_| Full::default());
    if let Some(protocol) = protocol {
        reply.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok((reply, upgraded))
}

/// The bare connection under an upgraded request. The HTTP library's read buffer is let go at once:
/// even empty it would pin 8 KiB for the life of the connection.
async fn connection(upgraded: UpgradeFut) -> Option<Stream> {
    super::forward::bare(upgraded.await.ok()?.into_inner().into_inner())
}

fn handshake(request: &Request<Incoming>, caller: Caller) -> Handshake {
    let headers = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let query = request.uri().query().unwrap_or_default();
    Handshake::new(
        caller.address,
        caller.is_secure,
        SystemTime::now().into(),
        (query, headers),
    )
}
