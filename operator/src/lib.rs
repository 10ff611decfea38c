//! The operator: `RegistryCache` and `CachePolicy` objects become running caches.
//!
//! A reconcile is five steps, each a file, each with a type as its result:
//! [`observe`] → `Observed`, [`resolve`] → `ResolvedCache`, [`render`] → `Rendered`, [`apply`] → `Applied`, and [`report`] → status.
//! [`confirm`] stands between the last two: it makes the pods take the policy, and asks each whether it did.
//!
//! Invariants:
//! - `resolve`, `render` and `report` are pure: no client, no async, no clock, no environment.
//! - What is rendered passed the server's own checks (`crds::policy`), so the server does not refuse it.
//! - While nothing changes, nothing is written.
//! - An object without our owner reference is never overwritten or deleted.
//! - A policy that can't be resolved never becomes "allow all": the last good one stays, or nothing runs.

pub mod args;

pub mod controller;
pub mod reconcile;

pub mod observe;
pub mod resolve;

pub mod render;

pub mod offline;

pub mod apply;
pub mod confirm;
pub mod report;

pub mod policy_status;

pub mod await_daemon_set;
pub mod containerd;
pub mod doctor;
pub mod figures;
pub mod node_agent;
pub mod nodes;

pub mod admin;
pub mod confidential;
pub mod context;
pub mod election;
pub mod events;
pub mod leaving;
pub mod memory;
pub mod metrics;
pub mod optional_apis;
pub mod publish;
mod quantity;
pub mod retry;
pub mod run;
pub mod status;
pub mod watches;

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "larder.dev/operator";
