//! `[cluster]`: what nodes are to each other.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::section::section;
use crate::types::Secret;

section! {
    /// What nodes are to each other, and to emitters.
    Cluster = "cluster" {
        /// What nodes prove to each other that they know, the same on all of them; at least 32 bytes.
        /// Better kept out of this file: secret_file.
        secret: Option<Secret<String>> = None;
        /// File with the secret; white space at its end does not count.
        secret_file: Option<PathBuf> = None;
        /// Where other nodes reach this one's edge.internal. Empty: at the address itself, which then
        /// must not be 0.0.0.0 or [::].
        advertise: Option<SocketAddr> = None;
        /// Requests that may be open to other nodes at once. Each waiting poll and each WebSocket of
        /// another node's session takes one connection; beyond it clients are told to try again.
        requests_max: usize = 10_000, in 16 => 1_000_000;
    }
    contains { emitter: Emitter }
}

section! {
    /// Hearing `@socket.io/redis-emitter`: other processes emit through Redis to the sockets here.
    Emitter = "cluster.emitter" {
        /// Whether it is heard. Whoever may publish in that Redis may then emit to every room.
        enabled: bool = false;
        /// What its channels begin with: the emitter's option "key".
        prefix: String = "socket.io".to_owned();
        /// The Redis it publishes in: redis://[user:password@]host:port. Empty: the first shard;
        /// embedded mode has none.
        url: Option<Secret<String>> = None;
    }
}
