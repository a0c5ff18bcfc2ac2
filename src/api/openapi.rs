//! REST: the description of all this.
//!
//! One document, written by hand and compiled in. What it says of paths and methods is held to the
//! table of [`routes`](super::routes) by a test there, and what it says of answers by clients made
//! from it.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::{Answer, Api};

/// OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

/// Differs between documents.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = Sha256::digest(DOCUMENT);
    let hexadecimal: String = digest[..12].iter().map(|b| format!("{b:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hexadecimal}\"")).expect("hexadecimal and quotes are ASCII")
});

impl Api {
    #[expect(clippy::unused_async, reason = "the same form as every other path")]
    pub(super) async fn openapi(&self, request: Request<Incoming>) -> Answer {
        Ok(document(request.headers().get(IF_NONE_MATCH)))
    }
}

/// The document, or that the one that is known has not changed.
fn document(known: Option<&HeaderValue>) -> Response<Full<Bytes>> {
    let is_known = known
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| {
            let mut tags = tags
                .split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"));
            tags.any(|tag| tag == "*" || tag.as_bytes() == TAG.as_bytes())
        });
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(ETAG, TAG.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Full::new(Bytes::from_static(DOCUMENT.as_bytes()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_the_document_is_not_sent_it_again() {
        let first = document(None);
        assert_eq!(
            (first.status(), &first.headers()[CONTENT_TYPE]),
            (
                StatusCode::OK,
                &HeaderValue::from_static("application/json")
            )
        );
        let tag = first.headers()[ETAG].clone();
        assert_eq!(document(Some(&tag)).status(), StatusCode::NOT_MODIFIED);
        let weak = HeaderValue::from_str(&format!("\"x\", W/{}", tag.to_str().unwrap())).unwrap();
        assert_eq!(document(Some(&weak)).status(), StatusCode::NOT_MODIFIED);
        let other = HeaderValue::from_static("\"x\"");
        assert_eq!(document(Some(&other)).status(), StatusCode::OK);
    }

    #[test]
    fn the_document_is_of_this_version_and_names_the_codes() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let known = crate::types::Code::ALL.map(crate::types::Code::text);
        assert_eq!(codes, &serde_json::json!(known));
    }
}
