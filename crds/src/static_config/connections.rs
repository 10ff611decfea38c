//! What clients of the data port may take of it.

use serde::{Deserialize, Serialize};

use crate::values::{ByteSize, Duration};

/// Bounds that keep the port open for all while some clients are many, slow or silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Connections {
    /// Connections at the same time. More are answered 503, which makes containerd go on to the upstream. Default 8192; less
    /// where the process may not open as many files.
    pub maximum: u32,
    /// Time for the head of a request, for a TLS handshake, and between two requests. Default 30s.
    pub header_timeout: Duration,
    /// Time after which a client that takes nothing of what waits for it is cut. Default 2m.
    pub stall_timeout: Duration,
    /// Bytes a second that a client must take on average while bytes wait for it. Default 4Ki; 0: any rate will do.
    pub minimum_rate: ByteSize,
    /// Time over which that average is taken. Default 5m.
    pub rate_window: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            maximum: 8192,
            header_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(120),
            minimum_rate: ByteSize::from_bytes(4096),
            rate_window: Duration::from_secs(300),
        }
    }
}

impl Connections {
    pub(super) fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// The first field that can't be meant.
    pub(super) fn out_of_range(&self) -> Option<&'static str> {
        let times = [
            ("headerTimeout", self.header_timeout),
            ("stallTimeout", self.stall_timeout),
            ("rateWindow", self.rate_window),
        ];
        if self.maximum == 0 || self.maximum > 1_000_000 {
            return Some("maximum");
        }
        times
            .into_iter()
            .find(|(_, time)| !(1..=86_400).contains(&time.as_secs()))
            .map(|(name, _)| name)
    }
}
