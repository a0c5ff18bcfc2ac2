//! `[kafka]`: the log of mode "cluster".

use std::path::PathBuf;

use crate::config::section::{choice, section};
use crate::types::{Secret, Span};

choice! {
    /// How a node shows the brokers who it is.
    SaslMechanism {
        /// With its password; only over TLS is that hidden.
        Plain = "PLAIN",
        /// With a proof of knowing it.
        ScramSha256 = "SCRAM-SHA-256",
        /// With a proof of knowing it.
        ScramSha512 = "SCRAM-SHA-512",
    }
}

section! {
    /// Kafka, the log of mode "cluster". How many records and bytes may wait is [eventlog]'s; so are the
    /// partitions and the retention of topics that are made.
    Kafka = "kafka" {
        /// Brokers, host:port, separated by commas; one that answers is enough.
        brokers: String = String::new();
        /// Put before the names of topics and groups, so that installations can share brokers.
        prefix: String = String::new();
        /// Whether the brokers are spoken to over TLS.
        tls: bool = false;
        /// File with the certificates of the authorities to trust, in PEM form. Empty: the machine's own.
        authority: Option<PathBuf> = None;
        /// File with this node's own certificate, in PEM form, if brokers ask for one.
        certificate: Option<PathBuf> = None;
        /// File with its private key.
        key: Option<PathBuf> = None;
        /// How a node shows the brokers who it is: "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512". Empty: it
        /// does not.
        sasl: Option<SaslMechanism> = None;
        /// Its name.
        username: String = String::new();
        /// Its password.
        password: Option<Secret<String>> = None;
        /// When a member of a group that is not heard of loses its partitions. Short moves them sooner after
        /// a crash; too short moves them because of a pause. The brokers bound it (6 s unless they are told
        /// otherwise). Events do not wait for it: other nodes pump for a dead one when its lease, of 3 s, is
        /// over.
        session_timeout: Span = Span::from_secs(6), in Span::from_secs(1) => Span::from_secs(300);
        /// When a sender is told that the log does not answer, and may try again.
        answer_within: Span = Span::from_secs(5), in Span::from_millis(100) => Span::from_secs(60);
    }
}
