//! Tokens of an issuer whose public keys are in a file.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::support::client::{Client, WEBSOCKET};
use super::support::node::Node;
use super::support::wire::Wire;

const RSA: &[u8] = include_bytes!("../../src/auth/testdata/test-only-rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../src/auth/testdata/test-only-rsa-public.pem");

struct Signer {
    algorithm: Algorithm,
    kid: &'static str,
    key: EncodingKey,
}

impl Signer {
    fn rsa() -> Self {
        let key = EncodingKey::from_rsa_pem(RSA).unwrap();
        Self {
            algorithm: Algorithm::RS256,
            kid: "rsa",
            key,
        }
    }

    fn p256(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self {
            algorithm: Algorithm::ES256,
            kid,
            key,
        }
    }

    fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.kid.to_owned()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn claims(lasts: i64) -> Value {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let exp = i64::try_from(now).unwrap() + lasts;
    json!({ "sub": "ada", "exp": exp, "rooms": ["conversation:*"] })
}

/// A token whose header says this algorithm and key, signed with HMAC or with nothing.
fn forged(algorithm: &str, kid: &str, secret: Option<&[u8]>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": algorithm, "kid": kid, "typ": "JWT" });
    let signed = format!("{}.{}", part(&header), part(&claims(3_600)));
    let signature = secret.map_or_else(String::new, |secret| {
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap()
    });
    format!("{signed}.{signature}")
}

async fn node_with(keys: &[&Signer]) -> Node {
    let mut node = Node::unstarted(&[
        ("auth.mode", "token"),
        ("auth.jwks_file", "keys.json"),
        ("auth.jwks_refresh", "1s"),
    ])
    .await;
    write_keys(&node, keys);
    node.run().await;
    node
}

fn write_keys(node: &Node, keys: &[&Signer]) {
    let keys: Vec<_> = keys.iter().map(|signer| signer.public()).collect();
    let written = node.folder().join("keys.new");
    std::fs::write(&written, json!({ "keys": keys }).to_string()).unwrap();
    // In one step, so that nobody reads half of it.
    std::fs::rename(written, node.folder().join("keys.json")).unwrap();
}

/// What CONNECT is answered with, on a connection of its own.
async fn connect(node: &Node, token: &str) -> (String, Wire) {
    let mut wire = node.dial().await;
    assert_eq!(wire.upgrade(WEBSOCKET, "").await.status, 101);
    wire.text().await.unwrap();
    wire.send_text(&format!("40{}", json!({ "token": token })))
        .await;
    (wire.text().await.unwrap(), wire)
}

#[tokio::test]
async fn tokens_of_the_issuers_keys_are_accepted() {
    let (rsa, ec) = (Signer::rsa(), Signer::p256("ec"));
    let node = node_with(&[&rsa, &ec]).await;
    for signer in [&rsa, &ec] {
        let token = signer.sign(&claims(3_600));
        let mut client = Client::over(node.dial().await, &token).await;
        client.join("lobby").await;
        client.say("lobby", "hello").await;
        let bearer = format!("authorization: Bearer {token}\r\n");
        let answer = node
            .dial()
            .await
            .get("/api/conversations/lobby/messages", &bearer)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused_and_the_connection_goes_on() {
    let (rsa, ec) = (Signer::rsa(), Signer::p256("ec"));
    let node = node_with(&[&rsa, &ec]).await;
    let public: String = rsa.public()["n"].as_str().unwrap().to_owned();
    let table = [
        (
            "the public key as a secret",
            forged("HS256", "rsa", Some(RSA_PUBLIC)),
        ),
        (
            "the modulus as a secret",
            forged("HS256", "rsa", Some(public.as_bytes())),
        ),
        (
            "a secret for an EC key",
            forged("HS256", "ec", Some(RSA_PUBLIC)),
        ),
        (
            "another algorithm's name",
            forged("RS256", "rsa", Some(RSA_PUBLIC)),
        ),
        ("no algorithm", forged("none", "rsa", None)),
        ("no algorithm, written oddly", forged("nOnE", "rsa", None)),
        ("no signature", forged("RS256", "rsa", None)),
        ("an unknown key", Signer::p256("other").sign(&claims(3_600))),
        (
            "a key under another's name",
            Signer::p256("ec").sign(&claims(3_600)),
        ),
        ("an expired token", rsa.sign(&claims(-3_600))),
        ("no token", String::new()),
    ];
    let series = "connect_errors_total{code=\"unauthenticated\"}";
    for (what, token) in table {
        let before = node.scrape().await.sum(series);
        let (reply, mut wire) = connect(&node, &token).await;
        assert!(reply.starts_with("44{"), "{what}: {reply}");
        let error: Value = serde_json::from_str(&reply[2..]).unwrap();
        assert!(
            !error["message"].as_str().unwrap().is_empty(),
            "{what}: {reply}"
        );
        assert_eq!(error["data"]["code"], "unauthenticated", "{what}: {reply}");
        assert!(
            node.scrape().await.sum(series) > before,
            "{what} is counted"
        );
        let bearer = format!("authorization: Bearer {token}\r\n");
        let answer = node
            .dial()
            .await
            .get("/api/conversations/lobby/messages", &bearer)
            .await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        // The same connection may try again with a better one.
        let good = json!({ "token": rsa.sign(&claims(3_600)) });
        wire.send_text(&format!("40{good}")).await;
        let reply = wire.text().await.unwrap();
        assert!(reply.starts_with("40{"), "{what}: {reply}");
    }
    let answer = node
        .dial()
        .await
        .post("/api/development/token", "", b"{\"user\":\"x\"}")
        .await;
    assert_eq!(
        answer.status,
        404,
        "no tokens for everybody: {}",
        answer.text()
    );
    assert!(!node.log().contains("panicked"));
}

#[tokio::test]
async fn keys_that_are_added_and_withdrawn_are_noticed() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let node = node_with(&[&old]).await;
    assert!(
        connect(&node, &old.sign(&claims(3_600)))
            .await
            .0
            .starts_with("40{")
    );
    write_keys(&node, &[&new]);
    let is_accepted = async |signer: &Signer| {
        let token = signer.sign(&claims(3_600));
        connect(&node, &token).await.0.starts_with("40{")
    };
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !is_accepted(&new).await || is_accepted(&old).await {
        assert!(
            std::time::Instant::now() < end,
            "the change of keys was not noticed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
