//! `[edge]`: listeners, TLS, and the limits before anybody has said who they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Value as Toml;

use crate::config::section::section;
use crate::config::value::Value;
use crate::types::{ByteSize, Span};

section! {
    /// Listeners, TLS, and the limits before anybody has said who they are.
    Edge = "edge" {
        /// Address for clients. Port 0 takes a free one and prints it.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        /// Address for health, readiness and metrics. They need no token: keep it off the internet.
        operations: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
        /// Address for the other nodes of a cluster; not opened in embedded mode. Keep it off the
        /// internet: requests are authenticated, but not encrypted.
        internal: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7946));
        /// Open client connections. At the limit new ones wait unaccepted, those that are open are
        /// not touched. Above what the process may open in descriptors it protects nothing.
        max_connections: usize = 50_000, in 1 => 10_000_000;
        /// Time to send a request's headers. Too short cuts off slow phones, too long lets idle
        /// connections pile up (slow-loris).
        header_timeout: Span = Span::from_secs(10), in Span::from_secs(1) => Span::from_secs(300);
        /// Time to send a request's body; long-polling posts too.
        body_timeout: Span = Span::from_secs(30), in Span::from_secs(1) => Span::from_secs(600);
        /// How long a connection may wait between requests. Shorter than a balancer's own timeout
        /// makes the balancer see resets.
        idle_timeout: Span = Span::from_secs(75), in Span::from_secs(1) => Span::from_secs(3600);
        /// Size of a request's line and headers together. Too small refuses large cookies.
        max_header_bytes: ByteSize = ByteSize::new(16 << 10),
            in ByteSize::new(8 << 10) => ByteSize::new(1 << 20);
        /// Size of a REST request's body. Each request in flight can hold this much memory.
        max_body: ByteSize = ByteSize::new(1 << 20),
            in ByteSize::new(1 << 10) => ByteSize::new(64 << 20);
        /// Whether each connection must begin with a PROXY protocol header, version 1 or 2. Turn it
        /// on only behind a balancer that sends one: anybody else could claim any address.
        proxy_protocol: bool = false;
        /// Addresses whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Empty: nobody's.
        /// Too wide and a client can claim any address.
        trusted_proxies: Vec<IpNet> = Vec::new();
        /// Origins of other websites whose pages may connect, like `https://app.example.com`; "*"
        /// allows all. The node's own origin and clients that send none are always allowed.
        origins: Vec<Origin> = Vec::new();
        /// Whether HTTP/2 is offered (WebSockets use HTTP/1.1 in any case).
        http2: bool = true;
    }
    contains { tls: Tls }
}

section! {
    /// TLS for the client listener: both files set, or neither.
    Tls = "edge.tls" {
        /// PEM file with the certificate chain, the node's own certificate first. Empty: no TLS.
        certificate: Option<PathBuf> = None;
        /// PEM file with the private key.
        key: Option<PathBuf> = None;
        /// How often the files are looked at; new ones are used for new connections. A pair that
        /// does not fit is refused and the old one stays.
        reload_interval: Span = Span::from_secs(30),
            in Span::from_secs(1) => Span::from_secs(86_400);
        /// Time for the TLS handshake.
        handshake_timeout: Span = Span::from_secs(10),
            in Span::from_secs(1) => Span::from_secs(120);
    }
}

/// An origin whose pages may connect: `*`, or scheme, host and port as browsers send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// True for `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// The text, in lower case, as it stands in an `Origin` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads `*` or an origin as browsers send it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Some(Self(text));
        }
        let uri: http::Uri = text.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
        // Browsers send no path, no user, and no port that is the scheme's own.
        let is_whole = text == format!("{scheme}://{authority}") && !authority.contains('@');
        let own_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        (is_whole && !authority.ends_with(own_port)).then_some(Self(text))
    }
}

impl Value for Origin {
    fn allowed() -> String {
        "\"*\" or an origin like \"https://app.example.com\" without a path".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        value
            .as_str()
            .and_then(Self::parse)
            .ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::String(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "*",
            "https://app.example.com",
            "http://localhost:3000",
            "https://[::1]:8443",
        ] {
            assert_eq!(Origin::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(
            Origin::parse("HTTPS://App.Example.com").unwrap().as_str(),
            "https://app.example.com"
        );
        for bad in [
            "",
            "app.example.com",
            "https://app.example.com/",
            "https://a/b",
            "https://u@a",
            "ftp://a",
            "https://a:443",
            "http://a:80",
            "https://",
            "null",
            "https://*.example.com/x",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }
}
