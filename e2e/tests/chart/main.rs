//! The chart and its counterpart for kubectl, with the real helm, kubectl and promtool; without a cluster.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod deploy;
mod monitoring;
mod render;
mod tools;
