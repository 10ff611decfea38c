//! Keys of objects. Pure: from parsed values, never from a text of a request. The layout is the store's.

use crds::values::RegistryHost;

use crate::oci::{Digest, Repository, Tag};

/// Where an object is, or what the keys of several begin with.
pub use object_store::path::Path as Key;

/// Keys below one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
        }
    }

    /// Content, blobs and manifests alike.
    pub fn content(&self, digest: &Digest) -> Key {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        self.key(&format!("blobs/{algorithm}/{}/{hex}", &hex[..2]))
    }

    /// What the keys of all content begin with; names below it end in the digest's digits.
    pub fn contents(&self) -> Key {
        self.key("blobs")
    }

    /// Empty object that says that the repository has that content.
    pub fn member(&self, host: &RegistryHost, repository: &Repository, digest: &Digest) -> Key {
        self.of_repository(host, repository, &format!("_blobs/{}", place(digest)))
    }

    pub fn members(&self, host: &RegistryHost, repository: &Repository) -> Key {
        self.of_repository(host, repository, "_blobs")
    }

    /// Object whose content is the media type under which the repository has that manifest.
    pub fn manifest(&self, host: &RegistryHost, repository: &Repository, digest: &Digest) -> Key {
        self.of_repository(host, repository, &format!("_manifests/{}", place(digest)))
    }

    pub fn manifests(&self, host: &RegistryHost, repository: &Repository) -> Key {
        self.of_repository(host, repository, "_manifests")
    }

    /// Object that says what the tag was when an upstream was last asked.
    pub fn tag(&self, host: &RegistryHost, repository: &Repository, tag: &Tag) -> Key {
        self.of_repository(host, repository, &format!("_tags/{}", tag.as_str()))
    }

    pub fn tags(&self, host: &RegistryHost, repository: &Repository) -> Key {
        self.of_repository(host, repository, "_tags")
    }

    fn of_repository(&self, host: &RegistryHost, repository: &Repository, rest: &str) -> Key {
        self.key(&format!(
            "repositories/{}/{}/{rest}",
            host.as_str(),
            repository.as_str()
        ))
    }

    fn key(&self, rest: &str) -> Key {
        Key::from(format!("{}{rest}", self.prefix))
    }
}

/// What a digest's place below a listed prefix is called: `sha256/<hex>`.
pub fn place(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm().as_str(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn keys_are_as_documented() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let host: RegistryHost = "10.0.0.5:5000".parse().unwrap();
        let repository = Repository::parse("a/b").unwrap();
        let tag = Tag::parse("v1_2.3-x").unwrap();
        let hex = digest.hex();
        for (prefix, begins) in [("", ""), ("team/images", "team/images/")] {
            let keys = Keys::new(prefix);
            assert_eq!(
                keys.content(&digest).as_ref(),
                format!("{begins}blobs/sha256/e3/{hex}")
            );
            let of = format!("{begins}repositories/10.0.0.5:5000/a/b");
            assert_eq!(
                keys.member(&host, &repository, &digest).as_ref(),
                format!("{of}/_blobs/sha256/{hex}")
            );
            assert_eq!(
                keys.manifest(&host, &repository, &digest).as_ref(),
                format!("{of}/_manifests/sha256/{hex}")
            );
            assert_eq!(
                keys.tag(&host, &repository, &tag).as_ref(),
                format!("{of}/_tags/v1_2.3-x")
            );
        }
    }
}
