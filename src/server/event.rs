//! An event that arrived, and its answer.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::args::{Args, IntoArgs};
use super::client::Permit;
use super::socket::Socket;
use crate::types::Problem;

/// An event as a handler gets it. The arguments are the client's JSON text, untouched.
pub struct Event {
    name: Box<str>,
    /// The JSON values after the name, separated by commas.
    args: Box<str>,
    attachments: Vec<Bytes>,
    ack: Option<Ack>,
    /// Gives the socket's place in flight back when the event is done.
    _permit: Option<Permit>,
}

impl Event {
    pub(super) fn new(name: &str, args: &str, attachments: Vec<Bytes>, answer: Answer) -> Self {
        let (ack, permit) = match answer {
            Answer::Expected(ack) => (Some(ack), None),
            Answer::None(permit) => (None, Some(permit)),
        };
        Self {
            name: name.into(),
            args: args.into(),
            attachments,
            ack,
            _permit: permit,
        }
    }

    /// The event's name; a numeric one as its digits.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments' JSON text, separated by commas: what [`super::Emitter::emit_raw`] takes.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.args
    }

    /// The arguments as they can be sent on, attachments included.
    #[must_use]
    pub fn to_args(&self) -> Args {
        Args {
            json: self.args.clone().into(),
            attachments: self.attachments.clone(),
        }
    }

    /// True when the event carries binary data.
    #[must_use]
    pub fn has_attachments(&self) -> bool {
        !self.attachments.is_empty()
    }

    /// The argument at this index, as its own text.
    #[must_use]
    pub fn raw(&self, index: usize) -> Option<Box<RawValue>> {
        let array = format!("[{}]", self.args);
        let all: Vec<Box<RawValue>> = serde_json::from_str(&array).ok()?;
        all.into_iter().nth(index)
    }

    /// The argument at this index, read as `T`.
    ///
    /// # Errors
    /// A problem that says which argument is wrong and how.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, Problem> {
        let position = index + 1;
        let raw = self.raw(index).ok_or_else(|| {
            Problem::field(
                format!("argument {position}"),
                format!("argument {position} is missing"),
            )
        })?;
        serde_json::from_str(raw.get()).map_err(|error| {
            Problem::field(
                format!("argument {position}"),
                format!("argument {position}: {error}"),
            )
        })
    }

    /// True when the client waits for an answer.
    #[must_use]
    pub const fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers, when the client waits for it.
    pub fn ack(self, args: impl IntoArgs) {
        if let Some(ack) = self.ack {
            ack.send(args);
        }
    }

    /// Takes the answer out, to be given later; until then the event counts as in flight.
    pub const fn take_ack(&mut self) -> Option<Ack> {
        self.ack.take()
    }
}

/// Whether an event is answered; either way it counts as in flight until it is done.
pub(super) enum Answer {
    Expected(Ack),
    None(Permit),
}

/// The answer to one event. Dropping it answers nothing.
pub struct Ack {
    socket: Socket,
    id: u64,
    _permit: Permit,
}

impl Ack {
    pub(super) const fn new(socket: Socket, id: u64, permit: Permit) -> Self {
        Self {
            socket,
            id,
            _permit: permit,
        }
    }

    /// Answers.
    pub fn send(self, args: impl IntoArgs) {
        self.socket.send_frame(self.frame(args));
    }

    /// The answer as a frame, for a caller who decides when it goes out.
    pub fn frame(&self, args: impl IntoArgs) -> crate::protocol::frame::Frame {
        let Args { json, attachments } = args.into_args();
        crate::protocol::socketio::encode::ack(
            self.socket.namespace(),
            self.id,
            &json,
            &attachments,
        )
    }
}
