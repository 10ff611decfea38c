//! A bucket that the replicas of a cache share, behind the store of each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::values::Endpoint;

/// Most characters of a prefix: a key of S3 has 1024 bytes, and names of repositories are long.
const MAXIMUM_PREFIX: usize = 200;

/// A bucket with the API of S3. What is in it is trusted as the store is: only caches may write to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStorage {
    /// Where the API is. Default: AWS, in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Name of the bucket.
    pub bucket: String,
    /// Region of the bucket, which requests are signed for. Default: `us-east-1`, which servers of one's own take as a rule.
    #[serde(default = "region", skip_serializing_if = "is_default_region")]
    pub region: String,
    /// What the keys of all objects begin with: `team/images`. Caches with the same bucket and prefix share their content, and
    /// who has which. Default: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Whether the bucket stands in the path of requests, as most servers want it, and not in the name of the host. Default
    /// true.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub path_style: bool,
    /// Keys to sign with. Default: what AWS says of the pod's own identity in the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ObjectStorageCredentials>,
    /// File with the authorities that the endpoint's certificate is judged by, in PEM. Default: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Files with one value each. They are read again while the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStorageCredentials {
    /// With the name of the key.
    pub access_key_id_file: PathBuf,
    /// With the key itself.
    pub secret_access_key_file: PathBuf,
    /// Of temporary keys. A file that is not there counts as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token_file: Option<PathBuf>,
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn is_default_region(text: &str) -> bool {
    text == region()
}

fn yes() -> bool {
    true
}

impl ObjectStorage {
    /// The first field that can't be meant, and what it should be.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if !is_bucket(&self.bucket) {
            return Some((
                "bucket",
                "write 3 to 63 lower-case letters, digits, dots and hyphens",
            ));
        }
        if !is_region(&self.region) {
            return Some((
                "region",
                "write 1 to 32 letters, digits and hyphens, like eu-west-1",
            ));
        }
        if !self.prefix.is_empty() && !is_prefix(&self.prefix) {
            return Some((
                "prefix",
                "write names of letters, digits, dots, hyphens and underscores with a slash between them, 200 characters at most",
            ));
        }
        let credentials = self.credentials.iter().flat_map(|files| {
            [&files.access_key_id_file, &files.secret_access_key_file]
                .into_iter()
                .chain(&files.session_token_file)
        });
        credentials
            .chain(&self.ca_file)
            .any(|path| path == Path::new(""))
            .then_some(("credentials or caFile", "name a file"))
    }
}

fn is_bucket(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (3..=63).contains(&name.len())
        && alphanumeric(name.as_bytes().first())
        && alphanumeric(name.as_bytes().last())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
}

fn is_region(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_prefix(text: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    text.len() <= MAXIMUM_PREFIX && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::super::StaticConfig;

    #[test]
    fn a_bucket_is_enough() {
        let config = StaticConfig::parse("objectStorage: {bucket: images}\n").unwrap();
        let storage = config.object_storage.as_ref().unwrap();
        assert!(storage.path_style && storage.region == "us-east-1" && storage.prefix.is_empty());
        assert_eq!(StaticConfig::parse(&config.to_yaml()).unwrap(), config);
        insta::assert_snapshot!(config.to_yaml());
    }

    #[test]
    fn all_of_it_reads_back() {
        let text = "objectStorage:\n  endpoint: http://minio.storage:9000\n  bucket: a.b-c\n  region: eu-west-1\n  prefix: team/images_1\n  pathStyle: false\n  credentials: {accessKeyIdFile: a, secretAccessKeyFile: b, sessionTokenFile: c}\n  caFile: d\n";
        let config = StaticConfig::parse(text).unwrap();
        assert_eq!(StaticConfig::parse(&config.to_yaml()).unwrap(), config);
        assert!(!config.object_storage.unwrap().path_style);
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_the_field() {
        for (field, text) in [
            ("bucket", "bucket: no"),
            ("bucket", "bucket: Upper"),
            ("bucket", "bucket: -ab"),
            ("region", "bucket: abc, region: ''"),
            ("region", "bucket: abc, region: 'a/b'"),
            ("prefix", "bucket: abc, prefix: /a"),
            ("prefix", "bucket: abc, prefix: a/../b"),
            ("prefix", "bucket: abc, prefix: 'a b'"),
            ("caFile", "bucket: abc, caFile: ''"),
        ] {
            let error = StaticConfig::parse(&format!("objectStorage: {{{text}}}\n")).unwrap_err();
            assert!(error.to_string().contains(field), "{text}: {error}");
        }
        let error = StaticConfig::parse("objectStorage: {bucket: a}\n").unwrap_err();
        insta::assert_snapshot!(error.to_string());
    }
}
