//! The contracts of Larder: everything that one process writes and another reads, defined once.
//!
//! - [`values`]: checked values that all contracts share. A value of such a type is valid.
//! - [`static_config`] and [`policy`]: the two files that the operator writes and the cache server reads.
//!   Both sides call the same `parse`, so the operator cannot write what the server would refuse.
//! - [`standalone`]: both in one file, for a server that a person runs.
//! - [`place`]: where in a file the field stands that such a check refuses.
//! - `file_schema` (feature `schema`): their JSON schemas, for editors.
//! - [`configz`]: what the server answers when the operator asks which of them is in force.
//! - [`figures`]: what the server says of how much it helps, and how its upstreams are.
//! - `node_agent` (feature `kube`): the mirror files that the operator hands to the agents on the nodes, and their answers.
//! - `registry_cache`, `cache_policy` and `conditions` (feature `kube`): the custom resources.
//!   Their types are raw: public fields and no behaviour. The operator's resolve step turns them into the types above.
//!
//! Invariant: without the feature `kube` this crate needs no Kubernetes crate.

#[cfg(test)]
mod fuzz;
pub mod values;

pub mod configz;
pub mod figures;
pub mod place;
pub mod policy;
pub mod standalone;
pub mod static_config;

#[cfg(feature = "schema")]
pub mod file_schema;

#[cfg(feature = "kube")]
#[expect(
    unreachable_pub,
    reason = "the schema derive copies each type into a private scope"
)]
pub mod cache_policy;
#[cfg(feature = "kube")]
pub mod conditions;
#[cfg(feature = "kube")]
pub mod node_agent;
#[cfg(feature = "kube")]
#[expect(
    unreachable_pub,
    reason = "the schema derive copies each type into a private scope"
)]
pub mod registry_cache;
#[cfg(feature = "kube")]
pub mod schema;

/// API group of the custom resources.
pub const GROUP: &str = "larder.dev";

/// File in the server's configuration directory whose change needs a restart.
pub const STATIC_FILE: &str = "static.yaml";

/// File in the server's configuration directory that is live seconds after it changed.
pub const POLICY_FILE: &str = "policy.yaml";
