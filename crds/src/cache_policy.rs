//! `CachePolicy`: what is cached and for how long. Editing it never restarts a pod.

mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::policy::Action;

pub use status::{CachePolicyStatus, MAXIMUM_BINDINGS, PolicyBinding};

/// Rules for the requests that a cache gets. A `RegistryCache` names the policies that it follows.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "larder.dev",
    version = "v1alpha1",
    kind = "CachePolicy",
    plural = "cachepolicies",
    namespaced,
    status = "CachePolicyStatus",
    derive = "PartialEq",
    shortname = "cpol",
    category = "larder",
    doc = "What a cache serves and for how long. An edit is live in every replica of the caches that name it within two seconds, and restarts nothing.",
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Caches", type_ = "integer", json_path = ".status.cacheCount"),
    printcolumn(name = "Applied", type_ = "string", json_path = ".status.applied"),
    printcolumn(name = "Effective", type_ = "string", json_path = ".status.conditions[?(@.type==\"Effective\")].status", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("name: write 63 characters at most")
)]
#[serde(rename_all = "camelCase")]
pub struct CachePolicySpec {
    /// Tried in order; the first rule that matches decides. What no rule of any policy of a cache matches gets the cache's `defaultAction`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub rules: Vec<RuleSpec>,
}

/// What to do with the requests that match.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.retention) || self.action == 'Cache'", "retention belongs to the action Cache: remove retention, or set action to Cache"))]
#[x_kube(validation = ("!has(self.freshness) || self.action == 'Cache'", "freshness belongs to the action Cache: remove freshness, or set action to Cache"))]
pub struct RuleSpec {
    /// Stands in messages, metrics and logs; unique within the policy. Default: the rule's number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')", "name: use lower-case letters, digits and inner hyphens"))]
    pub name: Option<String>,
    /// Which requests the rule is for. Default: all.
    #[serde(default, rename = "match")]
    pub matches: MatchSpec,
    /// `Cache`: serve from the cache and fill it. `Forward`: pass through and keep nothing. `Refuse`: answer 404, so that the client goes on to the
    /// upstream itself. `Deny`: answer 403 with a reason; a client that may fall back to the upstream still gets the image there.
    pub action: Action,
    /// How long the tags that this rule matches are answered without asking the upstream. Default: the cache's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<FreshnessSpec>,
    /// What is kept of what this rule matches. Default: everything, until the cache needs room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
}

/// What is kept. It holds for what is stored already, too. A rule with `match.tags` speaks of the images with such a tag, and of all that they consist of.
/// What several images share is kept as long as one of them.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.pin) || !self.pin || (!has(self.unusedFor) && !has(self.keepNewest))", "retention: what is pinned is never removed: remove pin, or remove unusedFor and keepNewest"))]
pub struct RetentionSpec {
    /// Images that were not pulled for so long are removed: `30d`. Default: none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([1-9][0-9]*d)?([1-9][0-9]*h)?([1-9][0-9]*m)?([1-9][0-9]*s)?$')", "unusedFor: write whole numbers with units from large to small: 12h, 30d"))]
    pub unused_for: Option<String>,
    /// Number of tags that are kept of each repository: those whose content came from the upstream last. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_newest: Option<u32>,
    /// Never remove it to make room. If pinned images alone fill the cache, other images are passed through without being kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
}

/// All that is said must match; what is not said matches everything.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchSpec {
    /// Hosts of upstreams, as in the `RegistryCache`: `docker.io`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 259)))]
    pub upstreams: Vec<String>,
    /// Globs over repositories, any of them: `library/*` (one component), `ours/**` (any depth). Docker Hub's official images are in `library/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 256)))]
    pub repositories: Vec<String>,
    /// Globs over tags, any of them. They decide requests by tag; a request by digest is decided by upstream and repository: there a rule with tags counts
    /// if its action is Cache or Forward, and is passed over if it is Refuse or Deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub tags: Vec<String>,
}

/// How long a tag is answered from the cache. Durations are like `90s`, `5m`, `1h30m`, `7d`.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FreshnessSpec {
    /// Age from which the upstream is asked again whether the tag moved.
    #[serde(default = "refresh_after")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "refreshAfter: write whole numbers with units from large to small: 90s, 5m, 1h30m, 7d"))]
    pub refresh_after: String,
    /// Age up to which the old answer is given while the upstream fails or hangs.
    #[serde(default = "serve_stale_for")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "serveStaleFor: write whole numbers with units from large to small: 90s, 5m, 1h30m, 7d"))]
    pub serve_stale_for: String,
    /// Globs over tags that never move: asked once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub immutable_tags: Vec<String>,
}

impl Default for FreshnessSpec {
    fn default() -> Self {
        Self {
            refresh_after: refresh_after(),
            serve_stale_for: serve_stale_for(),
            immutable_tags: Vec::new(),
        }
    }
}

fn refresh_after() -> String {
    "5m".to_owned()
}

fn serve_stale_for() -> String {
    "7d".to_owned()
}
