//! The PROXY protocol, versions 1 and 2: a proxy in front says who the client is before its first byte.
//!
//! When it is on, every connection must begin with a header; one without is refused, because otherwise
//! anybody who reaches the port could claim an address. The header is bounded in bytes and time. What
//! is taken from the socket is the header exactly: it is peeked at first, so no byte of what follows has
//! to be kept beside the connection.
//!
//! Specification: haproxy.org, "The PROXY protocol versions 1 & 2". TLVs are skipped, checksums are not
//! verified.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::{v1, v2};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const V1_START: &[u8] = b"PROXY ";
/// "107 chars in the worst case", the line's end included.
const V1_MAX: usize = 107;
const V2_START: &[u8] = v2::PROTOCOL_PREFIX;
/// 16 bytes say how many more there are.
const V2_FIXED: usize = 16;
/// Addresses take 216 at most; the rest is for TLVs, of which balancers send some dozens of bytes.
const V2_MAX: usize = 2048;

/// A connection did not begin with a PROXY header that can be used.
#[derive(Debug, Error)]
pub enum Error {
    /// It began with something else.
    #[error("no PROXY header")]
    Missing,
    /// It began like one.
    #[error("malformed PROXY header: {0}")]
    Malformed(String),
    /// It is longer than a header may be.
    #[error("PROXY header is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// It did not come in time.
    #[error("no PROXY header within {0:?}")]
    TimedOut(Duration),
    /// The connection was closed before it was complete.
    #[error("connection closed within the PROXY header")]
    Closed,
    /// The connection broke.
    #[error("connection lost within the PROXY header")]
    Lost(#[from] io::Error),
}

/// Takes the header from a fresh connection and returns the client it names.
///
/// `None` when it names none: the proxy speaks for itself (LOCAL, a health check) or for a client
/// without an IP address. The connection's own peer is the client then.
///
/// # Errors
/// When there is no usable header; the connection is to be closed. Not cancel-safe.
pub async fn read(stream: &mut TcpStream, deadline: Duration) -> Result<Option<SocketAddr>, Error> {
    let header = tokio::time::timeout(deadline, take(stream)).await;
    parse(&header.map_err(|_| Error::TimedOut(deadline))??)
}

/// The header's bytes, taken off the stream.
async fn take(stream: &mut TcpStream) -> Result<Vec<u8>, Error> {
    let mut header = vec![0; V2_MAX];
    let mut taken = 0;
    loop {
        let peeked = stream.peek(&mut header[taken..]).await?;
        if peeked == 0 {
            return Err(Error::Closed);
        }
        // As long as the header is incomplete, all that is there belongs to it. Taking it makes the
        // next peek wait for more instead of seeing the same bytes again.
        let end = extent(&header[..taken + peeked])?;
        let upto = end.unwrap_or(taken + peeked);
        stream.read_exact(&mut header[taken..upto]).await?;
        taken = upto;
        if end.is_some() {
            header.truncate(taken);
            return Ok(header);
        }
    }
}

/// How long the header at the start of these bytes is, when that can be said already.
fn extent(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let starts = |start: &[u8]| {
        let length = bytes.len().min(start.len());
        bytes[..length] == start[..length]
    };
    if starts(V2_START) {
        let Some(fixed) = bytes.get(..V2_FIXED) else {
            return Ok(None);
        };
        let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        if length > V2_MAX {
            return Err(Error::TooLong { limit: V2_MAX });
        }
        return Ok((bytes.len() >= length).then_some(length));
    }
    if !starts(V1_START) {
        return Err(Error::Missing);
    }
    let line = &bytes[..bytes.len().min(V1_MAX)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(at) => Ok(Some(at + 2)),
        None if line.len() == V1_MAX => Err(Error::TooLong { limit: V1_MAX }),
        None => Ok(None),
    }
}

fn parse(header: &[u8]) -> Result<Option<SocketAddr>, Error> {
    if header.starts_with(V2_START) {
        parse_v2(header)
    } else {
        parse_v1(header)
    }
}

fn parse_v1(header: &[u8]) -> Result<Option<SocketAddr>, Error> {
    let parsed = v1::Header::try_from(header).map_err(|e| Error::Malformed(e.to_string()))?;
    Ok(match parsed.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn parse_v2(header: &[u8]) -> Result<Option<SocketAddr>, Error> {
    // A LOCAL header counts whatever its family and addresses are.
    if header.get(12) == Some(&0x20) {
        return Ok(None);
    }
    let parsed = v2::Header::try_from(header).map_err(|e| Error::Malformed(e.to_string()))?;
    Ok(match parsed.addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = V2_START.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        header.extend(payload);
        header
    }

    const IPV4: &[u8] = &[198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// What is read from a connection that sends these chunks, and what is left on it.
    async fn sent(chunks: &[&[u8]]) -> (Result<Option<SocketAddr>, Error>, Vec<u8>) {
        let (mut client, mut server) = pair().await;
        client.set_nodelay(true).unwrap();
        let write = async {
            for chunk in chunks {
                client.write_all(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (result, ()) = tokio::join!(read(&mut server, SOON), write);
        let mut rest = Vec::new();
        if result.is_ok() {
            server.read_to_end(&mut rest).await.unwrap();
        }
        (result, rest)
    }

    #[tokio::test]
    async fn headers_name_the_client_and_leave_the_rest_alone() {
        let ipv6 = [[0x20; 16].as_slice(), &[0; 16], &[0x12, 0x67, 0x01, 0xbb]].concat();
        let tlvs = [IPV4, &[4, 0, 3, 1, 2, 3]].concat();
        let v6 = "[2020:2020:2020:2020:2020:2020:2020:2020]:4711";
        let table: &[(Vec<u8>, Option<&str>)] = &[
            (
                b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(),
                Some("198.51.100.7:4711"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 fd00::1 4711 443\r\n".to_vec(),
                Some("[2001:db8::7]:4711"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, IPV4), Some("198.51.100.7:4711")),
            (v2(0x21, 0x11, &tlvs), Some("198.51.100.7:4711")),
            (v2(0x21, 0x21, &ipv6), Some(v6)),
            (v2(0x21, 0x31, &[b'x'; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, IPV4), None),
            (v2(0x20, 0xff, &[1, 2, 3]), None),
        ];
        for (header, client) in table {
            let client = client.map(|text| text.parse::<SocketAddr>().unwrap());
            let whole = [header, b"GET / HTTP/1.1\r\n\r\n".as_slice()].concat();
            let (result, rest) = sent(&[&whole]).await;
            assert_eq!(result.unwrap(), client, "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n\r\n");
            // Byte by byte it is the same.
            let bytes: Vec<&[u8]> = header.chunks(1).chain([b"rest".as_slice()]).collect();
            let (result, rest) = sent(&bytes).await;
            assert_eq!(result.unwrap(), client, "{header:?}");
            assert_eq!(rest, b"rest");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long_line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        let table: &[(Vec<u8>, &str)] = &[
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no PROXY header"),
            (b"\x16\x03\x01\x02\x00".to_vec(), "no PROXY header"),
            (b"PROXX".to_vec(), "no PROXY header"),
            (
                b"PROXY TCP4 nonsense\r\n".to_vec(),
                "malformed PROXY header: ",
            ),
            (
                b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n".to_vec(),
                "malformed PROXY header: ",
            ),
            (b"PROXY \xff\xfe\r\n".to_vec(), "malformed PROXY header: "),
            (long_line, "PROXY header is longer than 107 bytes"),
            (
                v2(0x21, 0x11, &[0; 4000]),
                "PROXY header is longer than 2048 bytes",
            ),
            (v2(0x21, 0x11, &[1, 2]), "malformed PROXY header: "),
            (v2(0x31, 0x11, IPV4), "malformed PROXY header: "),
            (v2(0x2f, 0x11, IPV4), "malformed PROXY header: "),
            (
                v2(0x21, 0x11, IPV4)[..20].to_vec(),
                "connection closed within the PROXY header",
            ),
            (
                b"PROXY".to_vec(),
                "connection closed within the PROXY header",
            ),
            (b"".to_vec(), "connection closed within the PROXY header"),
        ];
        for (bytes, expected) in table {
            let (result, _) = sent(&[bytes]).await;
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{bytes:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_header_that_does_not_come_in_time_is_not_waited_for() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"PROXY ").await.unwrap();
        let deadline = Duration::from_millis(50);
        let result = timeout(SOON, read(&mut server, deadline)).await.unwrap();
        assert!(matches!(result, Err(Error::TimedOut(_))), "{result:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(extent(&bytes));
            drop(parse(&bytes));
            drop(parse(&v2(0x21, 0x11, &bytes)));
            drop(parse(&[V1_START, &bytes].concat()));
        }

        #[test]
        fn almost_headers_never_panic(
            command in any::<u8>(),
            family in any::<u8>(),
            payload in proptest::collection::vec(any::<u8>(), 0..240),
            cut in 0usize..300,
        ) {
            let header = v2(command, family, &payload);
            let cut = &header[..cut.min(header.len())];
            drop(parse(cut));
            if let Ok(Some(length)) = extent(cut) {
                prop_assert!(length <= cut.len());
            }
        }

        #[test]
        fn a_line_never_panics(line in "PROXY (TCP4|TCP6|UNKNOWN)?[ -~]{0,100}\r\n") {
            drop(parse(line.as_bytes()));
        }
    }
}
