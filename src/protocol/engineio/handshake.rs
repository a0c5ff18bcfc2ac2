//! The query of a request, what is wrong with it, and the packet that opens a session.
//!
//! Checked in the order of the reference server: transport, then session id, then method, then
//! protocol version; clients' error handling depends on which code wins.

use std::time::Duration;

use percent_encoding::percent_decode_str;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// Its name in queries and metrics.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// Why a request was refused; the integer is what clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 0: missing, unknown or disabled `transport`.
    TransportUnknown,
    /// 1: no such session here.
    SessionUnknown,
    /// 2: a session is opened with GET.
    BadMethod,
    /// 3: anything else that is wrong.
    BadRequest,
    /// 4: refused by a rule of the server.
    Forbidden,
    /// 5: not Engine.IO version 4.
    UnsupportedVersion,
}

impl Refusal {
    /// The code in the body.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The text in the body; the whole body of a refused WebSocket.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::TransportUnknown => "Transport unknown",
            Self::SessionUnknown => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The HTTP status of a refused polling request.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            _ => 400,
        }
    }

    /// The body of a refused polling request.
    #[must_use]
    pub fn body(self) -> String {
        format!(
            r#"{{"code":{},"message":"{}"}}"#,
            self.code(),
            self.message()
        )
    }
}

/// A request's query, as far as this protocol reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The transport it names.
    pub transport: Transport,
    /// The session it belongs to.
    pub session: Option<String>,
    /// True when it speaks version 4.
    pub is_supported: bool,
}

impl Query {
    /// Reads a query string. Parameters that the protocol does not know belong to the application.
    ///
    /// # Errors
    /// [`Refusal::TransportUnknown`] when no enabled transport is named.
    pub fn parse(query: &str, enabled: &[Transport]) -> Result<Self, Refusal> {
        let mut transport = None;
        let mut session = None;
        let mut is_supported = false;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "transport" => transport = Some(value),
                // What is no text is no session's id, but still names one.
                "sid" => session = Some(percent_decode_str(value).decode_utf8_lossy()),
                "EIO" => is_supported = value == "4",
                _ => {}
            }
        }
        let transport = enabled
            .iter()
            .find(|enabled| Some(enabled.text()) == transport);
        Ok(Self {
            transport: *transport.ok_or(Refusal::TransportUnknown)?,
            session: session.filter(|sid| !sid.is_empty()).map(Into::into),
            is_supported,
        })
    }
}

/// What a session is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    /// Time between pings.
    pub ping_interval: Duration,
    /// Time for a pong.
    pub ping_timeout: Duration,
    /// Bytes of one polling body or WebSocket message.
    pub payload_max: usize,
}

/// The text of the packet that opens a session.
#[must_use]
pub fn open_packet(session: &str, can_upgrade: bool, parameters: &Parameters) -> String {
    format!(
        r#"0{{"sid":"{session}","upgrades":[{}],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
        if can_upgrade { r#""websocket""# } else { "" },
        parameters.ping_interval.as_millis(),
        parameters.ping_timeout.as_millis(),
        parameters.payload_max,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: &[Transport] = &[Transport::Polling, Transport::WebSocket];

    #[test]
    fn a_query_names_transport_session_and_version() {
        let query = Query::parse("EIO=4&transport=polling&t=abc&sid=a%2Db&x=1", BOTH).unwrap();
        assert_eq!(query.transport, Transport::Polling);
        assert_eq!(query.session.as_deref(), Some("a-b"));
        assert!(query.is_supported);
        let old = Query::parse("transport=websocket&EIO=3", BOTH).unwrap();
        assert!(!old.is_supported && old.session.is_none());
    }

    #[test]
    fn unknown_and_disabled_transports_are_refused_first() {
        for bad in [
            "",
            "EIO=4",
            "transport=abc",
            "transport=",
            "transport",
            "TRANSPORT=polling",
        ] {
            assert_eq!(
                Query::parse(bad, BOTH),
                Err(Refusal::TransportUnknown),
                "{bad}"
            );
        }
        let only = &[Transport::Polling];
        assert_eq!(
            Query::parse("transport=websocket", only),
            Err(Refusal::TransportUnknown)
        );
    }

    #[test]
    fn the_open_packet_has_exactly_its_five_keys() {
        let parameters = Parameters {
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            payload_max: 1_000_000,
        };
        assert_eq!(
            open_packet("abc", true, &parameters),
            r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#
        );
        assert!(open_packet("abc", false, &parameters).contains(r#""upgrades":[]"#));
    }

    #[test]
    fn refusals_are_numbered_as_clients_know_them() {
        assert_eq!(
            Refusal::SessionUnknown.body(),
            r#"{"code":1,"message":"Session ID unknown"}"#
        );
        assert_eq!(Refusal::Forbidden.status(), 403);
        assert_eq!(Refusal::UnsupportedVersion.code(), 5);
    }

    proptest! {
        #[test]
        fn any_query_never_panics(text in "\\PC{0,80}") {
            drop(Query::parse(&text, BOTH));
        }
    }
}
