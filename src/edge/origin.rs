//! Which web pages may talk to this node: CORS for requests, an allow-list for WebSockets.
//!
//! CORS answers as npm `cors` does, because Socket.IO applications are configured in its words: an origin
//! that is not allowed is never an error here, its answer merely lacks the header and the browser keeps it
//! from the page. It is off (no header at all) without configured origins.
//!
//! Browsers do not apply CORS to WebSockets, yet send cookies with them: any page a user visits could
//! open one in the user's name (cross-site WebSocket hijacking). So handshakes are checked by
//! [`Origins::admits`]: no `Origin` is no browser and is admitted, a page of this very host is, and every
//! other origin must be configured. The scheme is not compared with ours, since TLS may end at a proxy;
//! a proxy that rewrites `Host` makes pages foreign, and their origin must then be configured.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_LENGTH, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};
use thiserror::Error;

/// npm `cors`' default of `methods`.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
static ANY: HeaderValue = HeaderValue::from_static("*");

/// A text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not an origin like \"https://chat.example\" or \"http://localhost:3000\", nor \"*\""
)]
pub struct OriginError {
    text: String,
}

/// The origins whose pages may talk to this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// None but our own; CORS is off.
    #[default]
    Own,
    /// All.
    Any,
    /// One, named in every answer whoever asks; npm `cors` does so for a single text.
    Fixed(HeaderValue),
    /// Those in the list, and our own.
    Listed(Box<[String]>),
}

impl Origins {
    /// Reads configured origins: none, `*`, or origins as browsers write them.
    ///
    /// # Errors
    /// Every entry that is none of these.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, Vec<OriginError>> {
        let mut listed = Vec::new();
        let mut errors = Vec::new();
        for entry in entries.iter().map(AsRef::as_ref) {
            match normal(entry.trim()) {
                Some(origin) => listed.push(origin),
                None => errors.push(OriginError {
                    text: entry.to_owned(),
                }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(match listed.as_slice() {
            [] => Self::Own,
            some if some.iter().any(|origin| origin == "*") => Self::Any,
            _ => Self::Listed(listed.into()),
        })
    }

    /// Whether a WebSocket handshake may come from where it says; `host` is what the request calls this
    /// node (`Host`, or `:authority`).
    #[must_use]
    pub fn admits(&self, request: &HeaderMap, host: Option<&str>) -> bool {
        let mut origins = request.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        if *self == Self::Any {
            return true;
        }
        let (Ok(origin), None) = (origin.to_str(), origins.next()) else {
            return false;
        };
        self.lists(origin) || host.is_some_and(|host| is_same_host(origin, host))
    }

    fn lists(&self, origin: &str) -> bool {
        match self {
            Self::Own => false,
            Self::Any => true,
            Self::Fixed(one) => one == origin,
            Self::Listed(listed) => listed.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        }
    }
}

/// An origin as a browser writes it: lower case, without the scheme's own port.
fn normal(text: &str) -> Option<String> {
    if matches!(text, "*" | "null") {
        return Some(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    let is_plain = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_plain || authority.is_empty() || !authority.chars().all(is_name) {
        return None;
    }
    let (host, port) = split_port(authority)?;
    if host.is_empty() {
        return None;
    }
    Some(match port {
        Some(port) if Some(port) != own_port(scheme) => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let own_port = own_port(&scheme.to_ascii_lowercase());
    let (Some(page), Some(node)) = (split_port(authority), split_port(host)) else {
        return false;
    };
    !page.0.is_empty()
        && page.0.eq_ignore_ascii_case(node.0)
        && page.1.or(own_port) == node.1.or(own_port)
}

const fn own_port(scheme: &str) -> Option<u16> {
    match scheme.as_bytes() {
        b"http" => Some(80),
        b"https" => Some(443),
        _ => None,
    }
}

/// Host and port; brackets stay with the host.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_end = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[name_end..].split_once(':') {
        Some((rest, port)) => {
            let is_number = port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse().ok().filter(|_| is_number)?;
            Some((&authority[..name_end + rest.len()], Some(port)))
        }
        None => Some((authority, None)),
    }
}

/// The answers to cross-origin requests.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Whose requests.
    pub origins: Origins,
    /// Whether pages may send cookies along.
    pub credentials: bool,
    /// The headers pages may send; without, whatever they ask for.
    pub allowed_headers: Option<HeaderValue>,
    /// The headers of answers that pages may read beyond the usual ones.
    pub exposed_headers: Option<HeaderValue>,
    /// How many seconds a browser may keep the answer to a preflight.
    pub max_age_seconds: Option<u64>,
}

impl Cors {
    /// Whether there is anything to answer. When it is off, an OPTIONS request is one like any other.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.origins != Origins::Own
    }

    /// The headers of the answer to an OPTIONS request; its status is 204 and its body empty.
    pub fn preflight(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if !self.is_on() {
            return;
        }
        self.origin_and_credentials(request, response);
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        let headers = self.allowed_headers.clone().or_else(|| {
            vary(response, &ACCESS_CONTROL_REQUEST_HEADERS);
            request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned()
        });
        if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        if let Some(seconds) = self.max_age_seconds {
            response.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
        self.exposed(response);
        response.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }

    /// The headers of the answer to any other request, refusals included.
    pub fn answer(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.is_on() {
            self.origin_and_credentials(request, response);
            self.exposed(response);
        }
    }

    fn origin_and_credentials(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let origin = request.get(ORIGIN);
        let allowed = match &self.origins {
            Origins::Any => Some(&ANY),
            Origins::Fixed(one) => Some(one),
            listed => origin.filter(|origin| origin.to_str().is_ok_and(|text| listed.lists(text))),
        };
        if let Some(allowed) = allowed {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
        }
        if self.origins != Origins::Any {
            // Also without a match: the answer depends on the request's origin.
            vary(response, &ORIGIN);
        }
        if self.credentials {
            response.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
    }

    fn exposed(&self, response: &mut HeaderMap) {
        if let Some(headers) = &self.exposed_headers {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, headers.clone());
        }
    }
}

/// Adds a name to `Vary`, which stays one line.
fn vary(response: &mut HeaderMap, name: &HeaderName) {
    let title = match *name {
        ORIGIN => "Origin",
        _ => "Access-Control-Request-Headers",
    };
    let lines = response
        .get_all(VARY)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let mut names: Vec<&str> = lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    if names
        .iter()
        .any(|one| *one == "*" || one.eq_ignore_ascii_case(title))
    {
        return;
    }
    names.push(title);
    let line = HeaderValue::from_str(&names.join(", "));
    response.insert(VARY, line.expect("it is made of header values"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        lines.iter().map(pair).collect()
    }

    fn shown(map: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = map
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            origins: Origins::parse(origins).unwrap(),
            ..Cors::default()
        }
    }

    type Lines<'a> = &'a [(&'static str, &'a str)];

    const PAGE: &str = "https://chat.example";
    const METHODS_LINE: &str = "access-control-allow-methods: GET,HEAD,PUT,PATCH,POST,DELETE";

    #[test]
    fn preflights_are_answered_like_npm_cors_does() {
        let asked = [
            ("origin", PAGE),
            ("access-control-request-headers", "x-a,x-b"),
        ];
        let listed = cors(&[PAGE, "http://localhost:3000"]);
        let strict = Cors {
            credentials: true,
            allowed_headers: Some(HeaderValue::from_static("x-token")),
            exposed_headers: Some(HeaderValue::from_static("x-trace")),
            max_age_seconds: Some(600),
            ..listed.clone()
        };
        let table: &[(&Cors, Lines<'_>, &[&str])] = &[
            (&cors(&[]), &asked, &[]),
            (
                &cors(&["*"]),
                &asked,
                &[
                    "access-control-allow-headers: x-a,x-b",
                    METHODS_LINE,
                    "access-control-allow-origin: *",
                    "content-length: 0",
                    "vary: Access-Control-Request-Headers",
                ],
            ),
            (
                &listed,
                &asked,
                &[
                    "access-control-allow-headers: x-a,x-b",
                    METHODS_LINE,
                    "access-control-allow-origin: https://chat.example",
                    "content-length: 0",
                    "vary: Origin, Access-Control-Request-Headers",
                ],
            ),
            (
                &listed,
                &[("origin", "https://evil.example")],
                &[
                    METHODS_LINE,
                    "content-length: 0",
                    "vary: Origin, Access-Control-Request-Headers",
                ],
            ),
            (
                &strict,
                &asked,
                &[
                    "access-control-allow-credentials: true",
                    "access-control-allow-headers: x-token",
                    METHODS_LINE,
                    "access-control-allow-origin: https://chat.example",
                    "access-control-expose-headers: x-trace",
                    "access-control-max-age: 600",
                    "content-length: 0",
                    "vary: Origin",
                ],
            ),
        ];
        for (cors, request, expected) in table {
            let mut response = HeaderMap::new();
            cors.preflight(&headers(request), &mut response);
            assert_eq!(shown(&response), *expected, "{request:?}");
        }
    }

    #[test]
    fn other_answers_get_the_origin_and_no_more() {
        let table: &[(&[&str], &str, &[&str])] = &[
            (&[], PAGE, &[]),
            (&["*"], PAGE, &["access-control-allow-origin: *"]),
            (
                &[PAGE],
                PAGE,
                &[
                    "access-control-allow-origin: https://chat.example",
                    "vary: Origin",
                ],
            ),
            (&[PAGE], "https://evil.example", &["vary: Origin"]),
            (
                &[PAGE],
                "https://chat.example.evil.example",
                &["vary: Origin"],
            ),
            (&[PAGE], "http://chat.example", &["vary: Origin"]),
            (
                &["null"],
                "null",
                &["access-control-allow-origin: null", "vary: Origin"],
            ),
        ];
        for (origins, origin, expected) in table {
            let mut response = HeaderMap::new();
            cors(origins).answer(&headers(&[("origin", origin)]), &mut response);
            assert_eq!(shown(&response), *expected, "{origins:?} {origin}");
        }
        let fixed = Cors {
            origins: Origins::Fixed(HeaderValue::from_static(PAGE)),
            ..Cors::default()
        };
        let mut response = HeaderMap::new();
        fixed.answer(
            &headers(&[("origin", "https://evil.example")]),
            &mut response,
        );
        let expected = [
            "access-control-allow-origin: https://chat.example",
            "vary: Origin",
        ];
        assert_eq!(shown(&response), expected);

        let mut response = headers(&[("vary", "Accept-Encoding")]);
        cors(&[PAGE]).answer(&HeaderMap::new(), &mut response);
        cors(&[PAGE]).answer(&HeaderMap::new(), &mut response);
        assert_eq!(shown(&response), ["vary: Accept-Encoding, Origin"]);
    }

    /// Configured origins, the request's `Origin`, its `Host`, and whether it is admitted.
    const HANDSHAKES: &str = "
        -                      -                                  chat.example       yes
        -                      https://chat.example               chat.example       yes
        -                      https://CHAT.example               chat.Example:443   yes
        -                      http://127.0.0.1:8080              127.0.0.1:8080     yes
        -                      http://[::1]:8080                  [::1]:8080         yes
        -                      http://[::1]                       [::1]              yes
        -                      https://chat.example:444           chat.example       no
        -                      http://127.0.0.1:3000              127.0.0.1:8080     no
        -                      https://evil.example               chat.example       no
        -                      https://chat.example.evil.example  chat.example       no
        -                      https://chat.example               -                  no
        -                      null                               chat.example       no
        -                      null                               null               no
        -                      ://                                :80                no
        -                      file://                            :80                no
        https://chat.example   https://chat.example               node-7:8080        yes
        https://chat.example   https://evil.example               node-7:8080        no
        https://chat.example   http://node-7:8080                 node-7:8080        yes
        *                      https://evil.example               chat.example       yes
    ";

    #[test]
    fn websockets_are_admitted_from_nowhere_from_here_and_from_the_list() {
        for line in HANDSHAKES.trim().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [origins, origin, host, expected] = words[..] else {
                panic!("{line}")
            };
            let given = |word| Some(word).filter(|word| *word != "-");
            let origins: Vec<_> = given(origins).into_iter().collect();
            let request: Vec<_> = given(origin)
                .map(|origin| ("origin", origin))
                .into_iter()
                .collect();
            let origins = Origins::parse(&origins).unwrap();
            let admitted = origins.admits(&headers(&request), given(host));
            assert_eq!(admitted, expected == "yes", "{line}");
        }
        let mut two = headers(&[("origin", PAGE)]);
        two.append("origin", HeaderValue::from_static("https://evil.example"));
        assert!(!Origins::Own.admits(&two, Some("chat.example")));
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let read = |text| Origins::parse(&[text]);
        let listed = |text: &str| Ok(Origins::Listed([text.to_owned()].into()));
        assert_eq!(
            read("HTTPS://Chat.Example:443"),
            listed("https://chat.example")
        );
        assert_eq!(
            read("http://localhost:3000"),
            listed("http://localhost:3000")
        );
        assert_eq!(read("http://[::1]:3000"), listed("http://[::1]:3000"));
        assert_eq!(Origins::parse(&[PAGE, "*"]), Ok(Origins::Any));
        for bad in [
            "",
            "chat.example",
            "https://",
            "https://a/b",
            "https://a b",
            "https://a:x",
            "https://*.example",
            "https://:443",
            "https://a:1:2",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_origin_never_panics(origin in "[ -~]{0,60}", host in "[ -~]{0,60}") {
            let request = headers(&[("origin", &origin)]);
            let admitted = Origins::Own.admits(&request, Some(&host));
            prop_assert!(!admitted || origin.contains("://"));
            drop(Origins::parse(&[&origin]));
        }
    }
}
