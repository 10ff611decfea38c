//! How far a policy got, as a `RegistryCache` tells.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::condition;

/// The part of the status that speaks of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    pub hash: String,
    pub applied: i64,
    pub replicas: i64,
    /// Whether the condition `PolicyApplied` is true.
    pub condition: bool,
}

impl PolicyState {
    /// What the object's status tells; an error while it tells nothing.
    pub fn of(object: &Value) -> Result<Self> {
        let status = &object["status"];
        let policy = &status["policy"];
        let condition = condition(object, "PolicyApplied")["status"] == "True";
        Ok(Self {
            hash: policy["desiredHash"]
                .as_str()
                .context("the status has no policy yet")?
                .to_owned(),
            applied: policy["appliedReplicas"].as_i64().unwrap_or_default(),
            replicas: policy["replicas"].as_i64().unwrap_or_default(),
            condition,
        })
    }

    /// Whether every replica has confirmed it.
    pub fn is_confirmed(&self) -> bool {
        self.condition && self.replicas > 0 && self.applied == self.replicas
    }
}
