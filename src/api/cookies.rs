//! The cookies of a login, and proof that a request which they vouch for comes from our own page.
//!
//! `vestibule_token` (its name is configured) is for requests alone; scripts cannot read it. They read
//! `vestibule_csrf` and repeat it in `X-CSRF-Token`, without which no request by cookie changes
//! anything. `SameSite=Lax` keeps most foreign requests without cookies in the first place.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::Full;

use super::Api;
use crate::auth::{Credentials, csrf};
use crate::types::{Code, Problem, Secret, Timestamp};

/// Where nobody is logged in yet, so no cookie vouches for anything.
const OPEN: &[&str] = &["/api/login", "/api/signup", "/api/development/token"];

/// The header `Cookie`. HTTP/2 may carry each cookie in one of its own: RFC 9113 section 8.2.3.
pub(super) fn joined(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter();
    let cookies: Vec<_> = cookies.filter_map(|value| value.to_str().ok()).collect();
    Some(cookies.join("; ")).filter(|cookies| !cookies.is_empty())
}

/// What of a request may hold a token; `cookies` are [`joined`].
pub(super) fn credentials<'a>(headers: &'a HeaderMap, cookies: Option<&'a str>) -> Credentials<'a> {
    Credentials {
        auth: None,
        authorization: headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()),
        cookie: cookies,
    }
}

impl Api {
    /// Whether a request to a path (its template) may change something, as far as cookies are
    /// concerned.
    ///
    /// # Errors
    /// `forbidden`, with what to send.
    pub(super) fn guard(
        &self,
        (method, path): (&Method, &str),
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
            return Ok(());
        }
        if OPEN.contains(&path) {
            return by_script(headers);
        }
        let name = self.context.authenticator.cookie();
        let cookies = joined(headers);
        let credentials = credentials(headers, cookies.as_deref());
        if !credentials.is_by_cookie(name) {
            return Ok(());
        }
        let token = credentials.token(name)?;
        let repeated = headers.get(csrf::HEADER).and_then(|v| v.to_str().ok());
        if repeated.is_some_and(|repeated| csrf::is_value(token.reveal(), repeated)) {
            return Ok(());
        }
        let message = "a request by cookie that changes something needs the header X-CSRF-Token \
                       with the value of cookie vestibule_csrf (GET /api/profile sets it)";
        Err(Problem::new(Code::Forbidden, message))
    }

    /// Gives a browser its login.
    pub(super) fn log_browser_in(
        &self,
        response: &mut Response<Full<Bytes>>,
        token: &Secret<String>,
        (until, now): (Timestamp, Timestamp),
    ) {
        if let Some(name) = self.context.authenticator.cookie() {
            let age = until.since(now).as_secs();
            self.set(response, (name, token.reveal()), ("; HttpOnly", age));
            self.give_csrf(response, token, age);
        }
    }

    /// Takes it away.
    pub(super) fn log_browser_out(&self, response: &mut Response<Full<Bytes>>) {
        if let Some(name) = self.context.authenticator.cookie() {
            self.set(response, (name, ""), ("; HttpOnly", 0));
            self.set(response, (csrf::COOKIE, ""), ("", 0));
        }
    }

    /// A browser whose token came from elsewhere gets the value that belongs to it.
    pub(super) fn renew_csrf(
        &self,
        response: &mut Response<Full<Bytes>>,
        headers: &HeaderMap,
        age_secs: u64,
    ) {
        let (name, cookies) = (self.context.authenticator.cookie(), joined(headers));
        let credentials = credentials(headers, cookies.as_deref());
        if credentials.is_by_cookie(name)
            && let Ok(token) = credentials.token(name)
        {
            self.give_csrf(response, &token, age_secs);
        }
    }

    fn give_csrf(
        &self,
        response: &mut Response<Full<Bytes>>,
        token: &Secret<String>,
        age_secs: u64,
    ) {
        let value = csrf::value(token.reveal());
        self.set(response, (csrf::COOKIE, &value), ("", age_secs));
    }

    fn set(
        &self,
        response: &mut Response<Full<Bytes>>,
        (name, value): (&str, &str),
        (more, age_secs): (&str, u64),
    ) {
        let secure = if self.context.accounts.is_secure() {
            "; Secure"
        } else {
            ""
        };
        let cookie =
            format!("{name}={value}; Path=/; Max-Age={age_secs}; SameSite=Lax{more}{secure}");
        if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
            cookie.set_sensitive(true);
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}

/// A form of another website may post text, and a visitor would be logged in as somebody else; to
/// post JSON a website needs our leave (CORS). Browsers say where a request comes from.
fn by_script(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(ORIGIN) && !headers.contains_key(CONTENT_TYPE) {
        let message = "send JSON, with content-type application/json";
        return Err(Problem::new(Code::Invalid, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_in_many_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(joined(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2; c=3"));
        assert_eq!(joined(&headers).as_deref(), Some("a=1; b=2; c=3"));
    }

    #[test]
    fn a_page_that_logs_in_says_that_it_sends_json() {
        let mut headers = HeaderMap::new();
        assert!(by_script(&headers).is_ok(), "no browser");
        headers.insert(ORIGIN, HeaderValue::from_static("https://a.example"));
        assert!(by_script(&headers).is_err());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(by_script(&headers).is_ok());
    }
}
