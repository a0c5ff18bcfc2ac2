//! One GET of a small document: https, or http on a loopback address, bounded in time and size.
//!
//! Each fetch has a connection of its own: they are minutes apart. Redirects are not followed,
//! since they would lead to an address that nobody configured. Certificates must be from a public
//! CA.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Why a document was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("no answer")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer other than 200.
    #[error("the answer is {0}, expected 200")]
    Status(StatusCode),
    /// The document is larger than the limit.
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The document broke off.
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The time is over.
    #[error("no complete answer in {0:?}")]
    Timeout(Duration),
}

/// A set of 64 keys of 4,096 bits with certificates is smaller.
const BODY_BYTES_MAX: usize = 512 << 10;

/// Fetches a document. Cancel-safe.
pub(super) async fn get(uri: Uri, timeout: Duration) -> Result<Bytes, FetchError> {
    tokio::time::timeout(timeout, Box::pin(get_in_any_time(uri)))
        .await
        .unwrap_or(Err(FetchError::Timeout(timeout)))
}

async fn get_in_any_time(uri: Uri) -> Result<Bytes, FetchError> {
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector);
    let request = Request::get(uri)
        .header(
            http::header::ACCEPT,
            "application/jwk-set+json, application/json",
        )
        .body(Empty::<Bytes>::new())
        .expect("the URI was parsed and the header is a constant");
    let response = client
        .request(request)
        .await
        .map_err(|error| FetchError::Connection(Box::new(error)))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    match Limited::new(response.into_body(), BODY_BYTES_MAX)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(FetchError::Body(error)),
    }
}
