//! Condition types and reasons. They are public API: people wait for them, alerts name them.

/// `True` when every part of the cache runs as declared. Always present (kstatus).
pub const READY: &str = "Ready";
/// Present, and `True`, only while the operator works towards what is declared (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Present, and `True`, only while a person has to act (kstatus).
pub const STALLED: &str = "Stalled";
/// `True` when every running pod's `/configz` shows the hash of the policy that is declared.
pub const POLICY_APPLIED: &str = "PolicyApplied";
/// `False` when monitoring is asked for and its API is not installed.
pub const MONITORING_READY: &str = "MonitoringReady";
/// `True` when every node of the cluster pulls through the cache. Present only for caches that the node agent wires.
pub const NODES_WIRED: &str = "NodesWired";
/// `True` on a `CachePolicy` whose rules can be used.
pub const ACCEPTED: &str = "Accepted";

/// Why a condition is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Everything is as declared.
    Succeeded,
    /// The operator, or Kubernetes on its behalf, is at work.
    Progressing,
    /// A call to the API server failed and is tried again.
    Failed,
    /// A field has a value that can't be used.
    InvalidSpec,
    /// An object that the cache needs exists already and belongs to somebody else.
    NotOwned,
    /// A referenced Secret, or its key, does not exist.
    SecretNotFound,
    /// A referenced `CachePolicy` does not exist.
    PolicyNotFound,
    /// A referenced `CachePolicy` has rules that can't be used.
    PolicyInvalid,
    /// The policy is on its way to the pods.
    Propagating,
    /// A pod did not confirm the policy in time, or refused it.
    NotConfirmed,
    /// No pod runs that could confirm the policy.
    NoPods,
    /// The API of the Prometheus operator is not installed.
    ApiMissing,
    /// Monitoring is switched off.
    Disabled,
    /// The rules can be used.
    Accepted,
    /// Some nodes don't pull through the cache.
    NotWired,
}

impl Reason {
    /// The text that stands in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Progressing => "Progressing",
            Self::Failed => "Failed",
            Self::InvalidSpec => "InvalidSpec",
            Self::NotOwned => "NotOwned",
            Self::SecretNotFound => "SecretNotFound",
            Self::PolicyNotFound => "PolicyNotFound",
            Self::PolicyInvalid => "PolicyInvalid",
            Self::Propagating => "Propagating",
            Self::NotConfirmed => "NotConfirmed",
            Self::NoPods => "NoPods",
            Self::ApiMissing => "ApiMissing",
            Self::Disabled => "Disabled",
            Self::Accepted => "Accepted",
            Self::NotWired => "NotWired",
        }
    }
}
