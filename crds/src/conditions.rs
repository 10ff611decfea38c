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
/// Present, and `True`, only while something is declared that people regret later. Nothing is refused for it.
pub const RISKY: &str = "Risky";
/// `True` when every volume has the declared size.
pub const STORAGE_READY: &str = "StorageReady";
/// Present, and `True`, only while `suspend` is.
pub const SUSPENDED: &str = "Suspended";
/// Present only for a cache with `exposure.gateway`: `True` when the Gateways that it names accept its route.
pub const EXPOSURE_READY: &str = "ExposureReady";
/// `True` when every mirror configuration is rendered as declared.
pub const MIRRORS_READY: &str = "MirrorsReady";
/// Present, and `True`, only while the policy denies what nodes may get from the upstream.
pub const NOT_ENFORCEABLE: &str = "NotEnforceable";
/// Present, and `True`, only while the policy refuses what nodes can get from nowhere else.
pub const NOT_PULLABLE: &str = "NotPullable";
/// `True` when every node of the cluster pulls through the cache. Present only for caches that the node agent wires.
pub const NODES_WIRED: &str = "NodesWired";
/// `True` while no upstream is away. Present as soon as the cache servers have said how theirs are.
pub const UPSTREAMS_REACHABLE: &str = "UpstreamsReachable";
/// `True` on a `CachePolicy` whose rules can be used.
pub const ACCEPTED: &str = "Accepted";
/// `True` on a `CachePolicy` that a `RegistryCache` names.
pub const REFERENCED: &str = "Referenced";
/// `True` on a `CachePolicy` each of whose rules can match something in the caches that follow it.
pub const EFFECTIVE: &str = "Effective";
/// `True` on a `CachePolicy` whose generation every replica of the caches that follow it has confirmed.
pub const APPLIED: &str = "Applied";

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
    /// An API that is asked for is not installed.
    ApiMissing,
    /// Monitoring is switched off.
    Disabled,
    /// The rules can be used.
    Accepted,
    /// The certificate for clients is not issued yet.
    CertificatePending,
    /// What is declared is allowed, and unwise.
    RiskyChoice,
    /// The storage class of a volume can't make it larger.
    NotExpandable,
    /// `suspend` is true.
    Suspended,
    /// No `RegistryCache` names the `CachePolicy`.
    NotReferenced,
    /// A rule can't match anything, because earlier rules match all of it.
    RuleShadowed,
    /// A rule names an upstream that none of the caches has.
    UpstreamUnknown,
    /// Nodes may go to the upstream by themselves.
    FallbackAllowed,
    /// Nodes may not go to the upstream by themselves.
    FallbackForbidden,
    /// Some nodes don't pull through the cache.
    NotWired,
    /// A Gateway does not take the route.
    NotAccepted,
    /// Nothing can be had of an upstream at present.
    UpstreamAway,
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
            Self::CertificatePending => "CertificatePending",
            Self::RiskyChoice => "RiskyChoice",
            Self::NotExpandable => "NotExpandable",
            Self::Suspended => "Suspended",
            Self::NotReferenced => "NotReferenced",
            Self::RuleShadowed => "RuleShadowed",
            Self::UpstreamUnknown => "UpstreamUnknown",
            Self::FallbackAllowed => "FallbackAllowed",
            Self::FallbackForbidden => "FallbackForbidden",
            Self::NotWired => "NotWired",
            Self::NotAccepted => "NotAccepted",
            Self::UpstreamAway => "UpstreamAway",
        }
    }
}
