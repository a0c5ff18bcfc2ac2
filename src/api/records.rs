//! `/api/records/{kind}/{id}`: records of the kinds that the catalogue's rows make.
//!
//! What is written here replaces the record whole and is held against the schema of the first row
//! that makes such records. `ETag` is the version; with `If-Match` a write is made only over that
//! version, with `If-None-Match: *` only where there is no record.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::value::RawValue;

use super::events::require;
use super::{Answer, Api, problem, request};
use crate::auth::Identity;
use crate::delivery::effects;
use crate::events::{Catalogue, Effect, Envelope, Row, Template, random_id, validate};
use crate::store::{Expected, Record};
use crate::types::{Code, Problem, Timestamp};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    kind: &'a str,
    id: &'a str,
    data: &'a RawValue,
    /// As text: it is larger than the numbers that JavaScript can hold.
    version: String,
    updated_at: Timestamp,
    /// True when the store did not answer and this may be old.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// What the catalogue says about a kind.
struct Kind {
    name: Arc<str>,
    row: Arc<Row>,
    id: Template,
    ttl: Option<Duration>,
}

/// A record that is asked for.
struct Wanted {
    kind: Kind,
    id: String,
}

/// Scope of tokens that may read records.
const READ: &str = "records:read";
/// Scope of tokens that may write records.
const WRITE: &str = "records:write";
const ID_BYTES_MAX: usize = 128;
/// A write that finds a later version was overtaken; without a precondition it is made anew.
const TRIES: usize = 5;

impl Api {
    pub(super) async fn record(&self, request: Request<Incoming>, kind: &str, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let is_read = request.method() == Method::GET;
        require(&identity, if is_read { READ } else { WRITE })?;
        let kind = self.kind(&request::segment(kind, "kind")?)?;
        let wanted = Wanted {
            kind,
            id: record_id(request::segment(id, "id")?)?,
        };
        match *request.method() {
            Method::GET => self.show_record(&wanted).await,
            Method::PUT => self.put_record(request, &wanted, &identity).await,
            _ => self.delete_record(request.headers(), &wanted).await,
        }
    }

    async fn show_record(&self, wanted: &Wanted) -> Answer {
        let Wanted { kind, id } = wanted;
        let directory = &self.context.directory;
        let found = directory.record_for(&kind.name, id, kind.ttl).await?;
        match found.value {
            Some(record) => Ok(shown(&record, found.is_stale)),
            None => Err(missing(wanted)),
        }
    }

    async fn put_record(
        &self,
        request: Request<Incoming>,
        wanted: &Wanted,
        by: &Identity,
    ) -> Answer {
        let expected = expected(request.headers())?;
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let data: Box<RawValue> = request::json(&body)?;
        wanted.check(data.clone(), by)?;
        let (store, kind) = (&self.context.store, &wanted.kind.name);
        for _ in 0..TRIES {
            let current = store.record(kind, &wanted.id).await?;
            let at = Timestamp::from(SystemTime::now());
            let record = Record {
                kind: kind.to_string(),
                id: wanted.id.clone(),
                data: data.clone(),
                version: later(current.as_ref(), at),
                updated_at: at,
            };
            let is_written = match expected {
                None => store.put_record(&record).await?,
                Some(expected) => store.put_record_if(&record, expected).await?,
            };
            if is_written {
                self.context.directory.record_changed(kind, &wanted.id);
                let mut response = shown(&record, false);
                if current.is_none() {
                    *response.status_mut() = StatusCode::CREATED;
                }
                return Ok(response);
            }
            if expected.is_some_and(|expected| !expected.fits(current.as_ref())) {
                return Err(overtaken(wanted));
            }
            // The version of a deletion, or of an event of this moment, was higher.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(overtaken(wanted).retry_after(Duration::from_secs(1)))
    }

    async fn delete_record(&self, headers: &HeaderMap, wanted: &Wanted) -> Answer {
        let expected = expected(headers)?;
        let (store, kind) = (&self.context.store, &wanted.kind.name);
        for _ in 0..TRIES {
            let current = store.record(kind, &wanted.id).await?;
            let Some(current) = current else {
                return match expected {
                    Some(Expected::Version(_)) => Err(overtaken(wanted)),
                    _ => Err(missing(wanted)),
                };
            };
            if expected.is_some_and(|expected| !expected.fits(Some(&current))) {
                return Err(overtaken(wanted));
            }
            let at = Timestamp::from(SystemTime::now());
            let version = later(Some(&current), at);
            // What was looked at is what is deleted; if it is another by now, look again.
            let is_deleted = store.delete_record_if(&current, version, at).await?;
            if is_deleted {
                self.context.directory.record_changed(kind, &wanted.id);
                return Ok(problem::nothing());
            }
        }
        Err(overtaken(wanted).retry_after(Duration::from_secs(1)))
    }

    fn kind(&self, name: &str) -> Result<Kind, Problem> {
        let kind = kind(&self.context.vocabulary.current(), name);
        kind.ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            Problem {
                code: Code::NotFound,
                ..Problem::field("kind", format!("there are no records of kind {shown:?}"))
            }
        })
    }
}

impl Wanted {
    /// Whether the data may be such a record.
    fn check(&self, data: Box<RawValue>, by: &Identity) -> Result<(), Problem> {
        validate(&self.kind.row, &data)?;
        let as_event = Envelope {
            id: random_id([0; 16]),
            kind: self.kind.row.kind.to_string(),
            user_id: by.user().clone(),
            conversation_id: None,
            timestamp: Timestamp::default(),
            data,
        };
        match self.kind.id.fill(&as_event) {
            Ok(id) if id != self.id => {
                let message = format!("the data is that of record {id:?}, not of {:?}", self.id);
                Err(Problem::field("id", message))
            }
            // An id that is not of the data alone cannot be told from here.
            _ => Ok(()),
        }
    }
}

fn kind(catalogue: &Catalogue, name: &str) -> Option<Kind> {
    catalogue.rows().iter().find_map(|row| {
        row.effects.iter().find_map(|effect| match effect {
            Effect::Upsert { kind, id, ttl } if &**kind == name => Some(Kind {
                name: Arc::clone(kind),
                row: Arc::clone(row),
                id: id.clone(),
                ttl: *ttl,
            }),
            _ => None,
        })
    })
}

/// A version above the current one, and above those of all events until now.
fn later(current: Option<&Record>, at: Timestamp) -> i64 {
    let now = effects::version(at, 0);
    current.map_or(now, |current| now.max(current.version + 1))
}

fn shown(record: &Record, is_stale: bool) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let mut response = problem::json(&Shown {
        kind: &record.kind,
        id: &record.id,
        data: &record.data,
        version: record.version.to_string(),
        updated_at: record.updated_at,
        stale: is_stale,
    });
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", record.version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// What the request wants to find there, if it says so.
fn expected(headers: &HeaderMap) -> Result<Option<Expected>, Problem> {
    let value = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("").trim())
    };
    match (value(IF_MATCH), value(IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(Expected::Nothing)),
        (Some(tag), None) => {
            let version = tag.trim_matches('"').parse();
            version
                .map(|version| Some(Expected::Version(version)))
                .map_err(|_| {
                    Problem::field("If-Match", "If-Match must be one ETag that this record had")
                })
        }
        _ => Err(Problem::field(
            "If-None-Match",
            "only If-None-Match: * is known here",
        )),
    }
}

fn record_id(id: String) -> Result<String, Problem> {
    let is_fit = (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control);
    if is_fit {
        return Ok(id);
    }
    let message = format!("id must be 1 to {ID_BYTES_MAX} bytes without control characters");
    Err(Problem::field("id", message))
}

fn missing(wanted: &Wanted) -> Problem {
    let message = format!(
        "there is no record {:?} of kind {:?}",
        wanted.id, wanted.kind.name
    );
    Problem::new(Code::NotFound, message)
}

fn overtaken(wanted: &Wanted) -> Problem {
    let message = format!(
        "record {:?} is at another version by now; read it again",
        wanted.id
    );
    Problem::new(Code::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precondition_is_an_etag_or_that_there_is_nothing() {
        let of = |pairs: &[(HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name, value.parse().unwrap());
            }
            expected(&headers)
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(
            of(&[(IF_MATCH, "\"7\"")]).unwrap(),
            Some(Expected::Version(7))
        );
        assert_eq!(
            of(&[(IF_NONE_MATCH, "*")]).unwrap(),
            Some(Expected::Nothing)
        );
        for bad in [
            &[(IF_MATCH, "\"x\"")][..],
            &[(IF_MATCH, "*")],
            &[(IF_NONE_MATCH, "\"7\"")],
            &[(IF_MATCH, "\"7\""), (IF_NONE_MATCH, "*")],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
