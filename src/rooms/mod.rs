//! Who is in which room on this worker, and what each of them still has to be sent.
//!
//! One [`Hub`] for each worker thread owns its members without locks. A broadcast is one command for
//! each worker; the frame is encoded once and its bytes are shared by every outbox. Nothing here
//! knows sockets' transports: an [`Outbox`] is drained by whoever it was told to wake.
//!
//! Not here: the wire (`protocol`), what events mean (`handlers`), other nodes (`cluster`).

mod broadcast;
mod hub;
mod member;
mod outbox;

pub use broadcast::{Broadcast, Reach};
pub use hub::{Counts, Hub, NamespaceId, Room};
pub use member::Member;
pub use outbox::{Hold, Limits, Link, Outbox, Overflow};
