//! The data port: what registries' clients talk to. Translates requests for the cache and its answers back.
//! Knows neither the store nor upstreams.

pub mod route;

pub mod access_log;
pub mod body;
pub mod buffers;
pub mod error;
pub mod handler;
pub mod range;
pub mod respond;
pub mod sendfile;
pub mod server;

pub use server::{Drain, Server};
