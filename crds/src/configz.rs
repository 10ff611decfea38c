//! What a cache server's `GET /configz` answers: which configuration is in force. The operator's proof that a policy was applied.

use serde::{Deserialize, Serialize};

/// The answer, as JSON. Unknown fields are passed over, so that an older operator understands a newer server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configz {
    /// [`crate::policy::Policy::hash`] of the policy in force; `None`: there is none, and no request is served.
    pub policy_hash: Option<String>,
    /// [`crate::static_config::StaticConfig::hash`] of what the server was started with.
    pub static_hash: String,
    /// When the policy came into force, as RFC 3339 has it.
    pub loaded_at: Option<String>,
    /// Why the newest file was refused; the hash is then that of an older one.
    pub last_error: Option<String>,
    /// Where the policy in force comes from; `None`: there is none.
    pub source: Option<Source>,
    /// Version of the server.
    pub version: String,
}

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// From the configuration.
    File,
    /// From the store: the configuration was broken when the server started.
    LastGood,
    /// Nothing was said.
    Default,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_the_one_that_both_sides_know() {
        let configz = Configz {
            policy_hash: Some("ab".to_owned()),
            static_hash: "cd".to_owned(),
            loaded_at: Some("2026-11-24T07:00:00Z".to_owned()),
            last_error: None,
            source: Some(Source::LastGood),
            version: "0.1.0".to_owned(),
        };
        insta::assert_json_snapshot!(configz);
        let text = serde_json::to_string(&configz).unwrap();
        assert_eq!(serde_json::from_str::<Configz>(&text).unwrap(), configz);
    }
}
