//! Listening sockets: bind, accept under a cap, hand over to the workers.
//!
//! A place under the [`Cap`] is taken *before* accepting, so that a full node leaves new connections
//! in the kernel's backlog, where they cost nothing. When the system runs out of descriptors or memory
//! the loop logs, waits and goes on: a listener that gives up is worse than one that is late.
//!
//! Not here: anything about the bytes; a worker reads the first one.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::intake::{Cap, Gone, Intake};
use crate::lifecycle::{Drain, Phase};
use crate::telemetry::metrics;

/// Connections the kernel keeps for us; it takes less when `net.core.somaxconn` says so. As large as
/// that setting's usual value, for the storm after another node went away.
const BACKLOG: i32 = 4096;

/// An address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => write!(f, "{address} is in use by another process"),
            io::ErrorKind::AddrNotAvailable => write!(f, "{address} is no address of this machine"),
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "this user may not listen on {address} (ports below 1024 are reserved)"
                )
            }
            _ => write!(f, "{address} cannot be listened on"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The accept loop ended for another reason than the drain.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket cannot be watched.
    #[error("{address} cannot be watched for connections")]
    Watch {
        /// The listening address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is nobody to hand connections to.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// An address that is ours. Who connects is refused at once, so that a balancer asks somebody else: what the kernel
/// queues for a node that is still starting would wait, and probes with it.
pub struct Bound {
    socket: Socket,
    address: SocketAddr,
}

/// A listening socket; the kernel queues connections from now on.
pub struct Listener {
    socket: StdListener,
    address: SocketAddr,
}

/// Takes an address; port 0 takes a free one.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let bound = || -> io::Result<Bound> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart must not wait for the last connections of its predecessor to time out.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Bound { socket, address })
    };
    bound().map_err(|source| BindError { address, source })
}

impl Bound {
    /// Where it is, with the port that was taken.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets clients connect.
    ///
    /// # Errors
    /// When another process listens there by now.
    pub fn listen(self) -> Result<Listener, BindError> {
        let Self { socket, address } = self;
        match socket.listen(BACKLOG) {
            Ok(()) => Ok(Listener {
                socket: socket.into(),
                address,
            }),
            Err(source) => Err(BindError { address, source }),
        }
    }
}

impl Listener {
    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bare socket, for a listener with needs of its own.
    #[must_use]
    pub fn into_std(self) -> StdListener {
        self.socket
    }

    /// Accepts until the drain closes listeners, then closes the socket.
    ///
    /// # Errors
    /// When it cannot go on although the node serves.
    pub async fn run(self, cap: Cap, intake: Intake, drain: Drain) -> Result<(), Error> {
        self.run_until(Phase::Closed, cap, intake, drain).await
    }

    /// Accepts until the drain has reached another phase.
    ///
    /// # Errors
    /// When it cannot go on although the node serves.
    pub async fn run_until(
        self,
        end: Phase,
        cap: Cap,
        intake: Intake,
        drain: Drain,
    ) -> Result<(), Error> {
        let _open = drain.hold(end);
        let address = self.address;
        let socket = TcpListener::from_std(self.socket);
        let socket = socket.map_err(|source| Error::Watch { address, source })?;
        let accepting = accept_loop(&socket, &cap, &intake);
        tokio::select! {
            gone = accepting => return Err(gone.into()),
            () = drain.reached(end) => {}
        }
        info!(%address, "listener closed");
        Ok(())
    }
}

/// What connections come from; tests have one that fails.
trait Source {
    /// The next connection, non-blocking. Cancel-safe.
    async fn accept(&self) -> io::Result<(StdStream, SocketAddr)>;
}

impl Source for TcpListener {
    async fn accept(&self) -> io::Result<(StdStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Frames are batched by us; Nagle's waiting would only add latency.
        stream.set_nodelay(true)?;
        // Out of this runtime, into the worker's.
        Ok((stream.into_std()?, canonical(peer)))
    }
}

/// A dual-stack socket shows IPv4 peers as `::ffff:a.b.c.d`; everybody else wants `a.b.c.d`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

async fn accept_loop(source: &impl Source, cap: &Cap, intake: &Intake) -> Gone {
    let mut trouble = Trouble::default();
    loop {
        let place = cap.place().await;
        match source.accept().await {
            Ok((stream, peer)) => {
                metrics::EDGE_ACCEPTED.add(1);
                trouble.pause = Duration::ZERO;
                if let Err(gone) = intake.hand(stream, peer, place).await {
                    return gone;
                }
            }
            Err(error) => {
                let kind = error.kind().to_string();
                metrics::EDGE_ACCEPT_ERRORS.of([&kind]).add(1);
                if is_of_one_connection(&error) {
                    debug!(%error, "connection lost before it was accepted");
                } else {
                    sleep(trouble.on(&error)).await;
                }
            }
        }
    }
}

/// Errors that say nothing about the next connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    let kinds = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        Interrupted,
    ];
    // A peer that is gone makes the socket options fail.
    kinds.contains(&error.kind()) || error.kind() == io::ErrorKind::InvalidInput
}

/// Failures in a row: how long to wait and what to log.
#[derive(Default)]
struct Trouble {
    pause: Duration,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Trouble {
    /// Long enough for a few connections to close, short enough to go unnoticed.
    const PAUSE_MIN: Duration = Duration::from_millis(10);
    /// What a client still takes for a slow connect.
    const PAUSE_MAX: Duration = Duration::from_secs(1);
    const LOG_INTERVAL: Duration = Duration::from_secs(10);

    fn on(&mut self, error: &io::Error) -> Duration {
        self.pause = (self.pause * 2).clamp(Self::PAUSE_MIN, Self::PAUSE_MAX);
        if self
            .logged
            .is_some_and(|at| at.elapsed() < Self::LOG_INTERVAL)
        {
            self.unlogged += 1;
        } else {
            warn!(%error, pause = ?self.pause, unlogged = self.unlogged, "cannot accept, going on");
            self.logged = Some(Instant::now());
            self.unlogged = 0;
        }
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::intake::queues;
    use super::*;
    use crate::lifecycle::{Deadlines, TaskKind, Tasks, drain};

    fn loopback() -> Listener {
        let bound = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        bound.listen().unwrap()
    }

    #[test]
    fn who_comes_before_it_listens_is_refused() {
        let bound = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refused = StdStream::connect(bound.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = bound.listen().unwrap();
        assert!(StdStream::connect(listener.address()).is_ok());
    }

    #[test]
    fn a_taken_port_is_named_in_the_error() {
        let listener = loopback();
        assert_ne!(listener.address().port(), 0);
        let error = bind(listener.address()).err().unwrap();
        let expected = format!("{} is in use by another process", listener.address());
        assert_eq!(error.to_string(), expected);
        let error = bind("192.0.2.1:80".parse().unwrap()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "192.0.2.1:80 is no address of this machine"
        );
    }

    #[tokio::test]
    async fn connections_beyond_the_cap_wait_for_a_place() {
        let listener = loopback();
        let address = listener.address();
        let (_conductor, drain) = drain::new(Deadlines::default());
        let (intake, mut queues) = queues(1, 8);
        let tasks = Tasks::new();
        tasks.spawn(
            TaskKind::Listener,
            listener.run(Cap::new(1), intake.clone(), drain),
        );

        let mut first = TcpStream::connect(address).await.unwrap();
        let (mut served, peer, permit) = queues[0].recv().await.unwrap().open().unwrap();
        assert_eq!(peer, first.local_addr().unwrap());
        assert!(served.nodelay().unwrap());
        first.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        served.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");

        let second = TcpStream::connect(address).await.unwrap();
        let mut next = Box::pin(queues[0].recv());
        let soon = tokio::time::timeout(Duration::from_millis(50), &mut next).await;
        assert!(soon.is_err(), "the place is taken");
        drop((served, permit));
        let (_, peer, _) = next.await.unwrap().open().unwrap();
        assert_eq!(peer, second.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_drain_closes_the_socket() {
        let listener = loopback();
        let address = listener.address();
        let (conductor, drain) = drain::new(Deadlines::default());
        let (intake, mut queues) = queues(1, 8);
        let tasks = Tasks::new();
        tasks.spawn(
            TaskKind::Listener,
            listener.run(Cap::new(4), intake, drain.clone()),
        );
        let _served = TcpStream::connect(address).await.unwrap();
        assert!(queues[0].recv().await.is_some());
        assert!(conductor.run(pending()).await.is_empty());
        assert!(TcpStream::connect(address).await.is_err());
        assert!(
            queues[0].recv().await.is_none(),
            "the intake went with the listener"
        );
    }

    /// Fails so often, then accepts.
    struct Failing {
        errors: Mutex<Vec<i32>>,
        listener: StdListener,
    }

    impl Source for Failing {
        async fn accept(&self) -> io::Result<(StdStream, SocketAddr)> {
            let next = self.errors.lock().unwrap().pop();
            match next {
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => self.listener.accept(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn running_out_of_descriptors_slows_the_loop_but_does_not_end_it() {
        const EMFILE: i32 = 24;
        const ECONNABORTED: i32 = 103;
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut errors = vec![EMFILE; 10];
        errors.extend([ECONNABORTED; 5]);
        let source = Failing {
            errors: Mutex::new(errors),
            listener,
        };
        let (intake, mut queues) = queues(1, 1);
        let cap = Cap::new(1);
        let began = Instant::now();
        tokio::select! {
            gone = accept_loop(&source, &cap, &intake) => panic!("{gone}"),
            accepted = queues[0].recv() => assert!(accepted.is_some()),
        }
        // 10, 20, 40 … 640 ms, then a second each; connections that were lost cost nothing.
        assert_eq!(began.elapsed(), Duration::from_millis(1_270 + 3_000));
    }

    #[test]
    fn addresses_are_canonical() {
        let mapped = "[::ffff:192.0.2.7]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.7:80".parse().unwrap());
    }
}
