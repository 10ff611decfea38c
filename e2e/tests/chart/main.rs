//! The chart and its counterpart for kubectl, with the real helm, kubectl and promtool; without a cluster.

mod deploy;
mod monitoring;
mod render;
mod tools;
