//! The nouns everything else is written in: ids, positions, units, reasons.
//!
//! Values are parsed once, at the boundary; a `RoomName` that exists is valid. Knows only std, serde
//! and bytes. No clock, no randomness: time and ids come in as arguments.

mod close;
mod error;
mod ids;
mod position;
mod rate;
mod secret;
mod time;
mod units;

pub use close::CloseReason;
pub use error::{Code, Kind, Problem};
pub use ids::{ConversationId, EventId, IdError, NodeId, PrivateId, RoomName};
pub use ids::{SessionId, SocketId, UserId};
pub use position::{Epoch, Position, PositionError, Seq, ShardId, ShardPosition, ShardSeq};
pub use rate::{Rate, RateError};
pub use secret::Secret;
pub use time::{Timestamp, TimestampError};
pub use units::{ByteSize, Span, UnitError};
