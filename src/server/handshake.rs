//! How a session was opened: fixed at its first request.

use std::net::IpAddr;

use crate::types::Timestamp;

/// What is known of the request that opened a session.
///
/// Kept as copied text, not as the HTTP library's values: those would pin its read buffer for the
/// life of the connection.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The client's address, after trusted proxies.
    pub address: IpAddr,
    /// True over TLS.
    pub is_secure: bool,
    /// When it was opened.
    pub at: Timestamp,
    query: Box<str>,
    /// `name: value` lines, names in lower case.
    headers: Box<str>,
}

/// Headers that say how the request travelled, not who asks; not worth their memory.
const LEFT_OUT: &[&str] = &[
    "accept",
    "accept-encoding",
    "cache-control",
    "connection",
    "pragma",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "upgrade",
];

impl Handshake {
    /// Copies what is kept of a request.
    pub fn new<'a>(
        address: IpAddr,
        is_secure: bool,
        at: Timestamp,
        request: (&str, impl Iterator<Item = (&'a str, &'a str)>),
    ) -> Self {
        let (query, pairs) = request;
        let mut headers = String::new();
        for (name, value) in pairs {
            if !LEFT_OUT.contains(&name) {
                headers.extend([name, ": ", value, "\n"]);
            }
        }
        Self {
            address,
            is_secure,
            at,
            query: query.into(),
            headers: headers.into_boxed_str(),
        }
    }

    /// The query string as it was sent.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name))
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name() {
        let pairs = [
            ("origin", "https://a.example"),
            ("upgrade", "websocket"),
            ("cookie", "a: b"),
        ];
        let handshake = Handshake::new(
            [127, 0, 0, 1].into(),
            false,
            Timestamp::default(),
            ("EIO=4", pairs.into_iter()),
        );
        assert_eq!(handshake.header("origin"), Some("https://a.example"));
        assert_eq!(handshake.header("cookie"), Some("a: b"));
        assert_eq!(handshake.header("upgrade"), None);
        assert_eq!(handshake.query(), "EIO=4");
    }
}
