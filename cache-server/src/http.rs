//! The data port: what registries' clients talk to. Translates requests for the cache and its answers back.
//! Knows neither the store nor upstreams.

pub mod route;

pub mod access;
pub mod access_log;
pub mod body;
pub mod buffers;
pub mod client;
pub mod error;
mod expiry;
pub mod handler;
pub mod lanes;
pub mod range;
pub mod respond;
pub mod sendfile;
mod serve;
pub mod server;
pub mod tally;
pub mod tls;
pub mod traffic;

pub use server::{Drain, Listener, Server};
