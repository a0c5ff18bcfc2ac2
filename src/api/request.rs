//! Reading bodies, paths and query strings, bounded.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::handlers;
use crate::types::{Code, ConversationId, EventId, IdError, Problem, UserId};

/// A body that was read already; the request carries it in its extensions.
#[derive(Clone)]
struct Collected(Bytes);

/// The whole body, at most `max` bytes, within `within`.
pub(super) async fn body(
    mut request: Request<Incoming>,
    bounds: (usize, Duration),
) -> Result<Bytes, Problem> {
    collect(&mut request, bounds).await
}

/// The same, and the request keeps it: [`body`] answers it once more.
pub(super) async fn collect(
    request: &mut Request<Incoming>,
    (max, within): (usize, Duration),
) -> Result<Bytes, Problem> {
    if let Some(Collected(body)) = request.extensions().get() {
        return Ok(body.clone());
    }
    let body = read_all(request.body_mut(), (max, within)).await?;
    request.extensions_mut().insert(Collected(body.clone()));
    Ok(body)
}

async fn read_all(body: &mut Incoming, (max, within): (usize, Duration)) -> Result<Bytes, Problem> {
    let limited = Limited::new(body, max);
    match tokio::time::timeout(within, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::new(
            Code::TooLarge,
            format!("the body is larger than {max} bytes"),
        )),
        Ok(Err(_)) => Err(Problem::new(Code::Invalid, "the body ended early")),
        Err(_) => {
            let message = format!("the body took longer than {} ms", within.as_millis());
            Err(Problem::new(Code::Invalid, message))
        }
    }
}

/// A JSON body as `T`; the problem says where it is wrong.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::new(Code::Invalid, "the body is not UTF-8"))?;
    handlers::read(text).map_err(|error| {
        Problem::new(
            Code::Invalid,
            format!("the body is not as expected: {error}"),
        )
    })
}

/// True for a request with a body that says it is something other than JSON.
pub(super) fn is_other_media(request: &Request<Incoming>) -> bool {
    let may_have_one = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    may_have_one.contains(request.method())
        && !request.body().is_end_stream()
        && !is_json(request.headers())
}

/// Whether the content type is JSON's, or one made of it (RFC 6839). Without one the body decides.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let is_json_suffix = essence.starts_with("application/") && essence.ends_with("+json");
    essence == "application/json" || is_json_suffix
}

/// `limit` of a query string, from 1 to `max`.
pub(super) fn limit(query: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = self::query(query, "limit")? else {
        return Ok(default.min(max));
    };
    let number = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    number.ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Problem::field(
            "limit",
            format!("limit is {shown:?}, allowed are 1 to {max}"),
        )
    })
}

/// Where a list goes on, as a text that clients only give back.
pub(super) fn cursor(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// The cursor of a query string, if there is one.
pub(super) fn place<T: DeserializeOwned>(
    query: Option<&str>,
    name: &str,
) -> Result<Option<T>, Problem> {
    let Some(text) = self::query(query, name)? else {
        return Ok(None);
    };
    let json = URL_SAFE_NO_PAD.decode(text.as_bytes()).ok();
    let place = json.and_then(|json| serde_json::from_slice(&json).ok());
    let unknown = || Problem::field(name, format!("{name} is no cursor of this list"));
    place.map(Some).ok_or_else(unknown)
}

/// A value as JSON text.
pub(super) fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Problem> {
    to_raw_value(value).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// One segment of a path, decoded.
pub(super) fn segment(text: &str, name: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Problem::field(name, format!("{name} is not UTF-8 after percent-decoding")))
}

/// A message's id in a path.
pub(super) fn message_id(text: &str) -> Result<EventId, Problem> {
    id("messageId", text, EventId::parse)
}

/// A conversation's id in a path.
pub(super) fn conversation_id(text: &str) -> Result<ConversationId, Problem> {
    id("conversationId", text, ConversationId::parse)
}

/// A user's id in a path.
pub(super) fn user_id(text: &str) -> Result<UserId, Problem> {
    id("userId", text, UserId::parse)
}

fn id<T>(
    name: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, IdError>,
) -> Result<T, Problem> {
    parse(&segment(text, name)?).map_err(|error| Problem::field(name, error.to_string()))
}

/// One value of a query string, decoded.
pub(super) fn query(text: Option<&str>, name: &str) -> Result<Option<String>, Problem> {
    let pairs = text
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::field(name, format!("{name} is given twice")));
    }
    segment(value, name).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded_once() {
        let text = Some("limit=5&before=1-7&x=%E2%82%AC");
        assert_eq!(query(text, "before").unwrap().as_deref(), Some("1-7"));
        assert_eq!(query(text, "x").unwrap().as_deref(), Some("€"));
        assert_eq!(query(text, "after").unwrap(), None);
        assert_eq!(query(None, "after").unwrap(), None);
        assert!(query(Some("a=1&a=2"), "a").is_err());
        assert!(query(Some("a=%FF"), "a").is_err());
    }

    #[test]
    fn limits_outside_the_range_name_the_range() {
        assert_eq!(limit(None, 50, 20).unwrap(), 20, "max bounds the default");
        assert_eq!(limit(None, 50, 200).unwrap(), 50);
        assert_eq!(limit(Some("limit=200"), 50, 200).unwrap(), 200);
        for bad in ["0", "201", "-1", "many", ""] {
            let problem = limit(Some(&format!("limit={bad}")), 50, 200).unwrap_err();
            assert!(problem.message.contains("1 to 200"), "{bad}");
        }
    }

    #[test]
    fn a_cursor_reads_back_and_anything_else_is_refused() {
        let text = cursor(&(7_i64, "a/b"));
        let query = format!("after={text}");
        let read: Option<(i64, String)> = place(Some(&query), "after").unwrap();
        assert_eq!(read, Some((7, "a/b".to_owned())));
        for bad in [
            "after=",
            "after=1",
            "after=eyJ9",
            "after=bnVsbA",
            "after=%00",
        ] {
            let problem = place::<(i64, String)>(Some(bad), "after").unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("after"), "{bad}");
        }
        assert_eq!(place::<(i64, String)>(None, "after").unwrap(), None);
    }

    #[test]
    fn only_json_is_json() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(is_json(&HeaderMap::new()));
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert!(with(good), "{good}");
        }
        for bad in [
            "text/plain",
            "multipart/form-data; x=json",
            "",
            "text/x+json",
        ] {
            assert!(!with(bad), "{bad}");
        }
    }

    #[test]
    fn ids_in_a_path_are_decoded_once_and_checked() {
        assert_eq!(user_id("a%2Fb").unwrap().as_str(), "a/b");
        for bad in ["", "%FF", "%00"] {
            assert_eq!(user_id(bad).unwrap_err().field.as_deref(), Some("userId"));
        }
    }
}
