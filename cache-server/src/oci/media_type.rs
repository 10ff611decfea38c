//! Media types of manifests.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a blob is called: the registry does not know more.
pub const BLOB: &str = "application/octet-stream";

/// `Accept` of requests for manifests. One list for all clients, so that one tag has one answer.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// What content is said to be. The types that nearly all have take no memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// One of those above.
    pub const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if it is one of those above.
    pub fn as_known(&self) -> Option<&'static str> {
        match self.0 {
            Cow::Borrowed(known) => Some(known),
            Cow::Owned(_) => None,
        }
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        const KNOWN: [&str; 5] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, BLOB];
        let known = KNOWN.into_iter().find(|known| *known == text);
        Self(known.map_or(Cow::Owned(text), Cow::Borrowed))
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0.into_owned()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_take_no_memory_and_others_stay_as_they_are() {
        for text in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, BLOB] {
            assert_eq!(MediaType::from(text).as_known(), Some(text));
        }
        let other = MediaType::from("application/vnd.example+json");
        assert_eq!(other.as_known(), None);
        assert_eq!(other.as_str(), "application/vnd.example+json");
    }
}
