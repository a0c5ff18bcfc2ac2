//! `vestibule health`: is a node ready? For scripts and container probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::Failure;
use crate::config::{self, Config, Flags};

/// Which node.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address for health, readiness and metrics [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDR")]
    operations: Option<String>,
    /// Configuration file of the node (TOML) [default: none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The body of `/readyz`.
#[derive(Deserialize)]
struct Status {
    state: String,
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    name: String,
    text: String,
}

/// A node that needs longer is not ready. Container probes wait for 1 to 5 s.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Reasons are few and short.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Asks the node; the text says that it is ready, and what troubles it all the same.
pub(super) async fn run(args: Args) -> Result<String, Failure> {
    let flags = Flags {
        config: args.config,
        operations: args.operations,
        ..Flags::default()
    };
    let address = reachable(
        Config::load(&flags, &config::environment())?
            .edge
            .operations,
    );
    let answer = tokio::time::timeout(TIMEOUT, Box::pin(ask(address)));
    let (status, body) = answer
        .await
        .with_context(|| format!("{address} did not answer in {TIMEOUT:?}"))?
        .with_context(|| format!("cannot ask {address}"))?;
    let told = told(&body);
    if status == StatusCode::OK {
        return Ok(format!("{told}\n"));
    }
    Err(anyhow::anyhow!("{address} is not ready ({}): {told}", status.as_u16()).into())
}

/// Where to reach a listener on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await;
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) => bail!("its answer broke off: {error}"),
        }
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may be over before the answer has been read to its end.
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// The state and its reasons in one line each; what is no such thing is shown as it is.
fn told(body: &[u8]) -> String {
    match serde_json::from_slice::<Status>(body) {
        Ok(Status { state, reasons }) => reasons.iter().fold(state, |text, reason| {
            format!("{text}\n  {}: {}", reason.name, reason.text)
        }),
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(256).collect();
            text.trim().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_one_by_one() {
        let body = br#"{"state":"broken","reasons":[
            {"name":"log","scope":"node","text":"disk full"},
            {"name":"keys","scope":"shared","text":"no answer"}]}"#;
        assert_eq!(told(body), "broken\n  log: disk full\n  keys: no answer");
        assert_eq!(told(br#"{"state":"ready","reasons":[]}"#), "ready");
        assert_eq!(told(b"Bad Gateway\n"), "Bad Gateway");
        assert_eq!(told(&[0xff; 9_000]).chars().count(), 256);
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_this_machine() {
        for (address, expected) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:8081", "10.0.0.7:8081"),
        ] {
            assert_eq!(
                reachable(address.parse().unwrap()),
                expected.parse().unwrap()
            );
        }
    }
}
