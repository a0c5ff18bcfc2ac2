//! GCRA: pure.
