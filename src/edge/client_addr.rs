//! Whose address a request comes from, when proxies stand in between.
//!
//! Headers are believed only from peers in the trusted list, and only as far as every hop that wrote
//! them is trusted: the entries are walked from the right (the nearest hop) to the left, and the first
//! address that is not trusted is the client. An entry that is no address (`unknown`, `_hidden`, noise)
//! ends the walk at the last address that was.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are both understood. A proxy writes one of them and passes
//! the other through, so a client could choose the one that nobody checks; when both are there and do not
//! lead to the same address, neither is believed and the peer is the client.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use thiserror::Error;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies in a row; a longer walk is somebody's attempt to keep us busy.
const HOPS_MAX: usize = 16;

/// A text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an address or network like \"10.0.0.7\", \"10.0.0.0/8\" or \"fd00::/8\"")]
pub struct NetworkError {
    text: String,
}

/// The proxies whose word is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    networks: Box<[IpNet]>,
}

impl Trusted {
    /// Reads addresses and networks in CIDR notation.
    ///
    /// # Errors
    /// Every entry that is neither.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, Vec<NetworkError>> {
        let mut networks = Vec::new();
        let mut errors = Vec::new();
        for entry in entries {
            match network(entry.as_ref().trim()) {
                Some(network) => networks.push(network),
                None => errors.push(NetworkError {
                    text: entry.as_ref().to_owned(),
                }),
            }
        }
        if errors.is_empty() {
            Ok(Self {
                networks: networks.into(),
            })
        } else {
            Err(errors)
        }
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether an address is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The client's address, as far as it can be believed.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        let x_forwarded_for = self.walk(peer, headers, (&X_FORWARDED_FOR, address));
        let forwarded = self.walk(peer, headers, (&FORWARDED, forwarded_for));
        match (x_forwarded_for, forwarded) {
            (Some(one), Some(other)) if one != other => peer,
            (Some(client), _) | (None, Some(client)) => client,
            (None, None) => peer,
        }
    }

    /// From the right as far as trust goes; `None` without such a header.
    fn walk(&self, peer: IpAddr, headers: &HeaderMap, how: How<'_>) -> Option<IpAddr> {
        let (name, read) = how;
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        if lines.is_empty() {
            return None;
        }
        let mut client = peer;
        // A line that is no text is one malformed entry.
        let entries = lines
            .iter()
            .rev()
            .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        for entry in entries.take(HOPS_MAX) {
            if !self.contains(client) {
                break;
            }
            let Some(next) = read(entry.trim()) else {
                break;
            };
            client = next;
        }
        Some(client)
    }
}

/// A header and how one entry of it is read.
type How<'a> = (&'a HeaderName, fn(&str) -> Option<IpAddr>);

fn network(text: &str) -> Option<IpNet> {
    let parsed = text.parse::<IpNet>().ok();
    parsed.or_else(|| {
        text.parse::<IpAddr>()
            .ok()
            .map(|address| address.to_canonical().into())
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let host = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return host
                .parse()
                .ok()
                .filter(|host: &IpAddr| is_port && host.is_ipv6());
        }
        // One colon only is a port's; more are an IPv6 address's.
        None => match text.split_once(':') {
            Some((host, port)) if is_port(port) && !port.contains(':') => host,
            _ => text,
        },
    };
    host.parse().ok().map(|host: IpAddr| host.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// The `for` of one element of a `Forwarded` header.
///
/// Quoted commas would split an element in two; both halves are then malformed, which ends the walk.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            let value = value.trim();
            let unquoted = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            found = Some(address(unquoted.unwrap_or(value))?);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, lines: &[(&str, &str)]) -> String {
        let trusted = Trusted::parse(&["10.0.0.0/8", "fd00::/8", "203.0.113.9"]).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        trusted.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_walked_from_the_right_as_far_as_trust_goes() {
        let table: &[(&str, &[&str], &str)] = &[
            // Nobody to believe: the peer itself is the client.
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // One hop, two hops, all hops trusted.
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["10.1.1.1, 10.0.0.2"], "10.1.1.1"),
            // What the client made up stands left of what the proxy added.
            ("10.0.0.1", &["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                &["10.9.9.9, 198.51.100.7, 203.0.113.9"],
                "198.51.100.7",
            ),
            // Several lines are one list.
            (
                "10.0.0.1",
                &["1.2.3.4", "198.51.100.7", "10.0.0.2"],
                "198.51.100.7",
            ),
            // Malformed entries end the walk.
            ("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
            (
                "10.0.0.1",
                &["198.51.100.7, nonsense, 10.0.0.2"],
                "10.0.0.2",
            ),
            ("10.0.0.1", &["198.51.100.7,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["\u{e9}"], "10.0.0.1"),
            // Ports and IPv6.
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]:443"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]x"], "fd00::1"),
            ("fd00::1", &["[192.0.2.1]"], "fd00::1"),
            ("10.0.0.1", &["198.51.100.7:99999"], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
        ];
        for (peer, lines, expected) in table {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", *line))
                .collect();
            assert_eq!(client(peer, &lines), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_like_rfc_7239_says() {
        let table = [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=198.51.100.7;proto=https;by=10.0.0.1", "198.51.100.7"),
            ("proto=https; for=\"198.51.100.7:4711\"", "198.51.100.7"),
            ("for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            (
                "for=1.2.3.4, for=198.51.100.7, for=10.0.0.2",
                "198.51.100.7",
            ),
            ("for=198.51.100.7, for=unknown", "10.0.0.1"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("for=198.51.100.7, proto=https", "10.0.0.1"),
            ("for=198.51.100.7;for=198.51.100.8", "10.0.0.1"),
            ("for=\"198.51.100.7", "10.0.0.1"),
        ];
        for (value, expected) in table {
            assert_eq!(
                client("10.0.0.1", &[("forwarded", value)]),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_second_header_cannot_be_used_to_lie() {
        let both = |xff, forwarded| {
            client(
                "10.0.0.1",
                &[("x-forwarded-for", xff), ("forwarded", forwarded)],
            )
        };
        assert_eq!(both("198.51.100.7", "for=198.51.100.7"), "198.51.100.7");
        assert_eq!(both("198.51.100.7", "for=1.2.3.4"), "10.0.0.1");
    }

    #[test]
    fn a_very_long_list_is_not_walked_to_its_end() {
        let mut list = "198.51.100.7".to_owned();
        for _ in 0..HOPS_MAX {
            list.push_str(", 10.0.0.3");
        }
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", &list)]),
            "10.0.0.3"
        );
    }

    #[test]
    fn every_wrong_network_is_named() {
        let errors = Trusted::parse(&["10.0.0.0/8", "10.0.0.0/33", "proxy"]).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(
            errors[1]
                .to_string()
                .starts_with("\"proxy\" is not an address")
        );
        assert!(Trusted::default().is_empty());
    }

    proptest! {
        #[test]
        fn any_header_never_panics(text in "[ -~]{0,80}") {
            client("10.0.0.1", &[("x-forwarded-for", &text), ("forwarded", &text)]);
        }
    }
}
