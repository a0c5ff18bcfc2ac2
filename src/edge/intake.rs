//! Accepted connections on their way to the worker that will own them.
//!
//! Each worker has a bounded queue. A connection goes to the worker that has the fewest open ones, the
//! next in turn among equals; when that queue is full, to the next best; when all are full, the listener
//! waits, and the kernel's backlog with it. The connection travels as a socket of the standard library,
//! because a tokio socket belongs to the runtime that made it.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::metrics;

/// How many connections may be open at once, over all listeners that share it. Cheap to clone.
#[derive(Clone)]
pub struct Cap {
    permits: Arc<Semaphore>,
}

impl Cap {
    /// A cap of so many connections.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        let permits = connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    /// How many more may be opened.
    #[must_use]
    pub fn free(&self) -> usize {
        self.permits.available_permits()
    }

    /// Waits for the place of one connection. Cancel-safe.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        let waiting = metrics::EDGE_ACCEPT_WAITING.raised();
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        drop(waiting);
        permit.expect("the semaphore is never closed")
    }
}

/// The place of one open connection; keep it as long as the connection is open.
pub struct Permit {
    _place: OwnedSemaphorePermit,
    load: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection, not yet known to any runtime.
pub struct Accepted {
    stream: StdStream,
    peer: SocketAddr,
    permit: Permit,
}

impl Accepted {
    /// Makes it a connection of the current runtime, with the peer's address and its permit.
    ///
    /// # Errors
    /// When the runtime cannot register the socket.
    pub fn open(self) -> io::Result<(TcpStream, SocketAddr, Permit)> {
        Ok((TcpStream::from_std(self.stream)?, self.peer, self.permit))
    }
}

/// A worker's end.
pub struct Queue {
    receiver: mpsc::Receiver<Accepted>,
}

impl Queue {
    /// The next connection; `None` once the listeners are gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Accepted> {
        self.receiver.recv().await
    }
}

/// The listeners' end. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    workers: Arc<[Worker]>,
    turn: Arc<AtomicUsize>,
}

struct Worker {
    queue: mpsc::Sender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// A queue of `depth` connections for each worker, and what fills them.
#[must_use]
pub fn queues(workers: usize, depth: usize) -> (Intake, Vec<Queue>) {
    let (workers, queues): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| {
            let (queue, receiver) = mpsc::channel(depth.max(1));
            (
                Worker {
                    queue,
                    load: Arc::default(),
                },
                Queue { receiver },
            )
        })
        .unzip();
    (
        Intake {
            workers: workers.into(),
            turn: Arc::default(),
        },
        queues,
    )
}

/// No worker takes connections any more.
#[derive(Debug, thiserror::Error)]
#[error("no worker takes connections any more")]
pub struct Gone;

impl Intake {
    /// Hands a connection to the least loaded worker, waiting when all queues are full.
    pub(super) async fn hand(
        &self,
        stream: StdStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Gone> {
        let order = self.by_load();
        let first = order.first().ok_or(Gone)?;
        let mut accepted = Accepted {
            stream,
            peer,
            permit: self.permit(*first, place),
        };
        for worker in &order {
            accepted = self.moved(accepted, *worker);
            match self.workers[*worker].queue.try_send(accepted) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => accepted = back,
            }
        }
        for worker in order {
            accepted = self.moved(accepted, worker);
            match self.workers[worker].queue.send(accepted).await {
                Ok(()) => return Ok(()),
                Err(closed) => accepted = closed.0,
            }
        }
        Err(Gone)
    }

    /// How many connections each worker has open.
    #[must_use]
    pub fn loads(&self) -> Vec<usize> {
        self.workers
            .iter()
            .map(|worker| worker.load.load(Ordering::Relaxed))
            .collect()
    }

    /// Workers by open connections; equals in turn.
    fn by_load(&self) -> Vec<usize> {
        let count = self.workers.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let loads = self.loads();
        let mut order: Vec<usize> = (0..count).map(|n| (turn.wrapping_add(n)) % count).collect();
        order.sort_by_key(|worker| loads[*worker]);
        order
    }

    fn permit(&self, worker: usize, place: OwnedSemaphorePermit) -> Permit {
        let load = Arc::clone(&self.workers[worker].load);
        load.fetch_add(1, Ordering::Relaxed);
        Permit {
            _place: place,
            load,
        }
    }

    /// Counts the connection for another worker.
    fn moved(&self, mut accepted: Accepted, worker: usize) -> Accepted {
        let load = Arc::clone(&self.workers[worker].load);
        load.fetch_add(1, Ordering::Relaxed);
        let before = std::mem::replace(&mut accepted.permit.load, load);
        before.fetch_sub(1, Ordering::Relaxed);
        accepted
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener as StdListener;

    use futures_util::FutureExt;

    use super::*;

    /// A connection's server end; the client's end closes at once, which nobody minds here.
    fn stream(listener: &StdListener) -> (StdStream, SocketAddr) {
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (stream, peer)
    }

    async fn hand(intake: &Intake, cap: &Cap, listener: &StdListener) -> Result<(), Gone> {
        let (stream, peer) = stream(listener);
        intake.hand(stream, peer, cap.place().await).await
    }

    #[tokio::test]
    async fn connections_go_to_the_least_loaded_worker() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let cap = Cap::new(10);
        let (intake, mut queues) = queues(3, 4);
        for _ in 0..6 {
            hand(&intake, &cap, &listener).await.unwrap();
        }
        assert_eq!(intake.loads(), [2, 2, 2]);
        let kept = queues[1].recv().await.unwrap().open().unwrap();
        for queue in [0, 2] {
            drop(queues[queue].recv().await.unwrap());
        }
        assert_eq!(intake.loads(), [1, 2, 1]);
        for _ in 0..2 {
            hand(&intake, &cap, &listener).await.unwrap();
        }
        assert_eq!(intake.loads(), [2, 2, 2]);
        assert_eq!(cap.free(), 4);
        drop((kept, queues));
        assert_eq!((intake.loads(), cap.free()), (vec![0, 0, 0], 10));
    }

    #[tokio::test]
    async fn full_queues_hold_the_listener_back() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let cap = Cap::new(10);
        let (intake, mut queues) = queues(2, 1);
        for _ in 0..2 {
            hand(&intake, &cap, &listener).await.unwrap();
        }
        let mut third = Box::pin(hand(&intake, &cap, &listener));
        assert!(third.as_mut().now_or_never().is_none());
        let (first, second) = queues.split_at_mut(1);
        let _open = tokio::join!(first[0].recv(), second[0].recv());
        third.await.unwrap();
        assert_eq!(intake.loads().iter().sum::<usize>(), 3);
    }

    #[tokio::test]
    async fn a_worker_that_is_gone_gets_nothing() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let cap = Cap::new(10);
        let (intake, mut queues) = queues(2, 2);
        queues.remove(0);
        for _ in 0..2 {
            hand(&intake, &cap, &listener).await.unwrap();
        }
        assert_eq!(intake.loads(), [0, 2]);
        queues.clear();
        assert!(hand(&intake, &cap, &listener).await.is_err());
        assert_eq!((intake.loads(), cap.free()), (vec![0, 0], 10));
    }

    #[tokio::test]
    async fn the_cap_is_shared_and_given_back() {
        let cap = Cap::new(1);
        let place = cap.place().await;
        assert!(cap.clone().place().now_or_never().is_none());
        drop(place);
        assert!(cap.place().now_or_never().is_some());
    }
}
