//! What a cache server's `GET /v1/figures` answers: how much it helps, how full it is, and which upstreams it can't reach. What moves in a
//! status is made of it.

use serde::{Deserialize, Serialize};

/// The answer, as JSON. Unknown fields are passed over, so that an older operator understands a newer server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Requests for manifests and blobs in the last hour, or since the server's start if that is later.
    pub requests: u64,
    /// Those of them that were answered with what was stored, or was on its way already.
    pub hits: u64,
    /// Bytes stored.
    pub used: u64,
    /// Bytes that may be.
    pub maximum: u64,
    /// In the order of their names.
    pub upstreams: Vec<UpstreamFigures>,
}

/// How an upstream is, as far as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamFigures {
    /// What image names say.
    pub host: String,
    /// Why nothing can be had of it at present: each of its endpoints failed again and again, or asked for a pause. Absent: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_the_one_that_both_sides_know() {
        let upstream = |host: &str, away: Option<&str>| UpstreamFigures {
            host: host.to_owned(),
            away: away.map(str::to_owned),
        };
        let figures = Figures {
            requests: 1000,
            hits: 930,
            used: 12 << 30,
            maximum: 100 << 30,
            upstreams: vec![
                upstream("docker.io", None),
                upstream("quay.io", Some("https://quay.io: connection refused")),
            ],
        };
        insta::assert_json_snapshot!(figures);
        let text = serde_json::to_string(&figures).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&text).unwrap(), figures);
    }
}
