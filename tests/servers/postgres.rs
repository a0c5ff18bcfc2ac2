//! PostgreSQL with a data folder of its own. As root it runs as the user `postgres` of the Debian
//! package, since it refuses root.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, run};
use super::{free_ports, wait_for};

/// A running PostgreSQL with one empty database `vestibule`.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts one with its data in a new folder below `folder`.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let [port] = free_ports();
        let folder = folder.join(format!("postgres-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder for postgres");
        if is_root() {
            run(
                "chown",
                Command::new("chown")
                    .args(["postgres:postgres"])
                    .arg(&folder),
            );
            open_the_way(&folder);
        }
        let data = folder.join("data").display().to_string();
        run(
            "initdb",
            as_user().args([
                &program("initdb"),
                "--pgdata",
                &data,
                "--username",
                "vestibule",
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--no-sync",
            ]),
        );
        let mut postgres = Self {
            process: None,
            folder,
            port,
        };
        postgres.restart();
        run(
            "createdb",
            Command::new(program("createdb")).args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "vestibule",
                "vestibule",
            ]),
        );
        postgres
    }

    /// Its address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://vestibule@127.0.0.1:{}/vestibule", self.port)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process, to pause it.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is running")
    }

    /// Starts it again with the data it has.
    pub fn restart(&mut self) {
        self.end();
        let (data, port) = (
            self.folder.join("data").display().to_string(),
            self.port.to_string(),
        );
        let postgres = program("postgres");
        let command = [
            postgres.as_str(),
            "-D",
            &data,
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "shared_buffers=64MB",
            "-c",
            "max_connections=100",
        ];
        let user = is_root().then_some("postgres");
        let mut process = Process::start_as("postgres", user, &command, &self.folder.join("log"));
        let ready = program("pg_isready");
        let answers = || {
            let asked = Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            asked.is_ok_and(|status| status.success())
        };
        wait_for(&mut process, answers);
        self.process = Some(process);
    }

    /// Ends it; what was committed is still there at the next start.
    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // To postgres this means: do not wait for clients.
            let id = process.id().to_string();
            drop(Command::new("kill").args(["-s", "INT", &id]).status());
            process.end();
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command as the user that may run PostgreSQL.
fn as_user() -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--init-groups",
        ]);
    }
    command.arg("--");
    command
}

/// Temporary folders are private; the other user has to get to its own.
fn open_the_way(folder: &Path) {
    let temporary = std::env::temp_dir();
    for parent in folder
        .ancestors()
        .skip(1)
        .take_while(|parent| **parent != temporary)
    {
        if std::fs::metadata(parent)
            .is_ok_and(|folder| folder.uid() == 0 && folder.mode() & 0o077 == 0)
        {
            run("chmod", Command::new("chmod").arg("o+x").arg(parent));
        }
    }
}

/// Debian keeps the server's programs out of the path, one folder for each version.
fn program(name: &str) -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<(u32, String)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path().join("bin").join(name);
            path.exists().then(|| (version, path.display().to_string()))
        })
        .collect();
    found.sort_unstable();
    found
        .pop()
        .map_or_else(|| name.to_owned(), |(_, path)| path)
}
