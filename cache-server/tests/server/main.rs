//! The server as clients and upstreams see it, on loopback. One binary: linking is most of what a test build costs.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

mod access;
mod bad_days;
mod bucket;
mod bucket_faults;
mod capacity;
mod clock;
mod crashes;
mod credentials;
mod cuts;
mod disks;
mod door;
mod edits;
mod failing_steps;
mod faults;
mod figures;
mod headers;
mod http2;
mod identities;
mod large;
mod lifecycle;
mod limits;
mod memory;
mod metrics;
mod offline;
mod operations;
mod policy;
mod process;
mod pull;
mod ranges;
mod reach;
mod referrers;
mod room;
mod routing;
mod secrets;
mod sendfile;
mod smuggling;
mod starts;
mod tags;
mod tls;
mod tracing;
mod upgrade;
mod upstreams;
mod waits;
