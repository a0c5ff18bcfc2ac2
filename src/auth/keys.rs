//! Keys that signatures are checked with. A key has one algorithm and is used with no other.
//!
//! Public keys come from a JWKS (RFC 7517): RSA of 2,048 to 4,096 bits for RS256, P-256 for ES256,
//! Ed25519 for EdDSA. Whatever else is in the set (keys for encryption, other curves, symmetric
//! keys, entries that are broken) is left out and counted, so that one odd entry does not cost the
//! others. Not here: where the set comes from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Signature, DecodingKey};
use serde::Deserialize;

use super::error::Error;
use crate::config::Algorithm;

/// A key and the one algorithm it is used with.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// The public keys of a JWKS; empty only until it has been read for the first time.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Entries of the set that are not used.
    pub(super) left_out: usize,
}

/// Why a text is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is no JSON object with a list `keys`.
    #[error("not a JWKS (a JSON object with a list \"keys\")")]
    NotASet(#[source] serde_json::Error),
    /// It has more entries than the limit.
    #[error("the JWKS has {0} keys, the limit is {KEYS_MAX}")]
    TooMany(usize),
    /// Nothing in it can be used.
    #[error(
        "none of the {0} keys of the JWKS is usable (RSA of 2048 to 4096 bits, P-256, Ed25519)"
    )]
    NoneUsable(usize),
}

/// Issuers have two or three; each unnamed key costs a look.
const KEYS_MAX: usize = 64;

impl Key {
    /// The key of a shared secret.
    pub(super) fn secret(secret: &[u8]) -> Self {
        let decoding = DecodingKey::from_secret(secret);
        Self {
            id: None,
            algorithm: Algorithm::Hs256,
            decoding,
        }
    }

    /// The algorithm of its signatures.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// True if `signature` (base64url) is this key's for `signed`. HMACs are compared in constant
    /// time.
    pub(super) fn verifies(&self, signed: &str, signature: &str) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::Hs256 => Signature::HS256,
            Algorithm::Rs256 => Signature::RS256,
            Algorithm::Es256 => Signature::ES256,
            Algorithm::EdDsa => Signature::EdDSA,
        };
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.decoding, algorithm)
            .unwrap_or(false)
    }
}

impl KeySet {
    /// Parses a JWKS.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set: Set = serde_json::from_slice(text).map_err(KeySetError::NotASet)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany(set.keys.len()));
        }
        let count = set.keys.len();
        let usable = |entry| serde_json::from_value::<Entry>(entry).ok()?.key();
        let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(count));
        }
        Ok(Self {
            left_out: count - keys.len(),
            keys,
        })
    }

    /// The number of keys that are used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key for a token: the one it names, else the only one of its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Error> {
        if self.keys.is_empty() {
            return Err(Error::KeysUnavailable);
        }
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let mut found = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm == algorithm);
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Error::AmbiguousKey),
            // The named key exists: the token is at fault, a newer set would not help.
            (None, _) if id.is_some() && self.keys.iter().any(|key| named(&key)) => {
                Err(Error::Algorithm)
            }
            (None, _) => Err(Error::UnknownKey(
                id.map(|id| id.chars().take(64).collect()),
            )),
        }
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// An entry of a JWKS, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Entry {
    /// The key, if it is for signatures and of a kind that is used here.
    fn key(self) -> Option<Key> {
        let verifies = |operations: &Vec<String>| operations.iter().any(|name| name == "verify");
        if self.usage.as_deref().is_some_and(|usage| usage != "sig")
            || !self.key_ops.as_ref().is_none_or(verifies)
        {
            return None;
        }
        let (algorithm, decoding) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (
                Algorithm::Rs256,
                rsa(self.n.as_deref()?, self.e.as_deref()?)?,
            ),
            ("EC", Some("P-256")) => (
                Algorithm::Es256,
                p256(self.x.as_deref()?, self.y.as_deref()?)?,
            ),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, ed25519(self.x.as_deref()?)?),
            _ => return None,
        };
        let is_other = |name: &str| name != algorithm.text() && !is_alias(name, algorithm);
        if self.alg.as_deref().is_some_and(is_other) {
            return None;
        }
        Some(Key {
            id: self.kid,
            algorithm,
            decoding,
        })
    }
}

/// RFC 9864 gives EdDSA on Ed25519 a name of its own.
fn is_alias(name: &str, algorithm: Algorithm) -> bool {
    algorithm == Algorithm::EdDsa && name == "Ed25519"
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
    let exponent = URL_SAFE_NO_PAD.decode(e).ok()?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let bits = (modulus.len() - first) * 8 - modulus[first].leading_zeros() as usize;
    // Below 2,048 bits they are broken, above 4,096 a made-up signature costs too much to refuse.
    let is_odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
    let is_small = exponent.len() <= 4 && exponent != [1];
    ((2_048..=4_096).contains(&bits) && is_odd && is_small)
        .then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn p256(x: &str, y: &str) -> Option<DecodingKey> {
    let is_whole = |text| {
        URL_SAFE_NO_PAD
            .decode(text)
            .is_ok_and(|bytes| bytes.len() == 32)
    };
    if !is_whole(x) || !is_whole(y) {
        return None;
    }
    let key = DecodingKey::from_ec_components(x, y).ok()?;
    is_on_curve(&key, Signature::ES256).then_some(key)
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    // The library takes the first 32 bytes and panics when there are fewer.
    let is_whole = URL_SAFE_NO_PAD
        .decode(x)
        .is_ok_and(|bytes| bytes.len() == 32);
    let key = is_whole
        .then(|| DecodingKey::from_ed_components(x).ok())
        .flatten()?;
    is_on_curve(&key, Signature::EdDSA).then_some(key)
}

/// An empty signature is wrong for a point on the curve, and an error for any other.
fn is_on_curve(key: &DecodingKey, algorithm: Signature) -> bool {
    jsonwebtoken::crypto::verify("", b"", key, algorithm).is_ok()
}
