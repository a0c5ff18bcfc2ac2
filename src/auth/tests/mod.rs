//! Tokens and keys, good and bad.

mod claims;
mod jwks;
mod opening;
mod tokens;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Signature, EncodingKey, Header};
use serde_json::{Value, json};

use super::token::{Keys, Rules, verify};
use super::*;

/// 2026-01-31T12:00:00Z, when all of these tests take place.
const NOW_SECONDS: i64 = 1_769_860_800;
const SECRET: &str = "a secret of thirty-two bytes, no less";
const RSA: &[u8] = include_bytes!("../testdata/test-only-rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../testdata/test-only-rsa-public.pem");

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_SECONDS * 1_000)
}

/// A private key, the entry of its public half in a JWKS, and how to sign with it.
struct Signer {
    algorithm: Signature,
    kid: Option<String>,
    key: EncodingKey,
}

impl Signer {
    fn rsa(kid: &str) -> Self {
        let key = EncodingKey::from_rsa_pem(RSA).unwrap();
        Self {
            algorithm: Signature::RS256,
            kid: Some(kid.to_owned()),
            key,
        }
    }

    fn p256(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self {
            algorithm: Signature::ES256,
            kid: Some(kid.to_owned()),
            key,
        }
    }

    fn ed25519(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        // The libraries disagree on the form that also holds the public half.
        let seed = &pair.serialize_der()[16..48];
        let mut der = ED25519_PREFIX.to_vec();
        der.extend_from_slice(seed);
        let key = EncodingKey::from_ed_der(&der);
        Self {
            algorithm: Signature::EdDSA,
            kid: Some(kid.to_owned()),
            key,
        }
    }

    fn secret(secret: &[u8]) -> Self {
        let key = EncodingKey::from_secret(secret);
        Self {
            algorithm: Signature::HS256,
            kid: None,
            key,
        }
    }

    fn without_kid(self) -> Self {
        Self { kid: None, ..self }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: self.kid.clone(),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    fn entry(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id.clone_from(&self.kid);
        serde_json::to_value(jwk).unwrap()
    }
}

/// PKCS#8 version 1 of an Ed25519 seed, up to the seed.
const ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

fn key_set(signers: &[&Signer]) -> Vec<u8> {
    let entries: Vec<Value> = signers.iter().map(|signer| signer.entry()).collect();
    serde_json::to_vec(&json!({ "keys": entries })).unwrap()
}

/// Claims that are accepted, with some replaced.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "sub": "ada",
        "exp": NOW_SECONDS + 3_600,
        "iat": NOW_SECONDS,
    });
    let changes = changes.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(changes);
    claims
}

fn token_config() -> config::Auth {
    config::Auth {
        mode: Authentication::Token,
        ..config::Auth::default()
    }
}

fn rules() -> Rules {
    let config = token_config();
    Rules {
        algorithms: config.algorithms,
        issuer: None,
        audience: None,
        leeway: config.leeway,
    }
}

fn check(token: &str) -> Result<Identity, Error> {
    let secret = Key::secret(SECRET.as_bytes());
    verify(
        token,
        Keys {
            secret: Some(&secret),
            public: None,
        },
        &rules(),
        now(),
    )
}

fn signed(changes: &Value) -> String {
    Signer::secret(SECRET.as_bytes()).sign(&claims(changes))
}
