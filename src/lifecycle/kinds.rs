//! The kinds of tasks: for each, what its end and its failure mean to the node.

/// What happens to a task when the node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It sees the drain itself and is waited for.
    Wait,
    /// It has nothing to finish and is aborted.
    Abort,
}

/// What happens when a task ends with an error or by a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged; the node goes on.
    Log,
    /// The node cannot do its work without it and drains.
    ShutDown,
}

macro_rules! kinds {
    ($( $(#[$doc:meta])* $kind:ident = $name:literal, $on_cancel:ident, $on_error:ident; )+) => {
        /// What a task is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TaskKind { $( $(#[$doc])* $kind ),+ }

        impl TaskKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$( Self::$kind ),+];

            /// Its name in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$kind => $name ),+ }
            }

            /// What happens to it when the node stops.
            #[must_use]
            pub const fn on_cancel(self) -> OnCancel {
                match self { $( Self::$kind => OnCancel::$on_cancel ),+ }
            }

            /// What happens when it fails.
            #[must_use]
            pub const fn on_error(self) -> OnError {
                match self { $( Self::$kind => OnError::$on_error ),+ }
            }
        }
    };
}

kinds! {
    /// Accepts connections and hands them to the workers.
    Listener = "listener", Wait, ShutDown;
    /// Serves one TCP connection until it closes or becomes a session.
    Connection = "connection", Wait, Log;
    /// Serves the operations listener, to the very end.
    Operations = "operations", Abort, ShutDown;
    /// Reads and writes one session.
    Session = "session", Wait, Log;
    /// Runs one client event's handler.
    Handler = "handler", Wait, Log;
    /// Writes the sockets that have something to be sent, at the end of a worker's turn.
    Flusher = "flusher", Wait, ShutDown;
    /// Takes what the bus brings to a worker's rooms.
    Fanout = "fanout", Wait, ShutDown;
    /// Hears emitters.
    Emitter = "emitter", Abort, Log;
    /// Takes events from the log to their rooms' timelines.
    Pump = "pump", Wait, ShutDown;
    /// Pumps for nodes that are dead, until the group has noticed.
    Takeover = "takeover", Abort, Log;
    /// Does what follows from events: other events, records, memberships.
    Effects = "effects", Wait, ShutDown;
    /// Appends to the log.
    LogWriter = "log_writer", Wait, ShutDown;
    /// Takes what is in the timelines to the archive.
    Archiver = "archiver", Wait, ShutDown;
    /// Puts back what a shard lost.
    Raiser = "raiser", Wait, ShutDown;
    /// Follows the ring of the shards, and brings rooms to their places.
    Ring = "ring", Abort, ShutDown;
    /// Keeps the node's lease and looks who lives.
    Membership = "membership", Wait, ShutDown;
    /// Tells who came and went.
    Presence = "presence", Wait, ShutDown;
    /// Looks whether what the node depends on works, and tells clients.
    Health = "health", Abort, ShutDown;
    /// Does something again and again that can be left undone: pings, expiries, counters.
    Sweeper = "sweeper", Abort, ShutDown;
    /// Looks whether certificate files changed.
    CertificateWatch = "certificate_watch", Abort, Log;
    /// What nodes share in caches.
    Caches = "caches", Abort, ShutDown;
    /// Fetches the keys that tokens are checked with.
    KeyRefresh = "key_refresh", Abort, Log;
    /// Reads the catalogue again when told to.
    CatalogueWatch = "catalogue_watch", Abort, Log;
    /// Sends canaries.
    Canary = "canary", Abort, Log;
    /// Whatever a test or an example spawns.
    Other = "other", Abort, Log;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: BTreeSet<_> = TaskKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), TaskKind::ALL.len());
    }
}
