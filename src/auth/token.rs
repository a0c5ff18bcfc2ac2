//! From a token to an identity: form, key, signature, times, claims, in this order.
//!
//! The key decides the algorithm: the header's `alg` must be the one of the key that is found, so
//! `none` is nobody's and a public key is never taken for a shared secret. Pure: keys and the time
//! are arguments.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Number, Value};

use super::error::Error;
use super::globs::Rooms;
use super::identity::{Identity, Parts};
use super::keys::{Key, KeySet};
use crate::config::Algorithm;
use crate::types::{Span, Timestamp, UserId};

/// What is demanded of a token beyond a signature.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) leeway: Span,
}

/// The keys at hand.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) secret: Option<&'a Key>,
    pub(super) public: Option<&'a KeySet>,
}

/// Longer tokens are refused unread. Proxies and browsers refuse longer headers too.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Marks the tokens of logins here. Not `sid`: other issuers mean their own sessions by it.
pub(super) const LOGIN_CLAIM: &str = "vestibule_session";
/// A display name, token id or list of scopes.
const TEXT_BYTES_MAX: usize = 256;

/// Verifies a token.
pub(super) fn verify(
    token: &str,
    keys: Keys<'_>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Identity, Error> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::TooLong(token.len(), TOKEN_BYTES_MAX));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Error::Malformed("it does not have three parts"));
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let header = object(header, "its header is not base64url of a JSON object")?;
    let key = find_key(&header, keys, rules)?;
    if !key.verifies(signed, signature) {
        return Err(Error::Signature);
    }
    // Read only now: until here they were anybody's bytes.
    let claims = object(payload, "its claims are not base64url of a JSON object")?;
    identity(&claims, rules, now)
}

fn object(part: &str, complaint: &'static str) -> Result<Map<String, Value>, Error> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Error::Malformed(complaint))?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Malformed(complaint))
}

fn find_key<'a>(
    header: &Map<String, Value>,
    keys: Keys<'a>,
    rules: &Rules,
) -> Result<&'a Key, Error> {
    if header.contains_key("crit") {
        return Err(Error::Extension);
    }
    let name = header.get("alg").and_then(Value::as_str);
    let name = name.ok_or(Error::Malformed("its header names no algorithm (alg)"))?;
    let algorithm = rules.algorithms.iter().find(|known| known.text() == name);
    let algorithm = *algorithm.ok_or(Error::Algorithm)?;
    let id = match header.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(Error::Malformed("its header's key id (kid) is not a text")),
    };
    let public = keys.public.map(|set| set.find(id, algorithm));
    match (public, keys.secret) {
        (Some(Ok(key)), _) => Ok(key),
        // A secret has no id of its own: it is meant when nothing else is.
        (None | Some(Err(Error::UnknownKey(_) | Error::KeysUnavailable)), Some(secret))
            if secret.algorithm() == algorithm =>
        {
            Ok(secret)
        }
        (None, Some(_)) => Err(Error::Algorithm),
        (Some(Err(error)), _) => Err(error),
        (None, None) => Err(Error::KeysUnavailable),
    }
}

fn identity(claims: &Map<String, Value>, rules: &Rules, now: Timestamp) -> Result<Identity, Error> {
    let leeway = i64::try_from(rules.leeway.get().as_millis()).unwrap_or(i64::MAX);
    let end = time(claims, "exp")?.ok_or(Error::MissingClaim("exp"))?;
    let expires_at = Timestamp::from_millis(end.as_millis().saturating_add(leeway));
    if now >= expires_at {
        return Err(Error::Expired(end));
    }
    for claim in ["nbf", "iat"] {
        if let Some(start) = time(claims, claim)?
            && start.as_millis() > now.as_millis().saturating_add(leeway)
        {
            return Err(Error::NotYetValid(start));
        }
    }
    if let Some(issuer) = &rules.issuer
        && text(claims, "iss")?.ok_or(Error::MissingClaim("iss"))? != issuer
    {
        return Err(Error::Issuer);
    }
    if let Some(audience) = &rules.audience {
        check_audience(claims, audience)?;
    }
    let subject = text(claims, "sub")?.ok_or(Error::MissingClaim("sub"))?;
    let parts = Parts {
        user: UserId::parse(subject).map_err(Error::Subject)?,
        name: short_text(claims, "name")?,
        rooms: rooms(claims)?,
        token_id: short_text(claims, "jti")?,
        scope: short_text(claims, "scope")?,
        is_login: is_set(claims, LOGIN_CLAIM)?,
        expires_at,
    };
    Ok(parts.into())
}

fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), Error> {
    let is_meant = match present(claims, "aud") {
        None => return Err(Error::MissingClaim("aud")),
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        Some(_) => return Err(Error::Claim("aud", "a text or a list of texts")),
    };
    if is_meant {
        Ok(())
    } else {
        Err(Error::Audience)
    }
}

fn rooms(claims: &Map<String, Value>) -> Result<Rooms, Error> {
    const EXPECTED: Error = Error::Claim("rooms", "a list of texts");
    let Some(value) = present(claims, "rooms") else {
        return Ok(Rooms::default());
    };
    let patterns = value.as_array().ok_or(EXPECTED)?.iter().map(Value::as_str);
    let patterns: Vec<&str> = patterns.collect::<Option<_>>().ok_or(EXPECTED)?;
    Rooms::parse(&patterns).map_err(Error::Rooms)
}

/// A claim that is there; `null` counts as not there.
fn present<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a Value> {
    claims.get(claim).filter(|value| !value.is_null())
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &'static str) -> Result<Option<&'a str>, Error> {
    let as_text = |value: &'a Value| value.as_str().ok_or(Error::Claim(claim, "a text"));
    present(claims, claim).map(as_text).transpose()
}

fn is_set(claims: &Map<String, Value>, claim: &'static str) -> Result<bool, Error> {
    let as_bool = |value: &Value| value.as_bool().ok_or(Error::Claim(claim, "true or false"));
    let is_set = present(claims, claim).map(as_bool).transpose()?;
    Ok(is_set.unwrap_or(false))
}

/// A text that others are shown or that becomes part of a key.
fn short_text(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<Box<str>>, Error> {
    let Some(text) = text(claims, claim)? else {
        return Ok(None);
    };
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Error::Claim(
            claim,
            "at most 256 bytes without control characters",
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()).map(Into::into))
}

fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<Timestamp>, Error> {
    let as_time = |value: &Value| match value {
        Value::Number(seconds) => Ok(numeric_date(seconds)),
        _ => Err(Error::Claim(claim, "a number of seconds since 1970")),
    };
    present(claims, claim).map(as_time).transpose()
}

/// RFC 7519 allows fractions of a second. What lies outside the calendar is moved to its end.
fn numeric_date(seconds: &Number) -> Timestamp {
    let whole = seconds
        .as_i64()
        .map(|seconds| seconds.saturating_mul(1_000));
    let fraction = || {
        seconds
            .as_f64()
            .map_or(i64::MAX, |seconds| (seconds * 1_000.0) as i64)
    };
    Timestamp::from_millis(whole.unwrap_or_else(fraction))
}
