//! `[transport]`: Engine.IO and Socket.IO as clients meet them.

use crate::config::section::{choice, section};
use crate::types::{ByteSize, Span};

choice! {
    /// How a session's packets travel.
    TransportKind {
        /// HTTP long-polling.
        Polling = "polling",
        /// WebSocket.
        Websocket = "websocket",
    }
}

section! {
    /// Engine.IO and Socket.IO as clients meet them.
    Transport = "transport" {
        /// The path that clients use; stock clients use "/socket.io/". Begins and ends with "/".
        path: String = "/socket.io/".to_owned();
        /// Time between two pings. Short costs power on phones, long notices dead links late and
        /// loses against proxies that cut idle connections (often after 60 s).
        ping_interval: Span = Span::from_secs(25),
            in Span::from_millis(100) => Span::from_secs(600);
        /// Time for the answer to a ping. A link that died is noticed after both together.
        ping_timeout: Span = Span::from_secs(20), in Span::from_millis(100) => Span::from_secs(600);
        /// Time to finish an upgrade from polling to WebSocket.
        upgrade_timeout: Span = Span::from_secs(10),
            in Span::from_millis(100) => Span::from_secs(120);
        /// Time in which a session must join its first namespace.
        connect_timeout: Span = Span::from_secs(45),
            in Span::from_millis(100) => Span::from_secs(600);
        /// The largest packet or polling body that is accepted; announced as `maxPayload`. A
        /// session can make the node hold this much while it arrives.
        max_payload: ByteSize = ByteSize::new(1_000_000),
            in ByteSize::new(1 << 10) => ByteSize::new(100 << 20);
        /// Binary attachments of one packet. Each costs a little memory before it has arrived.
        max_attachments: usize = 10, in 0 => 1_000;
        /// The transports offered. A single one refuses clients that insist on the other.
        transports: Vec<TransportKind> = vec![TransportKind::Polling, TransportKind::Websocket];
        /// Whether a polling session may move to WebSocket.
        allow_upgrades: bool = true;
        /// Threads that own sockets; 0 means one per core. More than cores only adds switching.
        workers: usize = 0, in 0 => 1_024;
    }
}
