//! Why a socket or its transport ended: one table of text, reconnect advice and metric label.

use std::fmt;

/// Why a connection, session or socket was closed.
///
/// The texts are those Socket.IO gives its applications, so that ported code keeps working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client left the namespace (packet DISCONNECT).
    ClientNamespaceDisconnect,
    /// The server took the socket out of the namespace; stock clients do not reconnect.
    ServerNamespaceDisconnect,
    /// The server closed the whole connection (`disconnect(true)`).
    ForcedServerClose,
    /// The node is draining; clients reconnect elsewhere.
    ServerShuttingDown,
    /// Another node has fewer clients; clients reconnect, to whichever node the balancer chooses.
    Rebalanced,
    /// No pong came in time.
    PingTimeout,
    /// The peer closed the connection.
    TransportClose,
    /// The connection broke, or broke a transport's rule (an oversized frame, say).
    TransportError,
    /// The peer sent bytes that are no valid packet.
    ParseError,
    /// The peer broke a Socket.IO rule, for example used a namespace it had not joined.
    ForcedClose,
    /// The outbox filled faster than the peer read.
    SlowConsumer,
    /// No namespace was joined in time.
    ConnectTimeout,
    /// Another connection took the session over.
    TakenOver,
    /// The token ended or was revoked.
    SessionRevoked,
    /// Events of one of its rooms could not be completed; the client comes back and resumes or reloads.
    Interrupted,
    /// What a socket needs to enter did not answer; the client comes back by itself.
    Unavailable,
}

impl CloseReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::ClientNamespaceDisconnect,
        Self::ServerNamespaceDisconnect,
        Self::ForcedServerClose,
        Self::ServerShuttingDown,
        Self::Rebalanced,
        Self::PingTimeout,
        Self::TransportClose,
        Self::TransportError,
        Self::ParseError,
        Self::ForcedClose,
        Self::SlowConsumer,
        Self::ConnectTimeout,
        Self::TakenOver,
        Self::SessionRevoked,
        Self::Interrupted,
        Self::Unavailable,
    ];

    /// The text applications see.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::ForcedServerClose => "forced server close",
            Self::ServerShuttingDown => "server shutting down",
            Self::Rebalanced => "rebalanced",
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
            Self::SlowConsumer => "slow consumer",
            Self::ConnectTimeout => "connect timeout",
            Self::TakenOver => "taken over",
            Self::SessionRevoked => "session revoked",
            Self::Interrupted => "interrupted",
            Self::Unavailable => "unavailable",
        }
    }

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientNamespaceDisconnect => "client_namespace_disconnect",
            Self::ServerNamespaceDisconnect => "server_namespace_disconnect",
            Self::ForcedServerClose => "forced_server_close",
            Self::ServerShuttingDown => "server_shutting_down",
            Self::Rebalanced => "rebalanced",
            Self::PingTimeout => "ping_timeout",
            Self::TransportClose => "transport_close",
            Self::TransportError => "transport_error",
            Self::ParseError => "parse_error",
            Self::ForcedClose => "forced_close",
            Self::SlowConsumer => "slow_consumer",
            Self::ConnectTimeout => "connect_timeout",
            Self::TakenOver => "taken_over",
            Self::SessionRevoked => "session_revoked",
            Self::Interrupted => "interrupted",
            Self::Unavailable => "unavailable",
        }
    }

    /// The WebSocket status code sent with the close frame; `None` sends an empty one.
    #[must_use]
    pub const fn websocket_code(self) -> Option<u16> {
        match self {
            Self::ServerShuttingDown | Self::Rebalanced | Self::Interrupted => Some(1012),
            Self::SlowConsumer | Self::Unavailable => Some(1013),
            Self::SessionRevoked => Some(1008),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_texts_in_snake_case() {
        for reason in CloseReason::ALL {
            assert_eq!(reason.label(), reason.text().replace(' ', "_"));
        }
    }
}
