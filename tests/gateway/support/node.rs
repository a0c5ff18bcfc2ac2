//! One node: the built program on free ports and a data folder of its own.
//!
//! The process is ended by its own id when the value is dropped; when a test fails, what the node
//! logged is shown. At most [`NODES_MAX`] run at once, however many tests do.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::scrape::Scrape;
use super::wire::{Response, Wire};
use super::{PATIENCE, eventually, within};

/// Enough to use a few cores, few enough that none starves.
const NODES_MAX: usize = 4;
static PLACES: Semaphore = Semaphore::const_new(NODES_MAX);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vestibule");

/// What every node is started with, unless a test says otherwise: most tests send more than one user may.
const USUAL: &[(&str, &str)] = &[("limits.enabled", "false")];

/// A place among the processes that tests run at once.
pub(crate) async fn place() -> SemaphorePermit<'static> {
    PLACES.acquire().await.unwrap()
}

/// A node, running or between two runs on the same data folder.
pub(crate) struct Node {
    folder: TempDir,
    settings: Vec<(String, String)>,
    tokens: Mutex<HashMap<String, String>>,
    log: Arc<Log>,
    process: Option<Process>,
    _place: SemaphorePermit<'static>,
}

struct Process {
    child: Child,
    clients: SocketAddr,
    operations: SocketAddr,
}

/// What the node said, over all its runs.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Node {
    /// A node with the default configuration, without limits.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A node with these settings: `("edge.header_timeout", "1s")`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let mut node = Self::unstarted(settings).await;
        node.run().await;
        node
    }

    /// A node that is to be started by [`Node::run`], after its folder was filled.
    pub(crate) async fn unstarted(settings: &[(&str, &str)]) -> Self {
        let place = place().await;
        let variable = |key: &str| format!("VESTIBULE__{}", key.to_uppercase().replace('.', "__"));
        Self {
            folder: tempfile::tempdir().unwrap(),
            settings: USUAL
                .iter()
                .chain(settings)
                .map(|(k, v)| (variable(k), (*v).to_owned()))
                .collect(),
            tokens: Mutex::default(),
            log: Arc::default(),
            process: None,
            _place: place,
        }
    }

    /// Starts the process and waits until it is ready.
    pub(crate) async fn run(&mut self) {
        self.spawn();
        eventually("the node is ready", async || {
            (self.operations_get("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// Starts the process and waits only until it listens.
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let before = self.log.len();
        let mut child = self.launch();
        let addresses = self.log.wait_for(before, |text| {
            let word = |start: &str| text.split(start).nth(1)?.split_whitespace().next();
            // On standard output, after the log lines.
            word("open http")?;
            let clients = word("listening name=clients address=")?.parse().ok()?;
            Some((
                clients,
                word("listening name=operations address=")?.parse().ok()?,
            ))
        });
        let Some((clients, operations)) = addresses else {
            child.kill().unwrap();
            panic!("the node does not listen:\n{}", self.log());
        };
        self.process = Some(Process {
            child,
            clients,
            operations,
        });
    }

    /// Starts the process and kills it before it is known to listen.
    pub(crate) fn start_and_kill(&self, after: std::time::Duration) {
        let mut child = self.launch();
        drop(
            thread::Builder::new()
                .spawn(move || {
                    thread::park_timeout(after);
                    child.kill().unwrap();
                    child.wait().unwrap();
                })
                .unwrap()
                .join(),
        );
    }

    fn launch(&self) -> Child {
        let data = self.data();
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--operations",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(&data)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.log.follow(child.stdout.take().unwrap());
        self.log.follow(child.stderr.take().unwrap());
        child
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process().clients
    }

    /// Where health and metrics are.
    pub(crate) fn operations(&self) -> SocketAddr {
        self.process().operations
    }

    /// A folder that outlives the process, for files of the test's own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's data folder.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    /// A token for a user who may be in every conversation.
    pub(crate) fn token(&self, user: &str) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let token = tokens.entry(user.to_owned()).or_insert_with(|| {
            let output = Command::new(PROGRAM)
                .args(["token", "--user", user, "--data"])
                .arg(self.data())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        });
        token.clone()
    }

    /// A fresh connection to the clients' port.
    pub(crate) async fn dial(&self) -> Wire {
        Wire::dial(self.address()).await
    }

    /// A GET on a fresh connection, as a user if there is one.
    pub(crate) async fn get(&self, path: &str, user: Option<&str>) -> Response {
        let authorization =
            user.map(|user| format!("authorization: Bearer {}\r\n", self.token(user)));
        self.dial()
            .await
            .get(path, &authorization.unwrap_or_default())
            .await
    }

    /// A GET on the operations port.
    pub(crate) async fn operations_get(&self, path: &str) -> Response {
        Wire::dial(self.operations()).await.get(path, "").await
    }

    /// The metrics of this moment.
    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape::parse(&self.operations_get("/metrics").await.text())
    }

    /// Memory in use, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.process().child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .unwrap()
            * 1024
    }

    /// Ends the process as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// Sends a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process().child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("it runs");
        let status = eventually("the process ends", async || {
            process.child.try_wait().unwrap()
        })
        .await;
        self.process = None;
        status
    }

    /// Asks the process to end and waits for that.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Fails when a part of the node panicked, or when it does not serve.
    pub(crate) async fn is_well(&self) {
        assert!(!self.log().contains("panicked"), "{}", self.log());
        let response = within(
            "an answer of the API",
            self.get("/api/nothing", Some("ada")),
        )
        .await;
        assert_eq!(response.status, 404, "{}", response.text());
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

impl Drop for Node {
    #[expect(
        clippy::print_stderr,
        reason = "shown by the harness when the test fails"
    )]
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Gone already, or going now: both are fine.
            drop(process.child.kill());
            drop(process.child.wait());
        }
        if thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
    }
}

impl Log {
    fn len(&self) -> usize {
        self.text.lock().unwrap().len()
    }

    /// Takes in what comes from a pipe until its other end is closed.
    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        drop(thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                let mut text = log.text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
                log.grown.notify_all();
            }
        }));
    }

    /// What `find` finds in the text from `start` on, or nothing in time.
    fn wait_for<T>(&self, start: usize, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + PATIENCE;
        let mut text = self.text.lock().unwrap();
        loop {
            if let Some(found) = find(&text[start..]) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            text = self.grown.wait_timeout(text, left).unwrap().0;
        }
    }
}
