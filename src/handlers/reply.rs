//! Problems and answers as acks: `{ok: true, ...}` or `{ok: false, error}`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::misfit::misfit;
use crate::server::{Ack, Event, Json};
use crate::telemetry::metrics;
use crate::types::{Code, Problem};

#[derive(Serialize)]
struct Refusal<'a> {
    ok: bool,
    error: &'a Problem,
}

/// An event's one JSON argument.
pub(super) fn payload(event: &Event) -> Result<Box<RawValue>, Problem> {
    if event.has_attachments() {
        let message = format!("{} takes JSON only, no binary attachments", event.name());
        return Err(Problem::new(Code::Invalid, message));
    }
    event
        .raw(0)
        .ok_or_else(|| Problem::new(Code::Invalid, "the payload is missing"))
}

/// An event's argument as an object of this shape.
pub(super) fn object<T: DeserializeOwned>(event: &Event) -> Result<T, Problem> {
    let data = payload(event)?;
    read(data.get())
}

/// Reads a JSON object. Sequences are refused although a struct could be read from one.
///
/// # Errors
/// What is wrong and in which member, for the one who sent it.
pub fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    if !text.trim_start().starts_with('{') {
        return Err(Problem::new(Code::Invalid, "expected a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| misfit(text, &error))
}

/// Answers a refused event, when the client waits for an answer.
pub(super) fn refuse(event: Event, problem: &Problem) {
    metrics::EVENT_ERRORS.of(problem.code).add(1);
    event.ack(Json(Refusal {
        ok: false,
        error: problem,
    }));
}

/// Answers a refused event whose answer was taken out.
pub(super) fn refuse_ack(ack: Option<Ack>, problem: &Problem) {
    metrics::EVENT_ERRORS.of(problem.code).add(1);
    if let Some(ack) = ack {
        ack.send(Json(Refusal {
            ok: false,
            error: problem,
        }));
    }
}

/// A problem as `connect_error`'s `err.data`.
#[must_use]
pub fn problem_data(problem: &Problem) -> Option<Box<RawValue>> {
    to_raw_value(problem).ok()
}
