//! The command line as people and scripts use it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use vestibule::auth::Authenticator;
use vestibule::config;

/// What came of a command: exit code, standard output, standard error.
type Outcome = (i32, String, String);

fn vestibule(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_and_version_are_no_failures() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = vestibule(folder.path(), &["--help"], &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    for word in [
        "serve",
        "check-config",
        "default-config",
        "token",
        "health",
        "load",
        "--listen",
    ] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let (code, out, _) = vestibule(folder.path(), &["--version"], &[]);
    assert_eq!(
        (code, out),
        (0, format!("vestibule {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn wrong_arguments_end_with_64_and_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let table: &[(&[&str], &str)] = &[
        (
            &["--lisen", "x"],
            "vestibule: unexpected argument '--lisen'",
        ),
        (&["walk"], "vestibule: unrecognized subcommand 'walk'"),
        (
            &["--listen"],
            "vestibule: a value is required for '--listen <ADDR>'",
        ),
        (
            &["--listen", "here"],
            "edge.listen = \"here\" (from --listen): must be an IP address",
        ),
        (
            &["serve", "--operations", "8081"],
            "edge.operations = \"8081\" (from --operations)",
        ),
        (
            &["--listen", "0.0.0.0:8080"],
            "must be a loopback address while auth.mode",
        ),
        (
            &["--config", "missing.toml"],
            "--config = missing.toml: the file cannot be read",
        ),
        (&["token"], "--user <NAME>"),
        (
            &["token", "--user", ""],
            "invalid value for --user: user id is empty",
        ),
        (
            &["token", "--user", "ada", "--rooms", ""],
            "a room pattern is empty",
        ),
        (
            &["token", "--user", "ada", "--ttl", "soon"],
            "\"soon\" is not a duration like",
        ),
        (
            &["token", "--user", "ada", "--ttl", "10ms"],
            "must be at least \"1s\"",
        ),
        (
            &["health", "--operations", "8081"],
            "edge.operations = \"8081\" (from --operations)",
        ),
    ];
    for (arguments, expected) in table {
        let (code, out, err) = vestibule(folder.path(), arguments, &[]);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vestibule.toml");
    std::fs::write(&file, "lisen = 1\n[drain]\nparting = 'later'\n").unwrap();
    let environment = [
        ("VESTIBULE__ROOMS__BUS_QUEUE", "few"),
        ("VESTIBULE__AUTH__SECRET", "x"),
    ];
    let arguments = [
        "check-config",
        "--config",
        "vestibule.toml",
        "--listen",
        "nowhere",
    ];
    let (code, out, err) = vestibule(folder.path(), &arguments, &environment);
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(
        err.starts_with("vestibule: the configuration has 5 mistakes:\n"),
        "{err}"
    );
    for line in [
        "  edge.listen = \"nowhere\" (from --listen): must be an IP address",
        "  rooms.bus_queue = \"few\" (from VESTIBULE__ROOMS__BUS_QUEUE): must be a whole number",
        "  drain.parting = \"later\": must be a duration",
        "  lisen: unknown key; the file has mode",
        "  auth.secret = *** (from VESTIBULE__AUTH__SECRET): must be at least 32 bytes",
    ] {
        assert!(err.contains(line), "{line} in {err}");
    }
}

#[test]
fn the_default_configuration_is_printed_and_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = vestibule(folder.path(), &["default-config"], &[]);
    assert_eq!(
        (code, out.as_str()),
        (0, include_str!("../../docs/config.example.toml"))
    );
    std::fs::write(folder.path().join("vestibule.toml"), out).unwrap();
    let arguments = ["check-config", "--config", "vestibule.toml"];
    let outcome = vestibule(folder.path(), &arguments, &[]);
    assert_eq!(
        outcome,
        (0, "the configuration is valid\n".to_owned(), String::new())
    );
}

#[test]
fn files_that_the_configuration_names_are_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("VESTIBULE__AUTH__MODE", "token"),
        ("VESTIBULE__AUTH__SECRET_FILE", "no-secret"),
        ("VESTIBULE__EDGE__TLS__CERTIFICATE", "no-certificate"),
        ("VESTIBULE__EDGE__TLS__KEY", "no-key"),
    ];
    let (code, _, err) = vestibule(folder.path(), &["check-config"], &environment);
    assert_eq!(code, 64);
    for key in [
        "auth.secret_file = \"no-secret\"",
        "edge.tls.certificate",
        "edge.tls.key",
    ] {
        assert!(err.contains(key), "{key} in {err}");
    }
}

#[test]
fn a_token_is_accepted_by_a_development_node_on_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "token", "--user", "ada", "--name", "Ada L.", "--rooms", "course:*",
    ];
    let (code, first, err) = vestibule(
        folder.path(),
        &[&arguments[..], &["--data", "here"]].concat(),
        &[],
    );
    assert_eq!((code, err.as_str()), (0, ""));
    let data = folder.path().join("here");
    let authenticator = Authenticator::open(config::Auth::default(), &data).unwrap();
    let now = std::time::SystemTime::now().into();
    let identity = authenticator.verify_now(first.trim_end(), now).unwrap();
    assert_eq!(
        (identity.user().as_str(), identity.name()),
        ("ada", Some("Ada L."))
    );
    assert!(identity.rooms().matches("course:1") && !identity.rooms().matches("conversation:1"));

    let environment = [("VESTIBULE__DATA", "here")];
    let (_, second, _) = vestibule(folder.path(), &["token", "--user", "bob"], &environment);
    let identity = authenticator.verify_now(second.trim_end(), now).unwrap();
    assert!(identity.rooms().matches("conversation:1"));

    let issued_elsewhere = [
        ("VESTIBULE__AUTH__MODE", "token"),
        (
            "VESTIBULE__AUTH__SECRET",
            "a secret of thirty-two bytes, no less",
        ),
    ];
    let (code, _, err) = vestibule(
        folder.path(),
        &["token", "--user", "ada"],
        &issued_elsewhere,
    );
    assert_eq!(code, 64);
    assert!(err.contains("auth.mode is \"token\""), "{err}");
}

/// Answers one request with these bytes.
fn answer_once(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1_024];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    address
}

#[test]
fn health_tells_whether_a_node_is_ready_and_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let ready = answer_once(
        "HTTP/1.1 200 OK\r\ncontent-length: 31\r\nconnection: close\r\n\r\n{\"state\":\"ready\",\"reasons\":[] }",
    );
    let (code, out, err) = vestibule(folder.path(), &["health", "--operations", &ready], &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "ready\n", ""));

    let broken = answer_once(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n\
         {\"state\":\"broken\",\"reasons\":[{\"name\":\"log\",\"scope\":\"node\",\"text\":\"disk full\"}]}",
    );
    let environment = [("VESTIBULE__EDGE__OPERATIONS", broken.as_str())];
    let (code, out, err) = vestibule(folder.path(), &["health"], &environment);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        format!("vestibule: {broken} is not ready (503): broken\n  log: disk full\n")
    );

    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let (code, _, err) = vestibule(folder.path(), &["health", "--operations", &unused], &[]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with(&format!("vestibule: cannot ask {unused}: ")),
        "{err}"
    );
}
