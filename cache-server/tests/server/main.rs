//! The server as clients and upstreams see it, on loopback. One binary: linking is most of what a test build costs.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]

mod support;

mod faults;
mod lifecycle;
mod policy;
mod process;
mod pull;
mod ranges;
mod routing;
mod tags;
mod upstreams;
