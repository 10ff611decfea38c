//! Where things lie in the store. Pure: from parsed values to paths, never from a text of a request.

use std::path::{Path, PathBuf};

use crds::values::RegistryHost;

use crate::oci::{Digest, Repository, Tag};

/// Paths under one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn version(&self) -> PathBuf {
        self.root.join("version")
    }

    pub fn last_good_policy(&self) -> PathBuf {
        self.root.join("last-good-policy.yaml")
    }

    pub fn last_scrub(&self) -> PathBuf {
        self.root.join("last-scrub")
    }

    /// Content that was not what its name says.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Empty; all markers are links to it, so that they take no inodes.
    pub fn marker(&self) -> PathBuf {
        self.root.join("marker")
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    /// Content, blobs and manifests alike.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs();
        path.push(digest.algorithm().as_str());
        path.push(&digest.hex()[..2]);
        path.push(digest.hex());
        path
    }

    fn repository(&self, host: &RegistryHost, repository: &Repository) -> PathBuf {
        let mut path = self.repositories();
        path.push(host.as_str());
        path.push(repository.as_str());
        path
    }

    /// File whose content is the media type under which the repository has that manifest.
    pub fn manifest_record(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> PathBuf {
        by_digest(self.repository(host, repository), "_manifests", digest)
    }

    pub fn manifest_records(&self, host: &RegistryHost, repository: &Repository) -> PathBuf {
        self.repository(host, repository).join("_manifests")
    }

    pub fn memberships(&self, host: &RegistryHost, repository: &Repository) -> PathBuf {
        self.repository(host, repository).join("_blobs")
    }

    pub fn tag_records(&self, host: &RegistryHost, repository: &Repository) -> PathBuf {
        self.repository(host, repository).join("_tags")
    }

    /// Empty file that says that the repository has that content.
    pub fn membership(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> PathBuf {
        by_digest(self.repository(host, repository), "_blobs", digest)
    }

    pub fn referrers_records(&self, host: &RegistryHost, repository: &Repository) -> PathBuf {
        self.repository(host, repository).join("_referrers")
    }

    /// File that holds what was said about the referrers of that manifest.
    pub fn referrers_record(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        subject: &Digest,
    ) -> PathBuf {
        by_digest(self.repository(host, repository), "_referrers", subject)
    }

    pub fn tag_record(&self, host: &RegistryHost, repository: &Repository, tag: &Tag) -> PathBuf {
        let mut path = self.repository(host, repository);
        path.push("_tags");
        path.push(tag.as_str());
        path
    }
}

fn by_digest(mut path: PathBuf, kind: &str, digest: &Digest) -> PathBuf {
    path.push(kind);
    path.push(digest.algorithm().as_str());
    path.push(digest.hex());
    path
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn paths_are_as_documented() {
        let layout = Layout::new(Path::new("/s"));
        let digest = Digest::of(Algorithm::Sha256, b"");
        let host: RegistryHost = "10.0.0.5:5000".parse().unwrap();
        let repository = Repository::parse("a/b").unwrap();
        let hex = digest.hex();
        assert_eq!(
            layout.blob(&digest),
            Path::new(&format!("/s/blobs/sha256/e3/{hex}"))
        );
        assert_eq!(
            layout.membership(&host, &repository, &digest),
            Path::new(&format!(
                "/s/repositories/10.0.0.5:5000/a/b/_blobs/sha256/{hex}"
            ))
        );
        assert_eq!(
            layout.tag_record(&host, &repository, &Tag::parse("v1").unwrap()),
            Path::new("/s/repositories/10.0.0.5:5000/a/b/_tags/v1")
        );
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_root(host in "\\PC{0,20}", name in "\\PC{0,20}", tag in "\\PC{0,20}") {
            let layout = Layout::new(Path::new("/s"));
            if let (Ok(host), Some(repository), Some(tag)) =
                (host.parse::<RegistryHost>(), Repository::parse(&name), Tag::parse(&tag))
            {
                let path = layout.tag_record(&host, &repository, &tag);
                prop_assert!(path.starts_with("/s/repositories"));
                prop_assert!(path.components().all(|part| part != Component::ParentDir));
            }
        }

        #[test]
        fn records_of_two_repositories_never_meet(a in "[a-z0-9]{1,3}(/[a-z0-9]{1,3}){0,2}", b in "[a-z0-9]{1,3}(/[a-z0-9]{1,3}){0,2}") {
            let layout = Layout::new(Path::new("/s"));
            let host: RegistryHost = "h.io".parse().unwrap();
            let tag = Tag::parse("t").unwrap();
            let path = |name: &str| layout.tag_record(&host, &Repository::parse(name).unwrap(), &tag);
            prop_assert_eq!(path(&a) == path(&b), a == b);
        }
    }
}
