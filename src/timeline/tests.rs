//! Tests of what a timeline promises.
