//! Vestibule: a horizontally scaled real-time gateway that speaks Socket.IO.

pub mod types;

pub mod config;
pub mod telemetry;

pub mod lifecycle;

pub mod edge;
pub mod transport;
pub mod protocol;
pub mod server;
pub mod handlers;
pub mod events;
pub mod delivery;
pub mod eventlog;
pub mod timeline;
pub mod cluster;
pub mod rooms;
pub mod archive;
pub mod auth;
pub mod backend;
pub mod api;
pub mod web;
pub mod app;
pub mod loadgen;
pub mod cli;
