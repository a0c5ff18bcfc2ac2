//! HAProxy in front of nodes: plain round robin, no stickiness.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::process::Process;
use super::{free_ports, wait_for};

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    log: PathBuf,
    process: Process,
    port: u16,
}

/// A node behind it: where clients go, and where its readiness is asked.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    /// The client listener's port.
    pub clients: u16,
    /// The operations listener's port.
    pub operations: u16,
}

impl Balancer {
    /// Starts one in front of these nodes.
    #[must_use]
    pub fn start(folder: &Path, nodes: &[Backend]) -> Self {
        let [port] = free_ports();
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, settings(port, nodes)).expect("its settings can be written");
        let file = file.display().to_string();
        let log = folder.join("haproxy.log");
        // -db: in the foreground, so that the process is the one that was started.
        let mut process = Process::start("haproxy", &["haproxy", "-db", "-f", &file], &log);
        wait_for(&mut process, || super::is_open(port));
        Self { log, process, port }
    }

    /// What it said: which nodes it took for down, and why.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// As `deploy/haproxy` has it: a late answer to a check costs nobody a connection.
fn settings(port: u16, nodes: &[Backend]) -> String {
    let mut text = format!(
        "global\n  maxconn 9000\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 1h\n  timeout check 2s\n\
         \x20 option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response\n\
         frontend clients\n  bind 127.0.0.1:{port}\n  http-request disable-l7-retry unless METH_GET\n  default_backend nodes\n\
         backend nodes\n  balance roundrobin\n  option forwardfor\n  option httpchk GET /readyz\n  http-check disable-on-404\n"
    );
    for (n, node) in nodes.iter().enumerate() {
        let line = writeln!(
            text,
            "  server node{n} 127.0.0.1:{} check port {} inter 500ms fastinter 200ms fall 3 rise 1",
            node.clients, node.operations
        );
        line.expect("text takes everything");
    }
    text
}
