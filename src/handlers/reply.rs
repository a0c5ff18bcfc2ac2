//! Problems and answers as acks: `{ok: true, ...}` or `{ok: false, error}`.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::server::{Ack, Event, Json};
use crate::types::Problem;

#[derive(Serialize)]
struct Refusal<'a> {
    ok: bool,
    error: &'a Problem,
}

/// Answers a refused event, when the client waits for an answer.
pub(super) fn refuse(event: Event, problem: &Problem) {
    event.ack(Json(Refusal { ok: false, error: problem }));
}

/// Answers a refused event whose answer was taken out.
pub(super) fn refuse_ack(ack: Option<Ack>, problem: &Problem) {
    if let Some(ack) = ack {
        ack.send(Json(Refusal { ok: false, error: problem }));
    }
}

/// A problem as `connect_error`'s `err.data`.
#[must_use]
pub fn problem_data(problem: &Problem) -> Option<Box<RawValue>> {
    to_raw_value(problem).ok()
}
