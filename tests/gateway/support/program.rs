//! Other programs that test a node: run to their end, with their output kept for a failure.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest suite takes a minute on two busy cores.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The folder of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the client tests, with their packages installed.
pub(crate) fn clients() -> PathBuf {
    let folder = root().join("tests/clients");
    let packages = folder.join("node_modules/socket.io-client");
    assert!(
        packages.exists(),
        "the packages of tests/clients are not installed: run scripts/setup.sh (make setup)"
    );
    folder
}

/// The Python of the tests, with their packages installed.
pub(crate) fn python() -> PathBuf {
    let python = root().join("tests/python/.venv/bin/python");
    assert!(
        python.exists(),
        "the packages of tests/python are not installed: run scripts/setup.sh (make setup)"
    );
    python
}

/// Runs a program; fails with all it printed unless it ends well and in time.
pub(crate) async fn passes(command: &mut Command) {
    let shown = format!("{command:?}");
    // A group of its own, so that what it started ends with it.
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let end = Instant::now() + ENDS_WITHIN;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            let group = format!("-{}", child.id());
            Command::new("kill")
                .args(["-s", "KILL", "--", &group])
                .status()
                .unwrap();
            child.wait().unwrap();
            break None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let outcome = status.map_or_else(
        || format!("did not end within {ENDS_WITHIN:?}"),
        |status| format!("ended with {status}"),
    );
    let is_passed = status.is_some_and(|status| status.success());
    assert!(
        is_passed,
        "{shown} {outcome}\n{}\n{stderr}",
        failures(&stdout)
    );
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What of a test report is worth reading: everything but the cases that passed.
fn failures(report: &str) -> String {
    let mut is_shown = true;
    let mut kept = String::new();
    for line in report.lines() {
        let text = line.trim_start();
        if text.starts_with("ok ") || text.starts_with("# Subtest") {
            is_shown = false;
        } else if text.starts_with("not ok ") || (text.starts_with("# ") && !line.starts_with(' '))
        {
            is_shown = true;
        }
        if is_shown {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
