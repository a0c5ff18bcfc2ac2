//! Refusals as HTTP answers: RFC 9457 problem details with our `code`.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::types::{Code, Problem};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The answer for a refusal.
pub(super) fn response(problem: &Problem) -> Response<Full<Bytes>> {
    with_status(problem, problem.code.status())
}

/// The answer to a method that a route does not have.
pub(super) fn method_not_allowed(methods: &[Method]) -> Response<Full<Bytes>> {
    let mut allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) {
        // Answered as GET is, without the body.
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let problem = Problem::new(Code::Invalid, format!("use {allowed} here"));
    let mut response = with_status(&problem, 405);
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// The answer to a body that is not JSON.
pub(super) fn unsupported_media() -> Response<Full<Bytes>> {
    let problem = Problem::new(
        Code::Invalid,
        "send JSON, with content-type application/json",
    );
    with_status(&problem, 415)
}

fn with_status(problem: &Problem, status: u16) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let details = Details {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &problem.message,
        code: problem.code.text(),
        field: problem.field.as_deref(),
        retry_after_ms: problem.retry_after_ms(),
    };
    let mut response = json(&details);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(ms) = problem.retry_after_ms() {
        headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    }
    if problem.code == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A JSON answer that nobody may keep.
pub(super) fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    text(serde_json::to_string(value).unwrap_or_default())
}

/// The same, of a JSON text.
pub(super) fn text(json: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same, for something that was made.
pub(super) fn created(value: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = json(value);
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// The answer when there is nothing to say.
pub(super) fn nothing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_refusal_is_problem_json_with_our_code() {
        let problem = Problem::field("limit", "limit is 0, allowed are 1 to 200")
            .retry_after(std::time::Duration::from_millis(1200));
        let response = response(&problem);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["code"], "invalid");
        assert_eq!(value["field"], "limit");
        assert_eq!(value["retryAfterMs"], 1200);
        let refused = method_not_allowed(&[Method::GET]);
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}
