//! Sets of keys: what is used of them, how they change, and what happens when they cannot be read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::auth::keys::KeySet;
use crate::types::Span;

/// Serves one answer, raw, to everybody who asks, and counts.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(body: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::default(),
            requests: Arc::default(),
        };
        server.serve("200 OK", body);
        let (answer, requests) = (Arc::clone(&server.answer), Arc::clone(&server.requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4_096];
                let _length = stream.read(&mut request);
                requests.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                let _sent = stream.write_all(&answer);
            }
        });
        server
    }

    fn serve(&self, status: &str, body: &[u8]) {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        *self.answer.lock().unwrap() = [head.as_bytes(), body].concat();
    }

    fn serve_raw(&self, answer: &[u8]) {
        *self.answer.lock().unwrap() = answer.to_vec();
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn authenticator(&self) -> Authenticator {
        let config = config::Auth {
            jwks_url: Some(format!("http://{}/keys", self.address)),
            jwks_timeout: Span::from_secs(2),
            ..token_config()
        };
        Authenticator::open(config, Path::new("unused")).unwrap()
    }
}

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    let good = Signer::p256("good").entry();
    let (rsa, ed) = (Signer::rsa("r").entry(), Signer::ed25519("d").entry());
    let change = |entry: &Value, changes: Value| {
        let mut entry = entry.clone();
        entry
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        entry
    };
    let small = "_".repeat(171); // 1,024 bits
    let huge = "_".repeat(1_366); // 8,192 bits
    let odd = [
        json!("a text"),
        json!({}),
        json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
        json!({ "kty": "EC" }),
        change(&good, json!({ "use": "enc" })),
        change(&good, json!({ "key_ops": ["sign"] })),
        change(&good, json!({ "alg": "HS256" })),
        change(&good, json!({ "crv": "P-384", "alg": "ES384" })),
        change(&good, json!({ "x": "AAAA" })),
        change(&good, json!({ "x": "A".repeat(43), "y": "A".repeat(43) })),
        change(&rsa, json!({ "n": small })),
        change(&rsa, json!({ "n": huge })),
        change(&rsa, json!({ "n": "" })),
        change(&rsa, json!({ "n": "A".repeat(342) })),
        change(&rsa, json!({ "e": "AQ" })),
        change(&rsa, json!({ "e": "AAAA" })),
        change(&rsa, json!({ "alg": "PS256" })),
        change(&rsa, json!({ "alg": "RS512" })),
        // Shorter than the library can bear.
        change(&ed, json!({ "x": "AAAA" })),
        change(&ed, json!({ "x": "" })),
        change(&ed, json!({ "crv": "Ed448" })),
    ];
    for entry in &odd {
        let alone = serde_json::to_vec(&json!({ "keys": [entry] })).unwrap();
        assert!(KeySet::parse(&alone).is_err(), "{entry}");
    }
    let mut entries = odd.to_vec();
    let fine = [
        good.clone(),
        change(
            &good,
            json!({ "use": "sig", "key_ops": ["verify"], "kid": "2", "x5c": ["?"] }),
        ),
        change(&ed, json!({ "alg": "Ed25519" })),
        rsa,
    ];
    entries.extend(fine);
    let set = KeySet::parse(&serde_json::to_vec(&json!({ "keys": entries })).unwrap()).unwrap();
    assert_eq!((set.len(), set.left_out), (4, odd.len()));
}

#[test]
fn sets_that_are_none_are_refused() {
    let many = serde_json::to_vec(&json!({ "keys": vec![json!({}); 65] })).unwrap();
    for text in [
        &b""[..],
        b"[]",
        b"{}",
        br#"{"keys":{}}"#,
        br#"{"keys":[]}"#,
        &many,
    ] {
        assert!(
            KeySet::parse(text).is_err(),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
}

#[tokio::test]
async fn keys_that_were_read_stay_in_use_while_their_server_is_down() {
    let signer = Signer::ed25519("1");
    let server = Server::start(&key_set(&[&signer]));
    let authenticator = server.authenticator();
    let token = signer.sign(&claims(&json!({})));

    assert!(!authenticator.is_ready());
    assert_eq!(
        authenticator.verify_now(&token, now()),
        Err(Error::KeysUnavailable)
    );
    authenticator.refresh().await.unwrap();
    assert!(authenticator.is_ready());
    assert!(authenticator.verify_now(&token, now()).is_ok());

    let large = format!(r#"{{"keys":[{}]}}"#, " ".repeat(600_000));
    for (status, body) in [
        ("500 Internal Server Error", &b"{}"[..]),
        ("200 OK", b"<html>"),
        ("200 OK", br#"{"keys":[]}"#),
        ("200 OK", large.as_bytes()),
        ("302 Found\r\nlocation: /other", b""),
    ] {
        server.serve(status, body);
        assert!(authenticator.refresh().await.is_err(), "{status}");
        assert!(authenticator.verify_now(&token, now()).is_ok(), "{status}");
    }
    for answer in [
        &b""[..],
        b"nonsense",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
    ] {
        server.serve_raw(answer);
        assert!(authenticator.refresh().await.is_err());
        assert!(authenticator.verify_now(&token, now()).is_ok());
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_all_who_come_with_it() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let server = Server::start(&key_set(&[&old]));
    let authenticator = server.authenticator();
    authenticator.refresh().await.unwrap();
    let (old_token, new_token) = (old.sign(&claims(&json!({}))), new.sign(&claims(&json!({}))));
    server.serve("200 OK", &key_set(&[&new]));

    let clients = async {
        let comers = (0..20).map(|_| authenticator.verify(&new_token, now()));
        let outcomes = futures_util::future::join_all(comers).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(server.requests(), 2);
        // The old key was withdrawn; asking for it again is left to the cooldown.
        for _ in 0..100 {
            let outcome = authenticator.verify(&old_token, now()).await;
            assert_eq!(outcome, Err(Error::UnknownKey(Some("old".to_owned()))));
        }
        assert_eq!(server.requests(), 2);
    };
    tokio::select! {
        () = clients => {}
        () = authenticator.clone().run() => unreachable!("it runs for ever"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_with_an_unknown_key_does_not_wait_for_ever() {
    let signer = Signer::p256("1");
    let server = Server::start(b"");
    let authenticator = server.authenticator();
    // Nobody runs the background reading here.
    let outcome = authenticator
        .verify(&signer.sign(&claims(&json!({}))), now())
        .await;
    assert_eq!(outcome, Err(Error::KeysUnavailable));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_key_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::rsa("old"), Signer::p256("new"));
    let (old_token, new_token) = (old.sign(&claims(&json!({}))), new.sign(&claims(&json!({}))));
    let config = config::Auth {
        jwks_file: Some(path.clone()),
        ..token_config()
    };
    assert!(Authenticator::open(config.clone(), folder.path()).is_err());

    fs::write(&path, key_set(&[&old])).unwrap();
    let authenticator = Authenticator::open(config, folder.path()).unwrap();
    assert!(authenticator.verify_now(&old_token, now()).is_ok());

    fs::write(&path, "half a fi").unwrap();
    let error = authenticator.refresh().await.unwrap_err();
    assert!(error.to_string().contains("keys.json"), "{error}");
    assert!(authenticator.verify_now(&old_token, now()).is_ok());

    fs::write(&path, key_set(&[&new])).unwrap();
    let reader = authenticator.clone().run();
    let outcome = tokio::select! {
        outcome = authenticator.verify(&new_token, now()) => outcome,
        () = reader => unreachable!("it runs for ever"),
    };
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(authenticator.verify_now(&old_token, now()).is_err());
    fs::remove_file(&path).unwrap();
    assert!(authenticator.refresh().await.is_err());
    assert!(authenticator.verify_now(&new_token, now()).is_ok());
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_refused_behind_https() {
    let server = Server::start(&key_set(&[&Signer::p256("1")]));
    let url = format!("https://{}/keys", server.address);
    let config = config::Auth {
        jwks_url: Some(url),
        ..token_config()
    };
    let authenticator = Authenticator::open(config, Path::new("unused")).unwrap();
    let error = authenticator.refresh().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot fetch the keys from https://"),
        "{error}"
    );
    assert!(!authenticator.is_ready());
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config::Auth {
        jwks_url: Some(format!("http://{}/keys", listener.local_addr().unwrap())),
        jwks_timeout: Span::from_millis(100),
        ..token_config()
    };
    let authenticator = Authenticator::open(config, Path::new("unused")).unwrap();
    let error = authenticator.refresh().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        format!("no complete answer in {:?}", Duration::from_millis(100))
    );
}
