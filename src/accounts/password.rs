//! argon2id.
