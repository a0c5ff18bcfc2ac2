//! `[catalogue]`: the vocabulary.

use std::path::PathBuf;

use crate::config::section::{choice, section};

choice! {
    /// A known system's names of topics and rooms.
    Preset {
        /// The built-in catalogue as it is.
        None = "none",
        /// A developer network.
        Devconnect = "devconnect",
        /// A resident management system.
        Residents = "residents",
        /// A community with channels.
        Community = "community",
        /// A classroom platform.
        Classroom = "classroom",
    }
}

section! {
    /// The vocabulary: which events there are, who may send them, where they go.
    Catalogue = "catalogue" {
        /// A known system's names of topics and rooms, laid on top of the built-in catalogue.
        preset: Preset = Preset::None;
        /// File (TOML) that is laid on top of both: tables [[event]] of a type that is there replace
        /// the keys they give, others are added; `replace = true` at its top starts from nothing.
        /// Read again on SIGHUP; a file with mistakes changes nothing. Taking a topic away needs a
        /// restart.
        file: Option<PathBuf> = None;
    }
}
