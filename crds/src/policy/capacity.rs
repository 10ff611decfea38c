//! How much is kept, and for how long.

use serde::{Deserialize, Serialize};

use crate::values::{ByteSize, Duration};

/// How much the store may hold, and when it makes room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capacity {
    /// Bytes of content at most. Default: nine tenths of the store's filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<ByteSize>,
    /// Bytes that must stay free on the store's filesystem. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free: Option<ByteSize>,
    /// Percent of `maxSize` above which room is made. Default 95.
    pub high_watermark: u8,
    /// Percent of `maxSize` down to which room is made. Default 85.
    pub low_watermark: u8,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            max_size: None,
            min_free: None,
            high_watermark: 95,
            low_watermark: 85,
        }
    }
}

impl Capacity {
    /// Whether nothing else than the default is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is kept of what a rule matches. Nothing said: all of it, until room is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// What was not used for so long is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_for: Option<Duration>,
    /// Of each repository, only that many tags are kept: those whose content came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_newest: Option<u32>,
    /// It is never removed to make room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
}
