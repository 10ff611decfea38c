//! Larder's cache server: a pull-through cache for OCI registries.
//!
//! A request goes down, an answer comes up: `http` parses it, `cache` decides and finds the content, in `storage`, in a
//! `bucket` that replicas share, or at an `upstream`. `app` puts the parts together; nothing else knows all of them.
//!
//! Invariants:
//! - Nobody gets a whole body whose content is not what its digest says.
//! - Only a file under its own digest is a hit. Content is served for a repository that is known to have it.
//! - A name in a request is a key among the configured upstreams, never something to dial.
//! - `storage`, `bucket` and `upstream` don't know each other; `cache` knows no HTTP server; `http` knows neither store nor upstream.

pub mod oci;

pub mod http;

pub mod cache;

pub mod upstream;

pub mod storage;

pub mod bucket;

pub mod app;

pub mod admin;
pub mod args;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod fsck;
pub mod last_error;
pub mod metrics;
pub mod reload;
pub mod remote;
pub mod spans;
pub mod telemetry;

#[cfg(test)]
mod fuzz;
