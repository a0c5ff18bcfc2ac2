//! One suite for each port.

mod bus;
mod owners;
mod timeline;
