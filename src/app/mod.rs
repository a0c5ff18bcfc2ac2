//! The composition root: the only place that knows which backend is behind a port.
//!
//! [`App::build`] opens the stores and binds every listener; nothing is served yet. [`App::run`]
//! serves until it is told to stop, then walks through the drain. [`library`] is the same front
//! without the gateway.

mod backends;
pub mod catalogue;
pub mod front;
mod inside;
pub mod library;
pub mod log;
mod operations;
mod page;
pub mod ring;
mod servers;
mod shedding;
mod wiring;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::cluster::membership::Load;
use crate::cluster::{self, nodes::Nodes};
use crate::config::{self, Config, Mode};
use crate::delivery::{self, degraded};
use crate::edge::intake::{self, Cap};
use crate::edge::listener::{self, Listener};
use crate::edge::tls::{self, Tls};
use crate::lifecycle::{
    Admission, Deadlines, Failure, Health, Phase, Readiness, TaskKind, Tasks, drain,
};
use crate::server::Io;
use crate::telemetry::expose;
use crate::types::NodeId;
use inside::Opened;

pub use backends::Backends;

/// Why a node could not be built or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stores, the keys or the settings.
    #[error("the node cannot be built")]
    Build(#[source] anyhow::Error),
    /// A listener.
    #[error("cannot listen")]
    Bind(#[from] listener::BindError),
    /// The certificate.
    #[error("the certificate cannot be served")]
    Tls(#[from] tls::Error),
    /// Threads.
    #[error("the workers cannot be run")]
    Workers(#[from] crate::lifecycle::WorkersError),
    /// A task that must not end did.
    #[error("{} ended: {}", .0.name, .0.error)]
    Task(Failure),
}

/// One node, ready to serve.
pub struct App {
    config: Config,
    backends: Backends,
    cap: Cap,
    admission: Admission,
    clients: Listener,
    operations: Listener,
    inside: Option<Opened>,
    tls: Option<Tls>,
    conductor: drain::Conductor,
    drain: drain::Drain,
    readiness: Readiness,
}

/// Connections that wait for one worker; the kernel's backlog holds the rest.
const INTAKE: usize = 256;
/// Closing sockets that listen takes no time; only their accept loops are waited for.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// What may take longer at the end than the drain gave it.
const STOP_WITHIN: Duration = Duration::from_secs(5);

impl App {
    /// Opens the stores of the configured mode and binds the listeners.
    ///
    /// # Errors
    /// When any of it cannot be had.
    pub async fn build(config: Config) -> Result<Self, Error> {
        // Ports first: the commonest mistake is found before anything is written.
        let clients = listener::bind(config.edge.listen)?;
        let operations = listener::bind(config.edge.operations)?;
        let tls = match (&config.edge.tls.certificate, &config.edge.tls.key) {
            (Some(certificate), Some(key)) => Some(Tls::load(
                tls::Options {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    http2: config.edge.http2,
                },
                SystemTime::now().into(),
            )?),
            _ => None,
        };
        let (conductor, drain) = drain::new(Deadlines {
            unready: config.drain.unready.get(),
            closed: CLOSED_WITHIN,
            parting: config.drain.parting.get(),
            flushing: config.drain.flushing.get(),
        });
        let readiness = Readiness::new(drain.clone());
        let node = backends::node(&config);
        let inside = match config.mode {
            Mode::Embedded => None,
            Mode::Cluster => Some(Opened::open(&config, &node)?),
        };
        let internal = inside.as_ref().map(Opened::address);
        let cap = Cap::new(config.edge.max_connections);
        let admission = Admission::new(library::bounds(&config.admission));
        let (counted, leaving) = (admission.clone(), drain.clone());
        let connections = move || Load {
            connections: u32::try_from(counted.inside()).unwrap_or(u32::MAX),
            leaving: leaving.phase() >= Phase::Unready,
            ..Load::default()
        };
        let backends = Backends::open(&config, node, (internal, Box::new(connections)))
            .await
            .map_err(Error::Build)?;
        Ok(Self {
            config,
            backends,
            cap,
            admission,
            clients: clients.listen()?,
            operations: operations.listen()?,
            inside,
            tls,
            conductor,
            drain,
            readiness,
        })
    }

    /// What is listened on, with the ports that were taken: first for clients, then for operations,
    /// then for other nodes if there may be some.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut addresses = vec![
            ("clients", self.clients.address()),
            ("operations", self.operations.address()),
        ];
        let inside = self.inside.as_ref();
        addresses.extend(inside.map(|inside| ("internal", inside.address())));
        addresses
    }

    /// Where clients connect.
    #[must_use]
    pub fn clients(&self) -> SocketAddr {
        self.clients.address()
    }

    /// Has the node answer others and ask them, whatever its mode: binds `edge.internal` if that is not
    /// done yet. Who they are is to be said by [`Nodes::set`].
    ///
    /// # Errors
    /// When the address cannot be had or there is no secret.
    pub fn join(&mut self) -> Result<Nodes, Error> {
        let inside = match self.inside.take() {
            Some(inside) => inside,
            None => Opened::open(&self.config, &self.backends.node)?,
        };
        let nodes = inside.nodes().clone();
        self.inside = Some(inside);
        Ok(nodes)
    }

    /// This node's name.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        &self.backends.node
    }

    /// True when anybody on this machine can get a token.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.backends.authenticator.development().is_some()
    }

    /// True when clients are served over TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `shutdown` resolves, then drains; `hurry` ends the drain at once.
    ///
    /// # Errors
    /// When a part that must not end did; the node was drained all the same.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let tasks = Tasks::new();
        let ready = self.readiness.latch("log applied");
        let health = Health::new(self.readiness.clone());
        let known = (&self.drain, &health, &self.admission);
        let mut parts = wiring::parts(&self.config, &self.backends, known, self.tls.clone())
            .map_err(Error::Build)?;
        parts.inside = self.inside.as_ref().map(Opened::inside);
        let count = wiring::workers(&self.config);
        let (intake, queues) = intake::queues(count, INTAKE);
        let (nodes_intake, nodes_queues) = intake::queues(count, INTAKE);
        let mailboxes = front::mailboxes(count);
        if let Some(options) = inside::emitter(&self.config).map_err(Error::Build)? {
            let io = Io::new(mailboxes.0.clone(), parts.server.clone());
            let act = move |command| delivery::emitter::apply(&io, command).is_ok();
            tasks.spawn(TaskKind::Emitter, cluster::emitter::run(options, act));
        }
        let io = Io::new(mailboxes.0.clone(), parts.server.clone());
        let workers = front::start(parts, mailboxes, queues, nodes_queues)?;
        let cap = self.cap.clone();
        let (backends, drain) = (&self.backends, &self.drain);
        // The tests of embedded nodes say themselves who is there.
        let is_cluster = self.config.mode == Mode::Cluster;
        let nodes = self.inside.as_ref().filter(|_| is_cluster);
        let nodes = nodes.map(|inside| inside.nodes().clone());
        if let Some(inside) = self.inside {
            // As many as there may be sessions: each has one poll or tunnel. Open until the last of
            // them has parted, because their clients come through the other nodes by then.
            let cap = Cap::new(self.config.edge.max_connections);
            let run = inside.listener;
            let run = run.run_until(Phase::Flushing, cap, nodes_intake, drain.clone());
            tasks.spawn(TaskKind::Listener, run);
        }
        tasks.spawn(
            TaskKind::Operations,
            operations::serve(
                self.operations,
                self.readiness.clone(),
                backends.membership.clone(),
            ),
        );
        watch(&tasks, (&self.config, backends), self.tls);
        backends.spawn(&tasks, drain);
        let shed = (self.config.admission, self.admission, io.clone());
        among_others(&tasks, (backends, nodes), shed, drain);
        let serve = async {
            backends.caught_up().await;
            // What was not there before it began is no loss.
            look_after(&tasks, backends, (io, health));
            tasks.spawn(
                TaskKind::Listener,
                self.clients.run(cap, intake, drain.clone()),
            );
            ready.release();
            std::future::pending::<()>().await;
        };
        let failure = tokio::select! {
            () = shutdown => None,
            () = serve => None,
            failure = tasks.failed() => Some(failure),
            failure = workers.failed() => Some(failure),
        };
        if let Some(failure) = &failure {
            tracing::error!(task = %failure.name, error = %failure.error, "a task ended; draining");
        }
        let left = self.conductor.run(hurry).await;
        if !left.is_empty() {
            tracing::warn!(?left, "the drain did not wait for everything");
        }
        self.backends.close().await;
        tasks.finish(STOP_WITHIN).await;
        workers.join(STOP_WITHIN).await?;
        failure.map_or(Ok(()), |failure| Err(Error::Task(failure)))
    }
}

/// Whether what the node depends on works, and telling clients when it does not.
fn look_after(tasks: &Tasks, backends: &Backends, (io, health): (Io, Health)) {
    let depends_on = backends.depends_on();
    tasks.spawn(
        TaskKind::Health,
        degraded::watch(depends_on, health.clone()),
    );
    tasks.spawn(TaskKind::Health, degraded::tell(io, health));
}

/// What a node does because there are others.
fn among_others(
    tasks: &Tasks,
    (backends, nodes): (&Backends, Option<Nodes>),
    shed: (config::Admission, Admission, Io),
    drain: &drain::Drain,
) {
    let Some(nodes) = nodes else { return };
    let membership = &backends.membership;
    tasks.spawn(TaskKind::Sweeper, membership.clone().keep(nodes));
    let shed = shedding::run(membership.clone(), shed, drain.clone());
    tasks.spawn(TaskKind::Sweeper, shed);
}

/// Files and keys that are looked at again and again.
fn watch(tasks: &Tasks, (config, backends): (&Config, &Backends), tls: Option<Tls>) {
    tasks.spawn(TaskKind::Sweeper, expose::upkeep());
    if let Some(tls) = tls {
        let every = config.edge.tls.reload_interval.get();
        tasks.spawn(TaskKind::CertificateWatch, tls.watch(every));
    }
    tasks.spawn(TaskKind::KeyRefresh, backends.authenticator.clone().run());
    tasks.spawn(
        TaskKind::CatalogueWatch,
        catalogue::watch(config.catalogue.clone(), backends.vocabulary.clone()),
    );
}
