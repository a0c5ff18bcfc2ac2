//! The composition root: the only place that knows which backend is behind a port.
//!
//! [`App::build`] opens the stores and binds every listener; nothing is served yet. [`App::run`]
//! serves until it is told to stop, then walks through the drain. [`library`] is the same front
//! without the gateway.

mod backends;
pub mod catalogue;
pub mod front;
pub mod library;
mod operations;
mod page;
mod wiring;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::edge::intake::{self, Cap};
use crate::edge::listener::{self, Listener};
use crate::edge::tls::{self, Tls};
use crate::lifecycle::{Deadlines, Failure, Readiness, TaskKind, Tasks, drain};
use crate::telemetry::expose;

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
    clients: Listener,
    operations: Listener,
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
        let backends = Backends::open(&config).await.map_err(Error::Build)?;
        Ok(Self {
            config,
            backends,
            clients,
            operations,
            tls,
            conductor,
            drain,
            readiness,
        })
    }

    /// What is listened on, with the ports that were taken.
    #[must_use]
    pub fn addresses(&self) -> [(&'static str, SocketAddr); 2] {
        [
            ("clients", self.clients.address()),
            ("operations", self.operations.address()),
        ]
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
        let parts = wiring::parts(&self.config, &self.backends, &self.drain, self.tls.clone())
            .map_err(Error::Build)?;
        let count = wiring::workers(&self.config);
        let (intake, queues) = intake::queues(count, INTAKE);
        let workers = front::start(parts, front::mailboxes(count), queues)?;
        let cap = Cap::new(self.config.edge.max_connections);
        let (backends, drain) = (&self.backends, &self.drain);
        tasks.spawn(
            TaskKind::Operations,
            operations::serve(self.operations, self.readiness.clone()),
        );
        tasks.spawn(TaskKind::Sweeper, expose::upkeep());
        if let Some(tls) = self.tls {
            let every = self.config.edge.tls.reload_interval.get();
            tasks.spawn(TaskKind::CertificateWatch, tls.watch(every));
        }
        tasks.spawn(TaskKind::KeyRefresh, backends.authenticator.clone().run());
        tasks.spawn(
            TaskKind::CatalogueWatch,
            catalogue::watch(self.config.catalogue.clone(), backends.vocabulary.clone()),
        );
        backends.spawn(&tasks, drain);
        let serve = async {
            backends.caught_up().await;
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
