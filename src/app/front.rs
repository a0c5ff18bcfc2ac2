//! The worker threads and what runs on each: accepting, sessions, fan-out, flushing, parting.

use std::iter::repeat_with;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::api::Api;
use crate::cluster::internal::Internal;
use crate::config::{self, TransportKind};
use crate::edge::client_addr::Trusted;
use crate::edge::http::{self, Router};
use crate::edge::intake::Queue;
use crate::edge::internal::{self, Answerer, Hatch};
use crate::edge::origin::Cors;
use crate::edge::tls::Tls;
use crate::lifecycle::{Admission, Drain, Phase, Workers, WorkersError};
use crate::protocol::engineio::handshake::Transport;
use crate::protocol::engineio::session::Timing;
use crate::rooms::Limits;
use crate::server::{Io, Local, Mailboxes, Options, Server, Worker};
use crate::telemetry::metrics;
use crate::transport::{Sessions, Settings};
use crate::types::NodeId;

/// What a worker runs besides its sockets.
pub type Setup = dyn Fn(&Rc<Local>) + Send + Sync;

/// What every worker is made of.
#[derive(Clone)]
pub struct Parts {
    /// Namespaces and handlers.
    pub server: Server,
    /// Bounds of connections.
    pub edge: config::Edge,
    /// How sessions live.
    pub transport: config::Transport,
    /// Bounds of sockets.
    pub rooms: config::Rooms,
    /// Named in session ids.
    pub node: NodeId,
    /// Which pages may call.
    pub cors: Cors,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: Trusted,
    /// The certificate, when there is one.
    pub tls: Option<Tls>,
    /// The node's end.
    pub drain: Drain,
    /// Lets clients in.
    pub admission: Admission,
    /// The page; true in development mode.
    pub page: Option<bool>,
    /// REST.
    pub api: Option<Arc<dyn Fn() -> Rc<Api> + Send + Sync>>,
    /// The other nodes, where there may be some.
    pub inside: Option<Inside>,
    /// What else a worker runs, told when its own state stands.
    pub setup: Arc<Setup>,
}

/// Makes what answers other nodes on one worker.
pub type Answering = dyn Fn(&Rc<Local>) -> Rc<Answerer> + Send + Sync;

/// What a node has for the others.
#[derive(Clone)]
pub struct Inside {
    /// Who they are, and the secret.
    pub internal: Internal,
    /// What they may ask beside sessions.
    pub answerer: Arc<Answering>,
}

/// Commands that may wait for one worker.
const MAILBOX: usize = 65_536;
/// How often counters that a worker keeps for itself are handed to the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Queues between the workers, made before they start.
#[must_use]
pub fn mailboxes(count: usize) -> (Mailboxes, Vec<Worker>) {
    Mailboxes::new(count, MAILBOX)
}

/// Starts one worker for each queue of clients' connections; `nodes` are those of other nodes', or none.
///
/// # Errors
/// When the system refuses a thread.
pub fn start(
    parts: Parts,
    (mailboxes, workers): (Mailboxes, Vec<Worker>),
    queues: Vec<Queue>,
    nodes: Vec<Queue>,
) -> Result<Workers, WorkersError> {
    let count = workers.len();
    let nodes = nodes.into_iter().map(Some).chain(repeat_with(|| None));
    let ends = workers.into_iter().zip(queues).zip(nodes);
    let ends: Vec<_> = ends
        .map(|((worker, clients), nodes)| Some((worker, clients, nodes)))
        .collect();
    let ends = Arc::new(Mutex::new(ends));
    Workers::start(count, "worker", move |index| {
        let end = ends.lock().unwrap_or_else(PoisonError::into_inner)[index].take();
        let (parts, mailboxes) = (parts.clone(), mailboxes.clone());
        async move {
            if let Some(end) = end {
                run(parts, mailboxes, end).await;
            }
        }
    })
}

async fn run(
    parts: Parts,
    mailboxes: Mailboxes,
    (worker, mut queue, nodes): (Worker, Queue, Option<Queue>),
) {
    let io = Io::new(mailboxes, parts.server.clone());
    let local = Local::install(worker.index, io, parts.server.clone(), options(&parts));
    let sessions = Sessions::install(&local, settings(&parts), parts.drain.clone());
    if let Some(peers) = sessions.peers() {
        local.provide(Rc::new(peers.clone()));
    }
    (parts.setup)(&local);
    let mut core = core(&local, &sessions, worker);
    if let (Some(inside), Some(queue)) = (&parts.inside, nodes) {
        let hatch = Rc::new(Hatch {
            internal: inside.internal.clone(),
            sessions: Rc::clone(&sessions),
            answerer: (inside.answerer)(&local),
            body_max: parts.transport.max_payload.bytes(),
            drain: parts.drain.clone(),
        });
        spawn(admit(hatch, queue));
    }
    let router = Rc::new(Router {
        config: parts.edge,
        trusted: parts.trusted,
        cors: parts.cors,
        tls: parts.tls,
        sessions: Rc::clone(&sessions),
        api: parts.api.map(|make| make()),
        page: parts.page,
        drain: parts.drain.clone(),
    });
    let parting = parts.drain.hold(Phase::Parting);
    let accept = async {
        while let Some(accepted) = queue.recv().await {
            spawn(http::serve(Rc::clone(&router), accepted));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = accept => {}
        // A worker that does not flush, or look after its sessions, must not go on as if it did.
        Some(Err(ended)) = core.join_next() => {
            if let Ok(panic) = ended.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
        }
        () = parts.drain.reached(Phase::Parting) => {}
    }
    // The last tenth of the time is for those whose acks are still on their way.
    sessions
        .part(parts.drain.deadlines().of(Phase::Parting).mul_f32(0.9))
        .await;
    drop(parting);
    parts.drain.reached(Phase::Stopped).await;
}

/// Serves other nodes; also while the sessions here part, whose clients come through them.
async fn admit(hatch: Rc<Hatch>, mut queue: Queue) {
    while let Some(accepted) = queue.recv().await {
        spawn(internal::serve(Rc::clone(&hatch), accepted));
    }
}

/// What a worker cannot be without.
fn core(local: &Rc<Local>, sessions: &Rc<Sessions>, worker: Worker) -> JoinSet<()> {
    let mut core = JoinSet::new();
    core.spawn_local({
        let local = Rc::clone(local);
        async move { local.run(worker).await }
    });
    core.spawn_local({
        let local = Rc::clone(local);
        // One poll writes to every dirty socket. The runtime's budget would stop it after 128 and
        // cost each of the others a wake-up of its own.
        tokio::task::unconstrained(async move { local.hub().run_flusher().await })
    });
    core.spawn_local({
        let sessions = Rc::clone(sessions);
        async move { sessions.run().await }
    });
    core.spawn_local(count(Rc::clone(local)));
    core
}

/// Runs with the worker and ends with it.
fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(task));
}

/// Hot paths count in plain cells; once a second the sums go to the metrics.
async fn count(local: Rc<Local>) {
    let mut timer = tokio::time::interval(COUNT_EVERY);
    let mut shown = (0.0, 0.0);
    loop {
        timer.tick().await;
        let counts = local.hub().take_counts();
        metrics::ROOMS_BROADCASTS.add(counts.broadcasts);
        metrics::ROOMS_DELIVERIES.add(counts.deliveries);
        metrics::ROOMS_OUTBOX_DROPPED.add(counts.dropped);
        metrics::ROOMS_OUTBOX_OVERFLOWS.add(counts.overflows);
        // Each worker adds its change, so that the gauges are sums over the workers.
        let (rooms, members) = local.hub().sizes();
        let now = (count_of(rooms), count_of(members));
        metrics::ROOMS_OPEN.add(now.0 - shown.0);
        metrics::ROOMS_MEMBERS.add(now.1 - shown.1);
        shown = now;
    }
}

fn count_of(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn options(parts: &Parts) -> Options {
    Options {
        in_flight_max: u32::try_from(parts.rooms.handlers_in_flight).unwrap_or(u32::MAX),
        attachments_max: parts.transport.max_attachments,
        attachment_bytes_max: parts.transport.max_payload.bytes(),
    }
}

fn settings(parts: &Parts) -> Settings {
    let transport = &parts.transport;
    Settings {
        path: transport.path.clone(),
        timing: Timing {
            ping_interval: transport.ping_interval.get(),
            ping_timeout: transport.ping_timeout.get(),
            upgrade_timeout: transport.upgrade_timeout.get(),
            connect_timeout: transport.connect_timeout.get(),
        },
        payload_max: transport.max_payload.bytes(),
        body_within: parts.edge.body_timeout.get(),
        transports: transport
            .transports
            .iter()
            .map(|kind| offered(*kind))
            .collect(),
        allow_upgrades: transport.allow_upgrades,
        outbox: Limits {
            frames_max: parts.rooms.outbox_frames,
            bytes_max: parts.rooms.outbox_bytes.bytes(),
        },
        node: parts.node.clone(),
        peers: parts.inside.as_ref().map(|inside| inside.internal.peers()),
        admission: parts.admission.clone(),
    }
}

const fn offered(kind: TransportKind) -> Transport {
    match kind {
        TransportKind::Polling => Transport::Polling,
        TransportKind::Websocket => Transport::WebSocket,
    }
}
