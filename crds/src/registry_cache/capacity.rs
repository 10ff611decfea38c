//! How much a cache keeps.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How much is kept. Sizes are like `500M`, `50Gi`, or `90%` of the volume's size.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.lowWatermark < self.highWatermark", "capacity: lowWatermark must be below highWatermark"))]
pub struct CapacitySpec {
    /// Content that each replica keeps at most. What the volume's filesystem says of its size does not count: for some volumes it is the node's disk.
    #[serde(default = "max_size")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = ("self.matches('^([1-9][0-9]*(k|M|G|T|Ki|Mi|Gi|Ti)?|([1-9][0-9]?|100)%)$')", "maxSize: write a size like 500M or 50Gi, or a percentage of the volume like 90%"))]
    pub max_size: String,
    /// What must stay free on the volume's filesystem, for volumes that share a disk with others. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = ("self.matches('^([1-9][0-9]*(k|M|G|T|Ki|Mi|Gi|Ti)?|([1-9][0-9]?|100)%)$')", "minFree: write a size like 500M or 5Gi, or a percentage of the volume like 5%"))]
    pub min_free: Option<String>,
    /// Percentage of `maxSize` above which what was not used for longest is removed.
    #[serde(default = "high_watermark")]
    #[schemars(range(min = 2, max = 100))]
    pub high_watermark: u8,
    /// Percentage of `maxSize` down to which it is removed.
    #[serde(default = "low_watermark")]
    #[schemars(range(min = 1, max = 99))]
    pub low_watermark: u8,
}

impl Default for CapacitySpec {
    fn default() -> Self {
        Self {
            max_size: max_size(),
            min_free: None,
            high_watermark: high_watermark(),
            low_watermark: low_watermark(),
        }
    }
}

fn max_size() -> String {
    "90%".to_owned()
}

fn high_watermark() -> u8 {
    95
}

fn low_watermark() -> u8 {
    85
}
