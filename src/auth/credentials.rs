//! Where a client may put its token: `auth.token` of the Socket.IO CONNECT, then the header
//! `Authorization: Bearer`, then a cookie. The first that is there counts; one that is there but
//! cannot be understood is an error, not a reason to look further.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use serde_json::Value;

use super::error::Error;
use crate::types::Secret;

/// Finds the token in what a client sent. `auth` is the JSON of a CONNECT packet, if there was one;
/// `cookie` the name of the cookie, if cookies are read.
///
/// # Errors
/// [`Error::Missing`] if there is none, [`Error::Credentials`] if it cannot be understood.
pub fn find(
    auth: Option<&str>,
    headers: &HeaderMap,
    cookie: Option<&str>,
) -> Result<Secret<String>, Error> {
    if let Some(token) = auth.map(from_auth).transpose()?.flatten() {
        return Ok(Secret::new(token));
    }
    let found = match from_bearer(headers)? {
        Some(token) => Some(token),
        None => cookie
            .map(|name| from_cookie(headers, name))
            .transpose()?
            .flatten(),
    };
    found
        .map(|token| Secret::new(token.to_owned()))
        .ok_or(Error::Missing)
}

fn from_auth(auth: &str) -> Result<Option<String>, Error> {
    let value: Value = serde_json::from_str(auth)
        .map_err(|_| Error::Credentials("the CONNECT payload", "is not JSON"))?;
    match value.get("token") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            // People paste what they would send as a header.
            let token = after_scheme(text).unwrap_or(text).trim();
            Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
        }
        Some(_) => Err(Error::Credentials("auth.token", "is not a text")),
    }
}

fn from_bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    const HEADER: &str = "the header Authorization";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::Credentials(HEADER, "is there more than once"));
    }
    let text = value
        .to_str()
        .map_err(|_| Error::Credentials(HEADER, "is not ASCII text"))?;
    let token = after_scheme(text).ok_or(Error::Credentials(
        HEADER,
        "does not begin with the scheme Bearer",
    ))?;
    match token.trim() {
        "" => Err(Error::Credentials(HEADER, "has no token after Bearer")),
        token => Ok(Some(token)),
    }
}

/// What follows `Bearer `; the scheme is case-insensitive (RFC 9110 section 11.1).
fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(rest)
}

fn from_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    const HEADER: &str = "the header Cookie";
    let mut found = None;
    for value in headers.get_all(COOKIE) {
        let text = value
            .to_str()
            .map_err(|_| Error::Credentials(HEADER, "is not ASCII text"))?;
        for pair in text.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else {
                continue;
            };
            let value = value.trim_matches('"');
            if key != name || value.is_empty() {
                continue;
            }
            // Another site under the same domain may have set one of them: do not guess.
            if found.is_some_and(|other| other != value) {
                return Err(Error::Credentials(HEADER, "has two different tokens"));
            }
            found = Some(value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        pairs
            .iter()
            .map(|(name, text)| (name.clone(), value(text)))
            .collect()
    }

    fn found(auth: Option<&str>, pairs: &[(HeaderName, &str)]) -> Result<String, Error> {
        find(auth, &headers(pairs), Some("session")).map(|token| token.reveal().clone())
    }

    #[test]
    fn the_first_place_that_has_a_token_counts() {
        let all = [
            (AUTHORIZATION, "Bearer from-header"),
            (COOKIE, "session=from-cookie"),
        ];
        for (auth, pairs, expected) in [
            (Some(r#"{"token":"from-auth"}"#), &all[..], "from-auth"),
            (Some(r#"{"token":"Bearer from-auth"}"#), &all, "from-auth"),
            (Some(r#"{"token":null}"#), &all, "from-header"),
            (Some(r#"{"token":""}"#), &all, "from-header"),
            (Some("{}"), &all, "from-header"),
            (Some("null"), &all, "from-header"),
            (Some("[1]"), &all, "from-header"),
            (None, &all, "from-header"),
            (None, &all[1..], "from-cookie"),
            (None, &[(AUTHORIZATION, "bEARER  spaced ")], "spaced"),
            (
                None,
                &[(COOKIE, "a=b; session=\"x.y.z\"; session=x.y.z")],
                "x.y.z",
            ),
            (None, &[(COOKIE, "a=b"), (COOKIE, "session=x=y")], "x=y"),
        ] {
            assert_eq!(
                found(auth, pairs).as_deref(),
                Ok(expected),
                "{auth:?} {pairs:?}"
            );
        }
    }

    #[test]
    fn what_is_there_but_malformed_is_an_error() {
        const PAYLOAD: &str = "the CONNECT payload";
        const HEADER: &str = "the header Authorization";
        const COOKIES: &str = "the header Cookie";
        let cookie = (COOKIE, "session=good");
        for (auth, pairs, expected) in [
            (
                Some("{"),
                vec![],
                Error::Credentials(PAYLOAD, "is not JSON"),
            ),
            (
                Some(r#"{"token":1}"#),
                vec![],
                Error::Credentials("auth.token", "is not a text"),
            ),
            (
                None,
                vec![(AUTHORIZATION, "Basic abc"), cookie.clone()],
                Error::Credentials(HEADER, "does not begin with the scheme Bearer"),
            ),
            (
                None,
                vec![(AUTHORIZATION, "Bearer"), cookie.clone()],
                Error::Credentials(HEADER, "has no token after Bearer"),
            ),
            (
                None,
                vec![(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer b")],
                Error::Credentials(HEADER, "is there more than once"),
            ),
            (
                None,
                vec![(AUTHORIZATION, "Bearer ü"), cookie],
                Error::Credentials(HEADER, "is not ASCII text"),
            ),
            (
                None,
                vec![(COOKIE, "session=a; session=b")],
                Error::Credentials(COOKIES, "has two different tokens"),
            ),
            (
                None,
                vec![(COOKIE, "session=; sessions=x; session")],
                Error::Missing,
            ),
            (None, vec![], Error::Missing),
        ] {
            assert_eq!(found(auth, &pairs), Err(expected), "{auth:?} {pairs:?}");
        }
    }

    #[test]
    fn cookies_are_not_read_unless_they_are_named() {
        assert!(find(None, &headers(&[(COOKIE, "session=a")]), None).is_err());
    }

    proptest! {
        #[test]
        fn any_input_is_answered(auth in ".{0,40}", header in "[ -~]{0,40}", cookie in "[ -~]{0,40}") {
            let pairs = [(AUTHORIZATION, header.as_str()), (COOKIE, cookie.as_str())];
            let _outcome = found(Some(&auth), &pairs);
        }
    }
}
