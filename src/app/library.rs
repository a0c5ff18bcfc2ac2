//! A [`Server`] on a socket, without the gateway: for programs that bring their own events.
//!
//! ```no_run
//! use vestibule::app::library::Library;
//! use vestibule::server::Server;
//!
//! # fn main() -> anyhow::Result<()> {
//! let server = Server::new().namespace("/", |root| {
//!     root.on("echo", |socket, event| socket.emit("echo", event.to_args()));
//! });
//! let library = Library::bind(server, "127.0.0.1:3000".parse()?)?;
//! println!("listening {}", library.address());
//! library.run()?;
//! # Ok(()) }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::front::{self, Parts};
use crate::config::{self, Config};
use crate::edge::client_addr::Trusted;
use crate::edge::intake::{self, Cap};
use crate::edge::listener::{self, Listener};
use crate::edge::origin::{Cors, Origins};
use crate::lifecycle::admission::Bounds;
use crate::lifecycle::{Admission, Deadlines, Workers, drain, signal::Signals};
use crate::server::{Io, Mailboxes, Server, Worker};
use crate::types::NodeId;

/// A server bound to an address.
pub struct Library {
    listener: Listener,
    parts: Parts,
    mailboxes: (Mailboxes, Vec<Worker>),
    conductor: drain::Conductor,
    connections_max: usize,
}

/// Connections that wait for one worker; the kernel's backlog holds the rest.
const INTAKE: usize = 256;

impl Library {
    /// Binds with the gateway's default settings.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(server: Server, address: SocketAddr) -> anyhow::Result<Self> {
        Self::with(server, address, Config::default())
    }

    /// Binds with these settings (`edge`, `transport` and `rooms` count).
    ///
    /// # Errors
    /// When the address cannot be had or an origin or network is no such thing.
    pub fn with(server: Server, address: SocketAddr, config: Config) -> anyhow::Result<Self> {
        let listener = listener::bind(address)?.listen()?;
        let deadlines = Deadlines {
            unready: Duration::ZERO,
            closed: Duration::from_secs(1),
            parting: Duration::from_millis(200),
            flushing: Duration::from_secs(1),
        };
        let (conductor, drain) = drain::new(deadlines);
        let parts = Parts {
            cors: cors(&config.edge)?,
            trusted: trusted(&config.edge)?,
            server,
            edge: config.edge,
            transport: config.transport,
            rooms: config.rooms,
            node: NodeId::parse("library")?,
            tls: None,
            drain,
            admission: Admission::new(bounds(&config.admission)),
            page: None,
            api: None,
            inside: None,
            setup: Arc::new(|_| {}),
        };
        let workers = match parts.transport.workers {
            0 => Workers::available(),
            count => count,
        };
        let workers = workers.min(crate::transport::WORKERS_MAX);
        let connections_max = parts.edge.max_connections;
        let mailboxes = front::mailboxes(workers);
        Ok(Self {
            listener,
            parts,
            mailboxes,
            conductor,
            connections_max,
        })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// A handle for emitting from other threads.
    #[must_use]
    pub fn io(&self) -> Io {
        Io::new(self.mailboxes.0.clone(), self.parts.server.clone())
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When threads or signals cannot be had.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (intake, queues) = intake::queues(self.mailboxes.1.len(), INTAKE);
        let drain = self.parts.drain.clone();
        let workers = front::start(self.parts, self.mailboxes, queues, Vec::new())?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let cap = Cap::new(self.connections_max);
            tokio::select! {
                result = self.listener.run(cap, intake, drain) => result?,
                _ = signals.next() => {}
            }
            self.conductor
                .run(async {
                    signals.next().await;
                })
                .await;
            workers.join(Duration::from_secs(2)).await?;
            Ok(())
        })
    }
}

/// How many are let in at once.
pub(super) const fn bounds(section: &config::Admission) -> Bounds {
    Bounds {
        opening: section.opening_max,
        connects: section.connects_at_once,
        waiting: section.connects_waiting,
    }
}

/// The allow-list of the configuration.
pub(super) fn cors(edge: &config::Edge) -> anyhow::Result<Cors> {
    let origins: Vec<_> = edge.origins.iter().map(config::Origin::as_str).collect();
    let origins = Origins::parse(&origins).map_err(|errors| all(&errors))?;
    // Cookies cross only to origins that are named; `*` never takes them along.
    let credentials = !origins.is_any();
    Ok(Cors {
        origins,
        credentials,
        ..Cors::default()
    })
}

/// The proxies of the configuration.
pub(super) fn trusted(edge: &config::Edge) -> anyhow::Result<Trusted> {
    let networks: Vec<_> = edge
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    Trusted::parse(&networks).map_err(|errors| all(&errors))
}

fn all(errors: &[impl std::fmt::Display]) -> anyhow::Error {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", texts.join("; "))
}
