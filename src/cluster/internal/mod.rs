//! What nodes ask each other directly: polling requests for each other's sessions, the WebSockets that
//! such sessions move to, and questions about their sockets.
//!
//! HTTP/1.1 over connections that are kept and reused, each request sealed ([`seal`]). A request is never
//! handed on by the node that gets it: what it answers on its internal listener is about itself only.
//! Who waits long (a poll, a WebSocket) takes a place of another kind than who is answered at once, so
//! that waiting polls cannot keep posts from their session.
//!
//! Not here: the listener (`edge/internal.rs`), what a request means (`transport`, `delivery`).

pub mod seal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::cluster::nodes::{NodeInfo, Nodes};
use crate::telemetry::labels::Hop;
use crate::telemetry::metrics;
use crate::types::{Kind, NodeId, Secret};

use seal::{CLIENT, Digest, SEAL, Sealed, Seals};

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Requests that may be open to other nodes at once.
    pub requests_max: usize,
    /// The largest answer that is taken, in bytes.
    pub answer_max: usize,
}

/// What this node shares with the others. One for each node, cheap to clone.
#[derive(Clone)]
pub struct Internal(Arc<Shared>);

struct Shared {
    nodes: Nodes,
    seals: Seals,
    answer_max: usize,
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
}

/// How long a request needs its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Until somebody has something to say: a poll, a WebSocket.
    Long,
    /// Answered at once.
    Short,
}

/// A request to another node.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// For whom.
    pub client: Option<IpAddr>,
    /// What goes along; not sealed.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long it needs its connection.
    pub lane: Lane,
    /// How long the answer may take.
    pub within: Duration,
}

/// Why another node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached: it is gone, or about to be known as gone.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// As many requests are open as may be.
    #[error("too many requests to other nodes are open")]
    Busy,
    /// It took too long.
    #[error("node {0} did not answer in time")]
    Late(NodeId),
    /// It does not take this node's seals: another secret, or clocks too far apart.
    #[error("node {0} does not believe this node: do their secrets and clocks agree?")]
    Disbelieved(NodeId),
    /// The answer broke off or is too large.
    #[error("node {0} did not answer to the end")]
    Broken(NodeId, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Disbelieved(_) => Kind::Internal,
            _ => Kind::Unavailable,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        !matches!(self, Self::Disbelieved(_))
    }

    const fn hop(&self) -> Hop {
        match self {
            Self::Unreachable(_) => Hop::Unreachable,
            Self::Busy => Hop::Busy,
            Self::Late(_) => Hop::Late,
            Self::Disbelieved(_) | Self::Broken(..) => Hop::Broken,
        }
    }
}

/// An answer whose body is still to come, or that is becoming something else (101).
pub struct Answer {
    /// The answer.
    pub response: Response<Incoming>,
    /// The place among the open requests, to be kept until nothing more comes.
    pub place: Place,
}

/// A place among the open requests.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// What all nodes answered to one question.
#[derive(Debug)]
pub struct Gathered {
    /// Who answered what.
    pub answers: Vec<(NodeId, Bytes)>,
    /// Who did not.
    pub missing: Vec<NodeId>,
}

/// Places for what is answered at once, of all that may be open.
const SHORT_SHARE: usize = 8;
/// How long a request waits for a place. Clients try again; a queue would only make them late.
const PLACE_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Shorter than the listener's patience with an idle connection, so that none is used while it closes.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_MAX: usize = 64;
/// A node that is gone without a word is noticed by this at the latest.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Internal {
    /// What the node of `nodes` shares by this secret. `process` differs at each start.
    #[must_use]
    pub fn new(nodes: Nodes, secret: &Secret<String>, process: u64, options: Options) -> Self {
        let short = (options.requests_max / SHORT_SHARE).max(1);
        let long = options.requests_max.saturating_sub(short).max(1);
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared {
            seals: Seals::new(nodes.me().clone(), secret, process),
            nodes,
            answer_max: options.answer_max,
            long: places(long),
            short: places(short),
        }))
    }

    /// The live nodes.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// What requests of others are checked with.
    #[must_use]
    pub fn seals(&self) -> &Seals {
        &self.0.seals
    }

    /// A way to ask others. Its connections belong to the runtime that uses it: one for each worker.
    #[must_use]
    pub fn peers(&self) -> Peers {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_keepalive(Some(KEEPALIVE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Peers {
            internal: self.clone(),
            client,
        }
    }
}

/// Asks other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    internal: Internal,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Peers {
    /// The live nodes.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        self.internal.nodes()
    }

    /// Asks a node and reads its whole answer. Dropped, it gives the request up, which the node notices.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub async fn ask(&self, node: &NodeInfo, call: Call) -> Result<Response<Bytes>, Error> {
        let max = self.internal.0.answer_max;
        let within = call.within;
        let whole = async {
            let Answer { response, place } = self.send(node, call).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max).collect().await;
            let body = body.map_err(|error| Error::Broken(node.id.clone(), error))?;
            drop(place);
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let result = timeout(within, whole)
            .await
            .unwrap_or_else(|_| Err(Error::Late(node.id.clone())));
        count(&result);
        result
    }

    /// Asks a node and leaves the answer's body, or what the connection becomes, to the caller.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn open(&self, node: &NodeInfo, call: Call) -> Result<Answer, Error> {
        let within = call.within;
        let result = timeout(within, self.send(node, call))
            .await
            .unwrap_or_else(|_| Err(Error::Late(node.id.clone())));
        count(&result);
        result
    }

    /// Asks every other live node the same, all at once.
    pub async fn ask_all(&self, target: &str, body: Bytes, within: Duration) -> Gathered {
        let nodes = self.nodes().others();
        let asked = nodes.iter().map(|node| {
            let call = Call {
                method: Method::POST,
                target: target.to_owned(),
                client: None,
                headers: HeaderMap::new(),
                body: body.clone(),
                lane: Lane::Short,
                within,
            };
            self.ask(node, call)
        });
        let results = join_all(asked).await;
        let mut gathered = Gathered {
            answers: Vec::new(),
            missing: Vec::new(),
        };
        for (node, result) in nodes.into_iter().zip(results) {
            match result {
                Ok(response) if response.status() == StatusCode::OK => {
                    gathered
                        .answers
                        .push((node.id.clone(), response.into_body()));
                }
                Ok(response) => {
                    tracing::warn!(node = %node.id, status = %response.status(), "a node cannot answer");
                    gathered.missing.push(node.id.clone());
                }
                Err(error) => {
                    tracing::warn!(%error, "a node did not answer");
                    gathered.missing.push(node.id.clone());
                }
            }
        }
        gathered
    }

    async fn send(&self, node: &NodeInfo, call: Call) -> Result<Answer, Error> {
        let places = match call.lane {
            Lane::Long => &self.internal.0.long,
            Lane::Short => &self.internal.0.short,
        };
        let permit = timeout(PLACE_WITHIN, Arc::clone(places).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Error::Busy);
        };
        let request = self.request(node, call)?;
        let sent = self.client.request(request).await;
        let response = sent.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable(node.id.clone())
            } else {
                Error::Broken(node.id.clone(), error.into())
            }
        })?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Error::Disbelieved(node.id.clone()));
        }
        Ok(Answer {
            response,
            place: Place { _permit: permit },
        })
    }

    /// Sealed as late as possible: a seal is not good for long.
    fn request(&self, node: &NodeInfo, call: Call) -> Result<Request<Full<Bytes>>, Error> {
        let broken = |error: http::Error| Error::Broken(node.id.clone(), error.into());
        let sealed = Sealed {
            method: call.method.as_str(),
            target: &call.target,
            client: call.client,
            body: Digest::of(&call.body),
        };
        let seal = self
            .internal
            .seals()
            .seal(&node.id, &sealed, self.internal.nodes().now());
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("http://{}{}", node.address, call.target))
            .header(SEAL, seal)
            .body(Full::new(call.body))
            .map_err(broken)?;
        if let Some(client) = call.client {
            let client = HeaderValue::try_from(client.to_string());
            let client = client.map_err(|error| broken(error.into()))?;
            request.headers_mut().insert(CLIENT, client);
        }
        request.headers_mut().extend(call.headers);
        Ok(request)
    }
}

fn count<T>(result: &Result<T, Error>) {
    let hop = result.as_ref().map_or_else(Error::hop, |_| Hop::Answered);
    metrics::INTERNAL_ASKED.of(hop).add(1);
}
