//! What the operator hands to the agents on the nodes, and what each of them answers on `/status`.
//!
//! The way there is a `ConfigMap` that the agents mount, and a `Secret` for what holds credentials: one key for each cache,
//! [`WiredCache::file_name`], with a [`WiredCache`] as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Version of [`WiredCache`].
pub const FORMAT: u32 = 1;
/// The file that makes containerd use a mirror. It is written last and removed first.
pub const HOSTS_FILE: &str = "hosts.toml";

/// Mirror files of one cache for every node of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WiredCache {
    pub format: u32,
    /// Namespace of the `RegistryCache`.
    pub namespace: String,
    /// Name of the `RegistryCache`.
    pub cache: String,
    /// Random text, there if the files hold credentials: they are for root alone then, and nobody can guess them by their
    /// [`hash`], which everybody may read who reaches an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Files by directory below containerd's `certs.d`, each directory with a `hosts.toml`.
    pub directories: BTreeMap<String, BTreeMap<String, String>>,
}

/// Why a text is not a [`WiredCache`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("failed to read the mirror files: {reason}")]
    Parse { reason: String },
    #[error("failed to read the mirror files: format {format} is unknown, {FORMAT} is known")]
    Format { format: u32 },
    #[error("failed to read the mirror files: {name:?} can't be the name of a file or directory")]
    Name { name: String },
    #[error("failed to read the mirror files: directory {directory} has no {HOSTS_FILE}")]
    NoHosts { directory: String },
}

impl WiredCache {
    /// Reads what [`Self::to_text`] wrote. Every name in it is one plain path component.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parsed: Self = serde_json::from_str(text).map_err(|error| Error::Parse {
            reason: error.to_string(),
        })?;
        if parsed.format != FORMAT {
            return Err(Error::Format {
                format: parsed.format,
            });
        }
        for (directory, files) in &parsed.directories {
            for name in std::iter::once(directory).chain(files.keys()) {
                if !is_plain(name) {
                    return Err(Error::Name { name: name.clone() });
                }
            }
            if !files.contains_key(HOSTS_FILE) {
                return Err(Error::NoHosts {
                    directory: directory.clone(),
                });
            }
        }
        Ok(parsed)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        // Maps of strings can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Key in the `ConfigMap`, and name of the mounted file.
    pub fn file_name(&self) -> String {
        format!("{}.{}.json", self.namespace, self.cache)
    }
}

/// Hash of a text as [`CacheOnNode::hash`] shows it.
pub fn hash(text: &str) -> String {
    crate::policy::hex(&Sha256::digest(text))
}

/// One path component without anything special: begins with a letter or digit, so that neither `..` nor `_default` is one.
fn is_plain(name: &str) -> bool {
    let first = name.bytes().next();
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    name.len() <= 253 && first.is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(inner)
}

/// What an agent answers. Unknown fields are passed over, so that an older operator understands a newer agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Version of the agent.
    pub version: String,
    /// Name of its node.
    pub node: String,
    /// Why containerd does not follow the files on this node, however right they are. Empty: it does, as far as can be seen.
    #[serde(default)]
    pub problems: Vec<NodeProblem>,
    /// The caches that the agent knows of.
    #[serde(default)]
    pub caches: Vec<CacheOnNode>,
}

/// A reason for which containerd ignores mirror files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeProblem {
    pub kind: ProblemKind,
    /// A sentence with what to do.
    pub message: String,
}

/// Which problem it is, as far as somebody else decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// `config_path` names several directories. Only some versions of containerd stumble over that, and who knows the version decides.
    SeveralRoots,
    #[serde(other)]
    Other,
}

/// One cache on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheOnNode {
    pub namespace: String,
    pub cache: String,
    /// [`hash`] of the text that the agent acts on.
    pub hash: String,
    /// Whether all files are in place and the cache answers this node.
    pub wired: bool,
    /// What is the matter. Empty: nothing.
    #[serde(default)]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wired() -> WiredCache {
        let files = [("ca.crt", "PEM\n"), (HOSTS_FILE, "server = \"x\"\n")];
        WiredCache {
            format: FORMAT,
            namespace: "team-a".to_owned(),
            cache: "images".to_owned(),
            salt: None,
            directories: BTreeMap::from([(
                "10.0.0.5_5000_".to_owned(),
                files
                    .map(|(name, text)| (name.to_owned(), text.to_owned()))
                    .into(),
            )]),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = wired().to_text();
        insta::assert_snapshot!(text);
        assert_eq!(WiredCache::parse(&text).unwrap(), wired());
        assert_eq!(wired().file_name(), "team-a.images.json");
        let salted = WiredCache {
            salt: Some("a".to_owned()),
            ..wired()
        };
        assert_eq!(WiredCache::parse(&salted.to_text()).unwrap(), salted);
        assert_ne!(hash(&salted.to_text()), hash(&wired().to_text()));
    }

    #[test]
    fn a_name_never_leads_out_of_its_directory() {
        for name in [
            "..",
            ".",
            "",
            "a/b",
            "_default",
            "_larder-backup",
            "a\0b",
            "/etc",
        ] {
            let mut directory = wired();
            let files = directory.directories.pop_first().unwrap().1;
            directory.directories.insert(name.to_owned(), files.clone());
            assert!(
                matches!(
                    WiredCache::parse(&directory.to_text()),
                    Err(Error::Name { .. })
                ),
                "{name:?}"
            );
            let mut file = wired();
            let files = file.directories.first_entry().unwrap().into_mut();
            files.insert(name.to_owned(), String::new());
            assert!(
                matches!(WiredCache::parse(&file.to_text()), Err(Error::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn another_format_and_a_directory_without_hosts_are_refused() {
        let mut other = wired();
        other.format = 2;
        assert_eq!(
            WiredCache::parse(&other.to_text()),
            Err(Error::Format { format: 2 })
        );
        let mut empty = wired();
        empty
            .directories
            .insert("docker.io".to_owned(), BTreeMap::new());
        let error = WiredCache::parse(&empty.to_text()).unwrap_err();
        assert!(matches!(error, Error::NoHosts { .. }));
    }

    #[test]
    fn an_answer_of_a_newer_agent_is_understood() {
        let text =
            r#"{"version":"9","node":"a","new":1,"problems":[{"kind":"brandNew","message":"m"}]}"#;
        let status: AgentStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.problems[0].kind, ProblemKind::Other);
    }
}
