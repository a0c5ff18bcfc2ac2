//! Idempotency keys: a POST that is sent again under its key gets the answer it had.
//!
//! `Idempotency-Key` (any text of the client's, 1 to 255 visible ASCII characters) belongs to the
//! user who sends it, for 24 hours. The same request gets the same answer, marked
//! `Idempotent-Replayed: true`; another request under the key, or the same one while the first is
//! still being answered, is a conflict. Only what succeeded is kept: a refusal did nothing, so the
//! key stays free for a better try.
//!
//! Not here: sign-up and login, which have no user yet and fail a second time by themselves.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::{Answer, Api, problem, request};
use crate::store::Reply;
use crate::types::{Code, Problem, Timestamp, UserId};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const KEY_BYTES_MAX: usize = 255;
/// A larger answer is not kept. Those to POSTs are a few hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A request that has not ended by then never will: its node is gone.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// When to ask again for an answer that is being made.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Routes that have no user yet, or end the session that asks.
const WITHOUT: [&str; 4] = [
    "/api/signup",
    "/api/login",
    "/api/logout",
    "/api/development/token",
];

/// A request that began under a key.
struct Begun {
    user: UserId,
    key: String,
    hash: String,
}

impl Api {
    /// Answers a request, or gives the answer that it had before.
    pub(super) async fn once(
        &self,
        mut request: Request<Incoming>,
        client: IpAddr,
        path: &[&str],
    ) -> Answer {
        match self.begin(&mut request).await? {
            None => self.answer(request, client, path).await,
            Some(Ok(begun)) => {
                let answer = self.answer(request, client, path).await;
                self.end(begun, answer).await
            }
            Some(Err(reply)) => Ok(replay(reply)),
        }
    }

    /// `None` for a request without a key; else the beginning, or the answer that is known.
    async fn begin(
        &self,
        request: &mut Request<Incoming>,
    ) -> Result<Option<Result<Begun, Reply>>, Problem> {
        let path = request.uri().path().trim_end_matches('/');
        if request.method() != Method::POST || WITHOUT.contains(&path) {
            return Ok(None);
        }
        let Some(key) = key(request.headers())? else {
            return Ok(None);
        };
        let user = self.identity(request.headers()).await?.user().clone();
        let body = request::collect(request, (self.body_max, self.body_within)).await?;
        let hash = hash(request, &body);
        let now = SystemTime::now();
        let stale = Timestamp::from(now - STALE_AFTER);
        let store = &self.context.store;
        let known = store
            .begin_reply(&user, &key, &hash, now.into(), stale)
            .await?;
        match known {
            None => Ok(Some(Ok(Begun { user, key, hash }))),
            Some(known) => judge(known, &hash).map(|reply| Some(Err(reply))),
        }
    }

    /// Keeps the answer for the next time.
    async fn end(&self, begun: Begun, answer: Answer) -> Answer {
        let Begun { user, key, hash } = begun;
        let store = &self.context.store;
        let answer = match answer {
            Ok(response) => Ok(taken_apart(response).await),
            Err(problem) => Err(problem),
        };
        let kept = match &answer {
            Ok((response, body)) if is_kept(response.status(), body) => {
                let reply = Reply {
                    request: hash,
                    status: response.status().as_u16(),
                    body: String::from_utf8_lossy(body).into_owned(),
                };
                store.end_reply(&user, &key, &reply).await
            }
            _ => store.abandon_reply(&user, &key).await,
        };
        if let Err(error) = kept {
            // The request was done; only its retry will wait, or do it again.
            tracing::warn!(%error, "the answer under an idempotency key could not be kept");
        }
        answer.map(|(response, body)| response.map(|()| Full::new(body)))
    }
}

/// The key of a request.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(&KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| {
        (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    });
    match (text, values.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => Err(Problem::field(
            "Idempotency-Key",
            format!("give one Idempotency-Key of 1 to {KEY_BYTES_MAX} visible ASCII characters"),
        )),
    }
}

/// What makes two requests the same.
fn hash(request: &Request<Incoming>, body: &[u8]) -> String {
    let uri = request.uri();
    let parts = [
        request.method().as_str().as_bytes(),
        uri.path().as_bytes(),
        uri.query().unwrap_or_default().as_bytes(),
        body,
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    URL_SAFE_NO_PAD.encode(digest)
}

/// The answer that is known, if it is one to this request.
fn judge(known: Reply, hash: &str) -> Result<Reply, Problem> {
    if known.request != hash {
        return Err(Problem::new(
            Code::Conflict,
            "this Idempotency-Key was used for another request; choose a new one",
        ));
    }
    if known.status == 0 {
        let message = "the first request under this Idempotency-Key is still being answered";
        return Err(Problem::new(Code::Conflict, message).retry_after(RETRY_AFTER));
    }
    Ok(known)
}

fn is_kept(status: StatusCode, body: &Bytes) -> bool {
    status.is_success() && body.len() <= BODY_BYTES_MAX
}

async fn taken_apart(response: Response<Full<Bytes>>) -> (Response<()>, Bytes) {
    let (head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    (Response::from_parts(head, ()), body)
}

fn replay(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = problem::text(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (KEY, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_one_visible_text() {
        assert_eq!(key(&headers(&[])).unwrap(), None);
        assert_eq!(key(&headers(&["a-1"])).unwrap().as_deref(), Some("a-1"));
        let long = "x".repeat(256);
        for bad in [&["a", "b"][..], &[""], &["a b"], &[&long]] {
            let problem = key(&headers(bad)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("Idempotency-Key"), "{bad:?}");
        }
    }

    #[test]
    fn only_the_same_request_gets_the_answer_that_is_known() {
        let reply = |status| Reply {
            request: "h".to_owned(),
            status,
            body: "{}".to_owned(),
        };
        assert_eq!(judge(reply(201), "h").unwrap().status, 201);
        let other = judge(reply(201), "i").unwrap_err();
        assert_eq!((other.code, other.retry_after), (Code::Conflict, None));
        let early = judge(reply(0), "h").unwrap_err();
        assert_eq!(
            (early.code, early.retry_after),
            (Code::Conflict, Some(RETRY_AFTER))
        );
    }

    #[test]
    fn refusals_and_large_answers_are_not_kept() {
        let small = Bytes::from_static(b"{}");
        assert!(is_kept(StatusCode::CREATED, &small));
        assert!(!is_kept(StatusCode::CONFLICT, &small));
        assert!(!is_kept(StatusCode::SERVICE_UNAVAILABLE, &small));
        assert!(!is_kept(
            StatusCode::OK,
            &Bytes::from(vec![b' '; BODY_BYTES_MAX + 1])
        ));
    }

    #[tokio::test]
    async fn a_replay_says_so() {
        let response = replay(Reply {
            request: String::new(),
            status: 201,
            body: "{\"id\":1}".to_owned(),
        });
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[REPLAYED], "true");
        let (_, body) = taken_apart(response).await;
        assert_eq!(body, "{\"id\":1}");
    }
}
