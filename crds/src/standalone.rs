//! One file with both configurations, for a cache server that runs without the operator.

use serde::Deserialize;

use crate::policy::Policy;
use crate::static_config::StaticConfig;

/// What `cache-server --config FILE` reads.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Standalone {
    /// What `static.yaml` holds: a change needs a restart. Default: all defaults.
    pub server: Option<StaticConfig>,
    /// What `policy.yaml` holds: a change is live within a second. Default: the public registries.
    pub policy: Option<Policy>,
}
