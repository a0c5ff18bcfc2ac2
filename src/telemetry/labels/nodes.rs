//! Labels of what happens between nodes.

use super::Label;

label! {
    /// Why a request on the internal listener was not believed.
    Unsealed = "reason" {
        /// It carries no seal.
        Missing = "missing",
        /// Its seal cannot be read.
        Malformed = "malformed",
        /// Its seal was made with another secret, for another node or for another request.
        Wrong = "wrong",
        /// Its seal is too old, or the clocks differ.
        Late = "late",
        /// Its seal was used before.
        Replayed = "replayed",
        /// Its body is not the one that was sealed.
        Body = "body",
    }
}

label! {
    /// What a request to another node came to.
    Hop = "outcome" {
        /// It was answered.
        Answered = "answered",
        /// The node cannot be reached.
        Unreachable = "unreachable",
        /// As many requests are open as may be.
        Busy = "busy",
        /// It did not answer in time.
        Late = "late",
        /// It broke off, or answered what cannot be used.
        Broken = "broken",
    }
}

label! {
    /// What a message of an emitter is.
    Emitted = "kind" {
        /// An event for rooms.
        Event = "event",
        /// Sockets are to join rooms.
        Join = "join",
        /// Sockets are to leave rooms.
        Leave = "leave",
        /// Sockets are to go.
        Disconnect = "disconnect",
        /// Something that nodes of another kind ask each other.
        Ignored = "ignored",
        /// It cannot be read, or is too large.
        Malformed = "malformed",
        /// It came faster than it could be handed on.
        Dropped = "dropped",
    }
}
