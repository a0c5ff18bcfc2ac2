//! Reading bodies and query strings, bounded.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::handlers;
use crate::types::{Code, Problem};

/// The whole body, at most `max` bytes, within `within`.
pub(super) async fn body(
    request: Request<Incoming>,
    (max, within): (usize, Duration),
) -> Result<Bytes, Problem> {
    let limited = Limited::new(request.into_body(), max);
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
    let decoded = percent_decode_str(value).decode_utf8();
    decoded
        .map(|text| Some(text.into_owned()))
        .map_err(|_| Problem::field(name, format!("{name} is not UTF-8 after percent-decoding")))
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
}
