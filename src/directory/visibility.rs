//! Part of the directory.
