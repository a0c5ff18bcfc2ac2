//! What requests on the Socket.IO path are answered with.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::polling::Answer;
use crate::protocol::engineio::handshake::Refusal;
use crate::telemetry::labels::EngineIoError;
use crate::telemetry::metrics;

pub(super) type Reply = Response<Full<Bytes>>;

pub(super) fn polled(answer: Answer) -> Result<Reply, Refusal> {
    match answer {
        Answer::Packets(body) => Ok(text(body)),
        Answer::Ok => {
            let mut reply = Response::new(Full::from("ok"));
            reply
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Ok(reply)
        }
        Answer::Refused(refusal) => Err(refusal),
        Answer::Bad => Err(Refusal::BadRequest),
    }
}

pub(super) fn text(body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    let headers = reply.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(super) fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

pub(super) fn answer(refusal: Refusal, is_upgrade: bool) -> Reply {
    metrics::ENGINEIO_HANDSHAKE_ERRORS.of(label(refusal)).add(1);
    if is_upgrade {
        refused_upgrade(refusal)
    } else {
        refused(refusal)
    }
}

fn refused(refusal: Refusal) -> Reply {
    let mut reply = Response::new(Full::from(refusal.body()));
    *reply.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn refused_upgrade(refusal: Refusal) -> Reply {
    let mut reply = Response::new(Full::from(refusal.message()));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// Not here and now.
pub(super) fn again_after(seconds: u64) -> Reply {
    let mut reply = status(StatusCode::SERVICE_UNAVAILABLE);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    reply
}

const fn label(refusal: Refusal) -> EngineIoError {
    match refusal {
        Refusal::TransportUnknown => EngineIoError::TransportUnknown,
        Refusal::SessionUnknown => EngineIoError::SessionUnknown,
        Refusal::BadMethod => EngineIoError::BadMethod,
        Refusal::BadRequest => EngineIoError::BadRequest,
        Refusal::Forbidden => EngineIoError::Forbidden,
        Refusal::UnsupportedVersion => EngineIoError::UnsupportedVersion,
    }
}
