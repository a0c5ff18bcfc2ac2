//! The enums that may label a metric: a label value that is not listed cannot be recorded.

use super::family::{LabelInfo, Values};
use crate::types::{CloseReason, Code};

/// An enum whose variants are the values of one label.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`index`](Self::index).
    const VALUES: &'static [&'static str];

    /// Which of the values this is.
    fn index(self) -> usize;

    /// The variant at an index below `VALUES.len()`.
    fn at(index: usize) -> Self;
}

/// The labels of one metric: nothing, one enum, or a tuple of enums.
pub trait Labels: Copy + 'static {
    /// Names and values.
    const INFO: &'static [LabelInfo];
    /// How many combinations there are.
    const COUNT: usize;

    /// Which of the combinations this is.
    fn index(self) -> usize;

    /// The values, in the order of `INFO`.
    fn values(self) -> Vec<&'static str>;

    /// Every combination, of metrics with at most one label.
    fn all() -> Vec<Self>;
}

const fn info<L: Label>() -> LabelInfo {
    LabelInfo {
        name: L::NAME,
        values: Values::Fixed(L::VALUES),
    }
}

impl Labels for () {
    const INFO: &'static [LabelInfo] = &[];
    const COUNT: usize = 1;

    fn index(self) -> usize {
        0
    }

    fn values(self) -> Vec<&'static str> {
        Vec::new()
    }

    fn all() -> Vec<Self> {
        vec![()]
    }
}

impl<L: Label> Labels for L {
    const INFO: &'static [LabelInfo] = &[info::<L>()];
    const COUNT: usize = L::VALUES.len();

    fn index(self) -> usize {
        Label::index(self)
    }

    fn values(self) -> Vec<&'static str> {
        vec![L::VALUES[Label::index(self)]]
    }

    fn all() -> Vec<Self> {
        (0..Self::COUNT).map(L::at).collect()
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    const INFO: &'static [LabelInfo] = &[info::<A>(), info::<B>(), info::<C>()];
    const COUNT: usize = A::VALUES.len() * B::VALUES.len() * C::VALUES.len();

    fn index(self) -> usize {
        (self.0.index() * B::VALUES.len() + self.1.index()) * C::VALUES.len() + self.2.index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![
            A::VALUES[self.0.index()],
            B::VALUES[self.1.index()],
            C::VALUES[self.2.index()],
        ]
    }

    fn all() -> Vec<Self> {
        Vec::new()
    }
}

macro_rules! label {
    (
        $(#[$meta:meta])* $name:ident = $label:literal {
            $( $(#[$doc:meta])* $variant:ident = $value:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$doc])* $variant ),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const VALUES: &'static [&'static str] = &[$( $value ),+];

            fn index(self) -> usize {
                self as usize
            }

            fn at(index: usize) -> Self {
                Self::ALL[index]
            }
        }
    };
}

// After the macro, which they use.
mod nodes;
mod path;

pub use nodes::{Emitted, Hop, Unsealed};
pub use path::{AppendLane, Stage};

label! {
    /// How a session's packets travel.
    Transport = "transport" {
        /// Long-polling over HTTP.
        Polling = "polling",
        /// A WebSocket.
        Websocket = "websocket",
    }
}

label! {
    /// Why a connection was refused before any request was read.
    Refused = "why" {
        /// The PROXY header was missing, malformed, too long or too slow.
        ProxyHeader = "proxy_header",
        /// The peer may not speak for others.
        UntrustedProxy = "untrusted_proxy",
        /// The TLS handshake failed.
        Tls = "tls",
        /// No complete request head came in time.
        HeaderTimeout = "header_timeout",
        /// The node is draining.
        Draining = "draining",
    }
}

label! {
    /// Where a client was not let in.
    NotAdmitted = "at" {
        /// At its handshake.
        Opening = "handshake",
        /// At its CONNECT.
        Connect = "connect",
    }
}

label! {
    /// Why entries of a shard did not reach a worker in one unbroken stream.
    Interruption = "reason" {
        /// The connection to the shard broke and was made again.
        Connection = "connection",
        /// The worker's queue was full.
        SlowWorker = "slow_worker",
    }
}

label! {
    /// How a client came back that named the socket it had before. Its text is the reason that the client is
    /// told.
    Resumed = "outcome" {
        /// It has its socket again, with everything that it missed.
        Recovered = "recovered",
        /// Nothing is kept of that socket: it was away for too long, or it is another user's.
        Unknown = "unknown",
        /// What is kept was written before its shard may have lost writes.
        Untrusted = "untrusted",
        /// It says to have seen what its rooms' shards do not have.
        PositionUnknown = "position_unknown",
        /// It has seen events that were lost with a shard's last writes.
        EpochChanged = "epoch_changed",
        /// What it missed is not kept any more.
        Trimmed = "trimmed",
        /// It missed more than `recovery.events_max`.
        TooMany = "too_many",
        /// What it missed cannot be read right now.
        Unavailable = "unavailable",
        /// It went away again, or came back elsewhere, before it had its socket.
        Abandoned = "abandoned",
    }
}

label! {
    /// How an attempt ended.
    Attempt = "result" {
        /// As wished.
        Ok = "ok",
        /// With an error.
        Failed = "failed",
        /// Not in time.
        TimedOut = "timed_out",
    }
}

label! {
    /// What a request was for.
    Route = "route" {
        /// The Engine.IO path, both transports.
        EngineIo = "engineio",
        /// Reading a room's history.
        History = "history",
        /// Sending a message over REST.
        Messages = "messages",
        /// Sign-up, login, logout, sessions.
        Accounts = "accounts",
        /// Profiles.
        Users = "users",
        /// Conversations and their members.
        Conversations = "conversations",
        /// Notifications.
        Notifications = "notifications",
        /// Connections between users.
        Connections = "connections",
        /// Members of courses and buildings.
        Groups = "groups",
        /// Who is online.
        Presence = "presence",
        /// Records of the operator's kinds.
        Records = "records",
        /// Domain events of other services.
        Events = "events",
        /// Sockets of a room.
        Rooms = "rooms",
        /// The rest of the REST API.
        Api = "api",
        /// The page and its assets.
        Page = "page",
        /// The operations listener.
        Operations = "operations",
        /// Nothing that exists.
        Unknown = "unknown",
    }
}

label! {
    /// A request's method.
    Method = "method" {
        /// GET.
        Get = "get",
        /// HEAD.
        Head = "head",
        /// POST.
        Post = "post",
        /// PUT.
        Put = "put",
        /// PATCH.
        Patch = "patch",
        /// DELETE.
        Delete = "delete",
        /// OPTIONS.
        Options = "options",
        /// Any other.
        Other = "other",
    }
}

impl From<&http::Method> for Method {
    fn from(method: &http::Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

macro_rules! status {
    ($( $variant:ident = $value:literal $code:literal ),+ $(,)?) => {
        label! {
            /// The status of an answer; those we do not send on purpose are `other`.
            Status = "status" {
                $( #[doc = $value] $variant = $value, )+
                /// Any other.
                Other = "other",
            }
        }

        impl From<http::StatusCode> for Status {
            fn from(status: http::StatusCode) -> Self {
                match status.as_u16() {
                    $( $code => Self::$variant, )+
                    _ => Self::Other,
                }
            }
        }
    };
}

status! {
    SwitchingProtocols = "101" 101,
    Ok = "200" 200,
    Created = "201" 201,
    NoContent = "204" 204,
    NotModified = "304" 304,
    BadRequest = "400" 400,
    Unauthorized = "401" 401,
    Forbidden = "403" 403,
    NotFound = "404" 404,
    MethodNotAllowed = "405" 405,
    RequestTimeout = "408" 408,
    Conflict = "409" 409,
    TooLarge = "413" 413,
    UnsupportedMedia = "415" 415,
    TooManyRequests = "429" 429,
    HeaderTooLarge = "431" 431,
    Internal = "500" 500,
    Unavailable = "503" 503,
}

label! {
    /// Why an Engine.IO request was refused; the position is the code on the wire.
    EngineIoError = "code" {
        /// 0: no such transport.
        TransportUnknown = "transport_unknown",
        /// 1: no such session on this node.
        SessionUnknown = "session_unknown",
        /// 2: not a GET.
        BadMethod = "bad_method",
        /// 3: anything else that is wrong with the request.
        BadRequest = "bad_request",
        /// 4: refused by the application.
        Forbidden = "forbidden",
        /// 5: not Engine.IO 4.
        UnsupportedVersion = "unsupported_version",
    }
}

label! {
    /// What a packet is.
    Packet = "kind" {
        /// Engine.IO close.
        Close = "close",
        /// Engine.IO ping.
        Ping = "ping",
        /// Engine.IO pong.
        Pong = "pong",
        /// Engine.IO upgrade.
        Upgrade = "upgrade",
        /// Engine.IO noop.
        Noop = "noop",
        /// Socket.IO CONNECT.
        Connect = "connect",
        /// Socket.IO DISCONNECT.
        Disconnect = "disconnect",
        /// Socket.IO EVENT.
        Event = "event",
        /// Socket.IO ACK.
        Ack = "ack",
        /// Socket.IO BINARY_EVENT.
        BinaryEvent = "binary_event",
        /// Socket.IO BINARY_ACK.
        BinaryAck = "binary_ack",
        /// One binary attachment.
        Attachment = "attachment",
    }
}

label! {
    /// How a login ended.
    LoginOutcome = "outcome" {
        /// The password was right.
        Right = "right",
        /// The address or the password was wrong.
        Wrong = "wrong",
        /// It could not be told: too many at once, or the store does not answer.
        Failed = "failed",
    }
}

label! {
    /// Why a token was not accepted.
    AuthFailure = "reason" {
        /// None was sent.
        Missing = "missing",
        /// It is no token, or not one we can read.
        Malformed = "malformed",
        /// Its signature does not fit.
        Signature = "signature",
        /// Its key is not known.
        UnknownKey = "unknown_key",
        /// Its algorithm is not allowed.
        Algorithm = "algorithm",
        /// It is over.
        Expired = "expired",
        /// It is not valid yet.
        NotYetValid = "not_yet_valid",
        /// Its issuer, audience or subject does not fit.
        Claims = "claims",
        /// It was revoked.
        Revoked = "revoked",
        /// The keys could not be had.
        KeysUnavailable = "keys_unavailable",
    }
}

label! {
    /// What applying a durable event to its room's timeline came to.
    Applied = "outcome" {
        /// It is in the timeline.
        Applied = "applied",
        /// It was there already.
        Duplicate = "duplicate",
        /// An event with its id was there already.
        DuplicateId = "duplicate_id",
        /// Events before it are missing.
        Gap = "gap",
        /// Applied under an epoch that is over.
        Stale = "stale",
        /// The room belongs to another shard by now.
        Moved = "moved",
        /// It could not be applied and was put aside.
        DeadLetter = "dead_letter",
    }
}

/// The labels of a closed set in `types`, which knows nothing of metrics.
const fn texts<const N: usize>(reasons: &[CloseReason; N]) -> [&'static str; N] {
    let mut texts = [""; N];
    let mut at = 0;
    while at < N {
        texts[at] = reasons[at].label();
        at += 1;
    }
    texts
}

impl Label for CloseReason {
    const NAME: &'static str = "reason";
    const VALUES: &'static [&'static str] = &texts(&Self::ALL);

    fn index(self) -> usize {
        self as usize
    }

    fn at(index: usize) -> Self {
        Self::ALL[index]
    }
}

const fn codes<const N: usize>(codes: &[Code; N]) -> [&'static str; N] {
    let mut texts = [""; N];
    let mut at = 0;
    while at < N {
        texts[at] = codes[at].text();
        at += 1;
    }
    texts
}

impl Label for Code {
    const NAME: &'static str = "code";
    const VALUES: &'static [&'static str] = &codes(&Self::ALL);

    fn index(self) -> usize {
        self as usize
    }

    fn at(index: usize) -> Self {
        Self::ALL[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_stands_at_its_index() {
        fn check<L: Label + PartialEq + std::fmt::Debug>() {
            for index in 0..L::VALUES.len() {
                assert_eq!(Label::index(L::at(index)), index);
            }
        }
        check::<CloseReason>();
        check::<Code>();
        check::<Status>();
        check::<Packet>();
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::VALUES[Label::index(reason)], reason.label());
        }
        assert_eq!(EngineIoError::ALL[5], EngineIoError::UnsupportedVersion);
    }

    #[test]
    fn tuples_fill_their_product_without_overlap() {
        let mut seen = std::collections::BTreeSet::new();
        for route in Route::ALL {
            for method in Method::ALL {
                for status in Status::ALL {
                    let labels = (*route, *method, *status);
                    assert!(Labels::index(labels) < <(Route, Method, Status)>::COUNT);
                    assert!(seen.insert(Labels::index(labels)));
                }
            }
        }
        assert_eq!(seen.len(), <(Route, Method, Status)>::COUNT);
    }
}
