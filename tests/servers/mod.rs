//! Real servers for tests and for `make cluster`: Redis, Apache Kafka, PostgreSQL, HAProxy.
//!
//! Each is started on free loopback ports with its data in a temporary folder, answers when its
//! start returns, and ends with the value that holds it; if this process is killed the kernel ends
//! them too. Nothing of the machine's own servers is touched. A server that cannot be started fails
//! the test and says what to install: `scripts/setup.sh`.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "each program that includes this uses a part of it"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what starts servers may wait for them: nothing else runs meanwhile"
)]

pub mod cluster;
pub mod haproxy;
pub mod kafka;
pub mod node;
pub mod postgres;
pub mod process;
pub mod redis;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a server may take until it answers, on a machine that builds something beside it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Ports that nobody listened on a moment ago. They are held together until all are found, so that
/// they differ.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| {
        // Below those that the kernel gives to connections: one of them could have the port of a server that
        // is being restarted. Nodes of a Redis Cluster talk to each other 10,000 above.
        let bound = (0..1_000).find_map(|_| {
            let port = rand::random_range(12_000..22_000);
            TcpListener::bind(("127.0.0.1", port)).ok()
        });
        bound.expect("a loopback port can be had")
    });
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

/// Asks until the answer is yes.
///
/// # Panics
/// With what the server printed, when it has not answered in time or has ended.
pub fn wait_for(process: &mut process::Process, mut answers: impl FnMut() -> bool) {
    let end = Instant::now() + ANSWERS_WITHIN;
    while !answers() {
        assert!(
            process.is_running(),
            "{} ended:\n{}",
            process.name(),
            process.output()
        );
        assert!(
            Instant::now() < end,
            "{} does not answer:\n{}",
            process.name(),
            process.output()
        );
        std::thread::sleep(ASK_EVERY);
    }
}

/// Whether somebody listens there.
#[must_use]
pub fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The status that a server on this port answers a GET with.
#[must_use]
pub fn http_status(port: u16, path: &str) -> Option<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1)?.parse().ok()
}
