//! Every kind of mistake, with the exact complaint.

mod files;

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use super::*;
use crate::types::{ByteSize, Span};

fn load(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Config, Mistakes> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vestibule.toml");
    fs::write(&path, file).unwrap();
    let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), OsString::from(value));
    let environment: Vec<Variable> = environment.iter().map(variable).collect();
    Config::load(
        &Flags {
            config: Some(path),
            ..flags
        },
        &environment,
    )
}

fn complaints(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match load(file, environment, Flags::default()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

fn file(text: &str) -> Config {
    load(text, &[], Flags::default()).unwrap()
}

#[test]
fn nothing_at_all_is_the_default_configuration() {
    assert_eq!(
        Config::load(&Flags::default(), &[]).unwrap(),
        Config::default()
    );
}

#[test]
fn the_example_file_is_the_default_configuration() {
    let committed = include_str!("../../../docs/config.example.toml");
    assert_eq!(
        committed,
        example(),
        "run: vestibule default-config > docs/config.example.toml"
    );
    assert_eq!(file(&example()), Config::default());
}

#[test]
fn every_key_of_the_example_is_read() {
    // The example shows defaults, which would be there also if nobody read the keys.
    let mut tables = Vec::new();
    Config::describe(&mut tables);
    let keys: Vec<_> = tables.iter().flat_map(|table| &table.keys).collect();
    assert!(keys.len() > 50, "{} keys", keys.len());
    for key in keys {
        let nonsense = match key.shape {
            value::Shape::Text => "7",
            value::Shape::Scalar | value::Shape::List => "'nonsense'",
        };
        let found = complaints(&format!("{} = {nonsense}", key.path), &[]);
        assert!(
            found.iter().any(|text| text.starts_with(&key.path)),
            "{}: {found:?}",
            key.path
        );
        let documented = key.doc.iter().all(|line| line.starts_with(' ')) && !key.doc.is_empty();
        assert!(documented, "{} is not documented", key.path);
    }
}

#[test]
fn each_stage_overrides_the_one_before() {
    let text = "data = 'from-file'\n[edge]\nlisten = '127.0.0.1:1'\noperations = '127.0.0.1:2'";
    let environment = [
        ("VESTIBULE__EDGE__LISTEN", "127.0.0.1:3"),
        ("VESTIBULE__EDGE__OPERATIONS", "[::1]:4"),
    ];
    let flags = Flags {
        listen: Some("127.0.0.1:5".to_owned()),
        ..Flags::default()
    };
    let config = load(text, &environment, flags).unwrap();
    assert_eq!(config.data, PathBuf::from("from-file"));
    assert_eq!(config.edge.listen, "127.0.0.1:5".parse().unwrap());
    assert_eq!(config.edge.operations, "[::1]:4".parse().unwrap());
}

#[test]
fn values_are_understood_as_their_keys_need_them() {
    let config = load(
        "transport.max_payload = '64KiB'\ndrain.parting = '2m'\nedge.origins = ['https://A.example']",
        &[
            ("VESTIBULE__NODE", "node-7"),
            ("VESTIBULE__EDGE__TLS__CERTIFICATE", "\"a b.pem\""),
            ("VESTIBULE__EDGE__TLS__KEY", "a b.key"),
            ("VESTIBULE__EDGE__MAX_CONNECTIONS", " 1_000 "),
            ("VESTIBULE__EDGE__HTTP2", "false"),
            ("VESTIBULE__EDGE__TRUSTED_PROXIES", "10.0.0.7, 10.1.0.0/16,::1"),
            ("VESTIBULE__TRANSPORT__TRANSPORTS", "['websocket']"),
            ("VESTIBULE__AUTH__MODE", "token"),
            ("VESTIBULE__AUTH__SECRET", "12345678901234567890123456789012"),
            ("VESTIBULE__AUTH__ISSUER", ""),
        ],
        Flags::default(),
    )
    .unwrap();
    assert_eq!(config.transport.max_payload, ByteSize::new(65_536));
    assert_eq!(config.drain.parting.get(), Duration::from_secs(120));
    assert_eq!(config.edge.origins[0].as_str(), "https://a.example");
    assert_eq!(config.node.unwrap().as_str(), "node-7");
    assert_eq!(config.edge.tls.certificate, Some("a b.pem".into()));
    assert_eq!(config.edge.tls.key, Some("a b.key".into()));
    assert_eq!(config.edge.max_connections, 1_000);
    assert!(!config.edge.http2);
    let proxies: Vec<_> = config
        .edge
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.7/32", "10.1.0.0/16", "::1/128"]);
    assert_eq!(config.transport.transports, [TransportKind::Websocket]);
    assert_eq!(
        config.auth.secret.unwrap().reveal(),
        "12345678901234567890123456789012"
    );
    assert_eq!(config.auth.issuer, None);
}

#[test]
fn each_file_gets_exactly_its_complaints() {
    for (text, expected) in files::FILES {
        assert_eq!(complaints(text, &[]), *expected, "in {text:?}");
    }
}

#[test]
fn each_environment_gets_exactly_its_complaints() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "VESTIBULE__TRANSPORT__PING_INTERVAL",
            "soon",
            &[
                r#"transport.ping_interval = "soon" (from VESTIBULE__TRANSPORT__PING_INTERVAL): must be a duration like "250ms", "25s", "5m", "1h" or "7d""#,
            ],
        ),
        (
            "VESTIBULE__EDGE__HTTP2",
            "yes",
            &[r#"edge.http2 = "yes" (from VESTIBULE__EDGE__HTTP2): must be true or false"#],
        ),
        (
            "VESTIBULE__EDGE__MAX_CONNECTIONS",
            "1\nhttp2 = false",
            &[r#"edge.max_connections = """
1
http2 = false""" (from VESTIBULE__EDGE__MAX_CONNECTIONS): must be a whole number"#],
        ),
        (
            "VESTIBULE__AUTH__SECRET",
            "short",
            &["auth.secret = *** (from VESTIBULE__AUTH__SECRET): must be at least 32 bytes"],
        ),
        (
            "VESTIBULE__TELEMETRY__OTLP",
            "collector:4318",
            &[
                r#"telemetry.otlp = "collector:4318" (from VESTIBULE__TELEMETRY__OTLP): must be a URL like "http://127.0.0.1:4318""#,
            ],
        ),
        (
            "VESTIBULE__DRAIN__NOW",
            "1s",
            &[
                "drain.now (from VESTIBULE__DRAIN__NOW): unknown key; [drain] has unready, parting, flushing",
            ],
        ),
        ("VESTIBULE_PORT", "8080", &[]),
    ];
    for (name, value, expected) in table {
        assert_eq!(
            complaints("", &[(name, value)]),
            *expected,
            "with {name}={value:?}"
        );
    }
}

#[test]
fn mistakes_of_all_stages_are_reported_together() {
    let flags = Flags {
        listen: Some("here".to_owned()),
        ..Flags::default()
    };
    let environment = [
        ("VESTIBULE__DRAIN__PARTING", "later"),
        ("VESTIBULE__NO", "1"),
    ];
    let error = load("rooms.bus_queue = 'long'", &environment, flags)
        .unwrap_err()
        .to_string();
    let keys: Vec<_> = error
        .lines()
        .map(|line| line.trim().split([' ', ':']).next())
        .collect();
    let expected = [
        "the",
        "no",
        "edge.listen",
        "rooms.bus_queue",
        "drain.parting",
    ];
    assert_eq!(keys, expected.map(Some), "{error}");
    assert!(
        error.starts_with("the configuration has 4 mistakes:\n"),
        "{error}"
    );
    assert!(
        error.contains("edge.listen = \"here\" (from --listen): must be an IP"),
        "{error}"
    );
}

#[test]
fn a_broken_file_is_named_with_its_place_and_never_quoted() {
    let error = load("[auth]\nsecret = hunter2", &[], Flags::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("vestibule.toml:2:10: not valid TOML: "),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    let twice = load("data = 'a'\ndata = 'b'", &[], Flags::default())
        .unwrap_err()
        .to_string();
    assert!(
        twice.contains("vestibule.toml:2:1: not valid TOML: duplicate key"),
        "{twice}"
    );
}

#[test]
fn a_missing_file_is_a_mistake() {
    let flags = Flags {
        config: Some("/nowhere/vestibule.toml".into()),
        ..Flags::default()
    };
    let error = Config::load(&flags, &[]).unwrap_err().to_string();
    assert!(
        error.contains("--config = /nowhere/vestibule.toml: the file cannot be read"),
        "{error}"
    );
}

#[test]
fn a_configuration_shows_no_secret() {
    let text = "auth.mode = 'token'\nauth.secret = 'hunter2hunter2hunter2hunter2hunter2'";
    let shown = format!("{:?}", file(text));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn durations_keep_their_meaning() {
    let config = Config::default();
    assert_eq!(config.transport.ping_interval, Span::from_secs(25));
    assert_eq!(config.transport.ping_timeout, Span::from_secs(20));
    assert_eq!(config.transport.max_payload.bytes(), 1_000_000);
    assert_eq!(
        config.timeline.dedup_window.get(),
        Duration::from_secs(1_200)
    );
}
