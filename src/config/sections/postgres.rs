//! `[postgres]`: the archive and the store of mode "cluster".

use crate::config::section::section;
use crate::types::{Secret, Span};

section! {
    /// PostgreSQL, the archive and the store of mode "cluster".
    Postgres = "postgres" {
        /// postgres://user[:password]@host[:port]/database[?sslmode=verify-full&sslrootcert=FILE].
        url: Option<Secret<String>> = None;
        /// Connections of one node at most.
        connections: u32 = 10, in 2 => 1_000;
        /// How long a connection may take.
        connect_timeout: Span = Span::from_secs(3), in Span::from_millis(100) => Span::from_secs(60);
        /// How long a statement may take.
        statement_timeout: Span = Span::from_secs(5), in Span::from_millis(100) => Span::from_secs(600);
    }
}
