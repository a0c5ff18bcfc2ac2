//! How many events one socket may send, of whatever kind.
//!
//! Counted on the socket alone, without a lock, before anything else is done with an event. More are
//! refused, not cut off; a client that floods all the same is not read while its refusals wait.

use super::{Session, now, reply};
use crate::limits::{Meter, Rule};
use crate::server::{Event, Socket};

/// The event, unless the socket has sent too many; then it is answered.
pub(super) fn admit(rule: Rule, socket: &Socket, event: Event) -> Option<Event> {
    let Some(session) = socket.data::<Session>() else {
        return Some(event);
    };
    let mut meter = session.meter.get().unwrap_or_else(|| Meter::new(rule));
    let decision = meter.take(now());
    session.meter.set(Some(meter));
    match decision.check("events_per_socket") {
        Ok(()) => Some(event),
        Err(problem) => {
            reply::refuse(event, &problem);
            None
        }
    }
}
