//! One server's process: started, watched, stopped, continued, killed, always by its own id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server. Dropping it asks it to end, then kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    is_stopped: bool,
}

/// How long a server may take to end when asked.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Lines of its log that a failure shows.
const LINES_SHOWN: usize = 40;

impl Process {
    /// Starts a program with its output in `log`. The kernel kills it when this process ends in
    /// whatever way.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &'static str, command: &[&str], log: &Path) -> Self {
        Self::start_as(name, None, command, log)
    }

    /// The same, as another user, which only root can.
    #[must_use]
    pub fn start_as(name: &'static str, user: Option<&str>, command: &[&str], log: &Path) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("its log can be written");
        let mut full = Command::new("setpriv");
        if let Some(user) = user {
            full.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        full.args(["--pdeathsig", "KILL", "--"]).args(command);
        let child = full
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} cannot be started ({error}); run scripts/setup.sh")
            });
        Self {
            name,
            child,
            log: log.to_owned(),
            is_stopped: false,
        }
    }

    /// What it is.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, if it has: "exit status: 0", "signal: 11 (SIGSEGV)".
    pub fn ending(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten();
        status.map(|status| status.to_string())
    }

    /// The end of what it printed.
    #[must_use]
    pub fn output(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.signal("KILL");
        drop(self.child.wait());
    }

    /// Asks it to end, and kills it when it does not.
    pub fn end(&mut self) {
        if self.is_stopped {
            self.resume();
        }
        self.signal("TERM");
        let end = Instant::now() + ENDS_WITHIN;
        while self.is_running() {
            if Instant::now() > end {
                self.kill();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end, and leaves it to do so.
    pub fn ask_to_end(&mut self) {
        self.signal("TERM");
    }

    /// Stops it in its tracks: it keeps its connections and answers nobody.
    pub fn pause(&mut self) {
        self.signal("STOP");
        self.is_stopped = true;
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.signal("CONT");
        self.is_stopped = false;
    }

    fn signal(&mut self, signal: &str) {
        if !self.is_running() {
            return;
        }
        let id = self.child.id().to_string();
        drop(Command::new("kill").args(["-s", signal, &id]).status());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a program to its end.
///
/// # Panics
/// With its output, unless it ends well.
pub fn run(name: &str, command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .unwrap_or_else(|error| panic!("{name} cannot be run ({error}); run scripts/setup.sh"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} failed ({}):\n{text}{errors}",
        output.status
    );
    text
}
