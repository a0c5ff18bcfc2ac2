//! A node of Vestibule: the built program on ports that it keeps over restarts.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::haproxy::Backend;
use super::process::Process;
use super::{free_ports, http_status, wait_for};

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    clients: u16,
    operations: u16,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl Node {
    /// Starts one, by its program, with these settings: `("kafka.brokers", "127.0.0.1:9092")`. Its data and
    /// log are in `folder`.
    #[must_use]
    pub fn start(program: &Path, folder: &Path, name: &str, settings: &[(&str, &str)]) -> Self {
        let mut node = Self::unstarted(program, folder, name, settings);
        node.launch();
        node.wait();
        node
    }

    /// One that is to be started.
    #[must_use]
    pub fn unstarted(program: &Path, folder: &Path, name: &str, settings: &[(&str, &str)]) -> Self {
        let [clients, operations, internal] = free_ports();
        let address = |port: u16| format!("127.0.0.1:{port}");
        let own = [
            ("node", name.to_owned()),
            ("edge.listen", address(clients)),
            ("edge.operations", address(operations)),
            ("edge.internal", address(internal)),
            ("data", folder.join("data").display().to_string()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let more = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            folder: folder.to_owned(),
            clients,
            operations,
            settings: own.into_iter().chain(more).collect(),
            environment: Vec::new(),
            process: None,
        }
    }

    /// What it is told at its next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// A command of its program with its settings.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        for (key, value) in &self.settings {
            command.env(variable(key), value);
        }
        command
    }

    /// Sets a variable of its environment that is no setting.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts its process.
    pub fn launch(&mut self) {
        let setting = |(key, value): &(String, String)| format!("{}={value}", variable(key));
        let plain = |(name, value): &(String, String)| format!("{name}={value}");
        let settings = self.settings.iter().map(setting);
        let variables: Vec<String> = settings.chain(self.environment.iter().map(plain)).collect();
        let program = self.program.display().to_string();
        let mut command = vec!["env"];
        command.extend(variables.iter().map(String::as_str));
        command.extend([&*program, "serve"]);
        let log = self.log();
        self.process = Some(Process::start("a node", &command, &log));
    }

    /// Waits until it is ready.
    pub fn wait(&mut self) {
        let operations = self.operations;
        let process = self.process.as_mut().expect("it was started");
        wait_for(process, || http_status(operations, "/readyz") == Some(200));
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.clients)
    }

    /// Its ports.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        Backend {
            clients: self.clients,
            operations: self.operations,
        }
    }

    /// The file of its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Its process, if it runs.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// How its process ended, if it was started and not ended by [`Node::kill`] or [`Node::end`].
    pub fn ending(&mut self) -> Option<String> {
        self.process.as_mut().and_then(Process::ending)
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to end, and leaves it to do so.
    pub fn part(&mut self) {
        if let Some(process) = &mut self.process {
            process.ask_to_end();
        }
    }

    /// Asks it to end, and waits for it.
    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end();
        }
    }
}

fn variable(key: &str) -> String {
    format!("VESTIBULE__{}", key.to_uppercase().replace('.', "__"))
}
