//! Not written yet.

pub mod load;
