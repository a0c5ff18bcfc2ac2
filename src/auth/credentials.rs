//! Where a client may put its token: `auth.token` of the Socket.IO CONNECT, then the header
//! `Authorization: Bearer`, then a cookie. The first that is there counts; one that is there but
//! cannot be understood is an error, not a reason to look further.

use serde_json::Value;

use super::error::Error;
use crate::types::Secret;

/// What a client sent that may hold its token.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The JSON of the Socket.IO CONNECT, if there was one.
    pub auth: Option<&'a str>,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
    /// The header `Cookie`; where HTTP/2 splits it (RFC 9113 section 8.2.3), joined with `; `.
    pub cookie: Option<&'a str>,
}

impl Credentials<'_> {
    /// Whether the token that counts is the cookie's: browsers send that one by themselves.
    #[must_use]
    pub fn is_by_cookie(&self, cookie: Option<&str>) -> bool {
        let is_elsewhere = self.authorization.is_some()
            || matches!(self.auth.map(from_auth), Some(Ok(Some(_)) | Err(_)));
        !is_elsewhere && self.token(cookie).is_ok()
    }

    /// Finds the token; looks at cookies only if one is named.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, [`Error::Credentials`] if it cannot be understood.
    pub fn token(&self, cookie: Option<&str>) -> Result<Secret<String>, Error> {
        if let Some(token) = self.auth.map(from_auth).transpose()?.flatten() {
            return Ok(Secret::new(token));
        }
        let found = match self.authorization {
            Some(header) => Some(from_bearer(header)?),
            None => match (self.cookie, cookie) {
                (Some(header), Some(name)) => from_cookie(header, name)?,
                _ => None,
            },
        };
        found
            .map(|token| Secret::new(token.to_owned()))
            .ok_or(Error::Missing)
    }
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

fn from_bearer(header: &str) -> Result<&str, Error> {
    let refused = |why| Error::Credentials("the header Authorization", why);
    let token = after_scheme(header).map(str::trim);
    match token.ok_or_else(|| refused("does not begin with the scheme Bearer"))? {
        "" => Err(refused("has no token after Bearer")),
        token => Ok(token),
    }
}

/// What follows `Bearer `; the scheme is case-insensitive (RFC 9110 section 11.1).
fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(rest)
}

pub(super) fn from_cookie<'a>(header: &'a str, name: &str) -> Result<Option<&'a str>, Error> {
    let mut found = None;
    for pair in header.split(';') {
        let Some((key, value)) = pair.trim().split_once('=') else {
            continue;
        };
        let value = value.trim_matches('"');
        if key != name || value.is_empty() {
            continue;
        }
        // Another site under the same domain may have set one of them: do not guess.
        if found.is_some_and(|other| other != value) {
            return Err(Error::Credentials(
                "the header Cookie",
                "has two different tokens",
            ));
        }
        found = Some(value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Sent<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

    fn found((auth, authorization, cookie): Sent<'_>) -> Result<String, Error> {
        let credentials = Credentials {
            auth,
            authorization,
            cookie,
        };
        credentials
            .token(Some("session"))
            .map(|token| token.reveal().clone())
    }

    #[test]
    fn the_first_place_that_has_a_token_counts() {
        let (header, cookie) = (Some("Bearer from-header"), Some("session=from-cookie"));
        for (sent, expected) in [
            (
                (Some(r#"{"token":"from-auth"}"#), header, cookie),
                "from-auth",
            ),
            (
                (Some(r#"{"token":"Bearer from-auth"}"#), header, cookie),
                "from-auth",
            ),
            ((Some(r#"{"token":null}"#), header, cookie), "from-header"),
            ((Some(r#"{"token":""}"#), header, cookie), "from-header"),
            ((Some("{}"), header, cookie), "from-header"),
            ((Some("null"), header, cookie), "from-header"),
            ((Some("[1]"), header, cookie), "from-header"),
            ((None, header, cookie), "from-header"),
            ((None, None, cookie), "from-cookie"),
            ((None, Some("bEARER  spaced "), None), "spaced"),
            (
                (None, None, Some("a=b; session=\"x.y.z\"; session=x.y.z")),
                "x.y.z",
            ),
            ((None, None, Some("session=x=y")), "x=y"),
        ] {
            assert_eq!(found(sent).as_deref(), Ok(expected), "{sent:?}");
        }
    }

    #[test]
    fn what_is_there_but_malformed_is_an_error() {
        const PAYLOAD: &str = "the CONNECT payload";
        const HEADER: &str = "the header Authorization";
        const COOKIES: &str = "the header Cookie";
        let cookie = Some("session=good");
        let scheme = Error::Credentials(HEADER, "does not begin with the scheme Bearer");
        let empty = Error::Credentials(HEADER, "has no token after Bearer");
        for (sent, expected) in [
            (
                (Some("{"), None, None),
                Error::Credentials(PAYLOAD, "is not JSON"),
            ),
            (
                (Some(r#"{"token":1}"#), None, None),
                Error::Credentials("auth.token", "is not a text"),
            ),
            ((None, Some("Basic abc"), cookie), scheme.clone()),
            ((None, Some("Bearertoken"), cookie), scheme.clone()),
            ((None, Some(""), cookie), scheme),
            ((None, Some("Bearer"), cookie), empty.clone()),
            ((None, Some("Bearer  "), cookie), empty),
            (
                (None, None, Some("session=a; session=b")),
                Error::Credentials(COOKIES, "has two different tokens"),
            ),
            (
                (None, None, Some("session=; sessions=x; session")),
                Error::Missing,
            ),
            ((None, None, None), Error::Missing),
        ] {
            assert_eq!(found(sent), Err(expected), "{sent:?}");
        }
    }

    #[test]
    fn cookies_are_not_read_unless_one_is_named() {
        let credentials = Credentials {
            cookie: Some("session=a"),
            ..Credentials::default()
        };
        assert!(credentials.token(None).is_err());
    }

    proptest! {
        #[test]
        fn any_input_is_answered(auth in ".{0,40}", header in ".{0,40}", cookie in ".{0,40}") {
            let _outcome = found((Some(&auth), Some(&header), Some(&cookie)));
            let _outcome = found((None, None, Some(&cookie)));
        }
    }
}
