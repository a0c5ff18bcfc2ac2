//! Redis: single shards, a replica, Sentinels, and a Redis Cluster of three masters.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, run};
use super::{free_ports, wait_for};

/// One redis-server. Its append-only file is flushed each second, as in production.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    more: Vec<String>,
}

impl Redis {
    /// Starts one with its data in a new folder below `folder`.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::with(folder, &[])
    }

    /// Starts one with more settings, each one argument.
    #[must_use]
    pub fn with(folder: &Path, more: &[&str]) -> Self {
        let [port] = free_ports();
        let folder = folder.join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder for redis");
        let more = more.iter().map(|&text| text.to_owned()).collect();
        let mut redis = Self {
            process: None,
            folder,
            port,
            more,
        };
        redis.restart();
        redis
    }

    /// Starts one that follows `primary`.
    #[must_use]
    pub fn replica_of(folder: &Path, primary: &Self) -> Self {
        let address = primary.port.to_string();
        Self::with(folder, &["--replicaof", "127.0.0.1", &address])
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again on the same port with the data it has.
    pub fn restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end();
        }
        let port = self.port.to_string();
        let folder = self.folder.display().to_string();
        let mut command = vec![
            "redis-server",
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            &folder,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
            "--client-output-buffer-limit",
            "pubsub 256mb 64mb 30",
        ];
        command.extend(self.more.iter().map(String::as_str));
        let mut process = Process::start("redis-server", &command, &self.folder.join("log"));
        wait_for(&mut process, || {
            self.ask(&["PING"]).as_deref() == Some("PONG")
        });
        self.process = Some(process);
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Whether it was started and not killed.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it at once and throws its data away: the shard comes back empty.
    pub fn lose(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.folder).expect("its folder can be removed");
        std::fs::create_dir_all(&self.folder).expect("a folder for redis");
        self.restart();
    }

    /// Its process, to pause it.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is running")
    }

    /// Asks one command with redis-cli; `None` when it does not answer.
    #[must_use]
    pub fn ask(&self, command: &[&str]) -> Option<String> {
        let port = self.port.to_string();
        let output = Command::new("timeout")
            .args(["2", "redis-cli", "-h", "127.0.0.1", "-p", &port])
            .args(command)
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }
}

/// Three masters that share the slots, without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts them and waits until every slot is served.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let node = |_| {
            Redis::with(
                folder,
                &["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"],
            )
        };
        let nodes: Vec<Redis> = (0..3).map(node).collect();
        let addresses = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses);
        run(
            "redis-cli --cluster create",
            create.args(["--cluster-replicas", "0", "--cluster-yes"]),
        );
        let mut cluster = Self { nodes };
        for index in 0..cluster.nodes.len() {
            let node = &mut cluster.nodes[index];
            let mut process = node.process.take().expect("it is running");
            let is_served = || {
                node.ask(&["CLUSTER", "INFO"])
                    .is_some_and(|text| text.contains("cluster_state:ok"))
            };
            wait_for(&mut process, is_served);
            node.process = Some(process);
        }
        cluster
    }

    /// Their addresses for clients.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// One of them.
    pub fn node(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }
}

/// One primary, one replica and three Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// First the one that starts as the primary.
    pub servers: [Redis; 2],
    sentinels: Vec<Process>,
    ports: [u16; 3],
}

/// What the Sentinels call the primary.
pub const SENTINEL_NAME: &str = "shard";

impl Sentinels {
    /// Starts all of them and waits until the Sentinels agree.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let primary = Redis::start(folder);
        let replica = Redis::replica_of(folder, &primary);
        let ports = free_ports();
        let start = |port: u16| {
            let folder = folder.join(format!("sentinel-{port}"));
            std::fs::create_dir_all(&folder).expect("a folder for the sentinel");
            let file = folder.join("sentinel.conf");
            let settings = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\n\
                 sentinel monitor {SENTINEL_NAME} 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds {SENTINEL_NAME} 1000\n\
                 sentinel failover-timeout {SENTINEL_NAME} 4000\n",
                folder.display(),
                primary.port()
            );
            std::fs::write(&file, settings).expect("its settings can be written");
            let file = file.display().to_string();
            Process::start(
                "redis-sentinel",
                &["redis-server", &file, "--sentinel"],
                &folder.join("log"),
            )
        };
        let mut sentinels: Vec<Process> = ports.iter().map(|port| start(*port)).collect();
        for (process, port) in sentinels.iter_mut().zip(ports) {
            let address = port.to_string();
            let knows = || {
                let asked = Command::new("redis-cli")
                    .args(["-p", &address, "SENTINEL", "CKQUORUM", SENTINEL_NAME])
                    .output();
                let replicas = Command::new("redis-cli")
                    .args(["-p", &address, "SENTINEL", "REPLICAS", SENTINEL_NAME])
                    .output();
                asked.is_ok_and(|output| output.stdout.starts_with(b"OK"))
                    && replicas.is_ok_and(|output| output.stdout.len() > 10)
            };
            wait_for(process, knows);
        }
        Self {
            servers: [primary, replica],
            sentinels,
            ports,
        }
    }

    /// The place in `servers` of the one that is the primary now, when the Sentinels know.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        let port = self.ports[0].to_string();
        let asked = Command::new("redis-cli")
            .args([
                "-p",
                &port,
                "SENTINEL",
                "GET-MASTER-ADDR-BY-NAME",
                SENTINEL_NAME,
            ])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let port: u16 = text.lines().nth(1)?.trim().parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Their addresses for clients.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.ports
            .iter()
            .map(|port| format!("redis://127.0.0.1:{port}"))
            .collect()
    }
}
