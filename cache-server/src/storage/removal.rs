//! Taking things out of the store: content, and records that speak of content that is gone.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crds::values::RegistryHost;

use super::filesystem::Store;
use super::index::Key;
use super::recency::list;
use super::step::step;
use super::{Error, TagRecord};
use crate::oci::{Algorithm, Digest, Repository, Tag};

/// A tag of a repository in the store.
#[derive(Debug, Clone)]
pub struct StoredTag {
    pub tag: Tag,
    pub record: TagRecord,
    /// When the content that it names came; `None` if that is not in the store.
    pub stored: Option<SystemTime>,
}

impl Store {
    /// Removes content, unless it was used after `seen`. Who has it open reads on. Its size, or `None` if it stayed.
    pub fn evict(&self, key: &Key, seen: u32) -> Result<Option<u64>, Error> {
        let path = self.layout().blob(&key.digest());
        self.index().remove(key, seen, || remove(&path))
    }

    /// Calls for each repository of the store.
    pub fn each_repository(
        &self,
        each: &mut dyn FnMut(&RegistryHost, &Repository) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for entry in list(&self.layout().repositories())? {
            let name = entry.file_name();
            if let Some(host) = name.to_str().and_then(|name| name.parse().ok()) {
                below(&entry.path(), &host, "", each)?;
            }
        }
        Ok(())
    }

    /// Manifests that the repository has a record of.
    pub fn manifests(
        &self,
        host: &RegistryHost,
        repository: &Repository,
    ) -> Result<Vec<Digest>, Error> {
        digests(&self.layout().manifest_records(host, repository))
    }

    /// Content that the repository is known to have, stored or not.
    pub fn members(
        &self,
        host: &RegistryHost,
        repository: &Repository,
    ) -> Result<Vec<Digest>, Error> {
        digests(&self.layout().memberships(host, repository))
    }

    /// Tags that the repository has a readable record of.
    pub fn tags(
        &self,
        host: &RegistryHost,
        repository: &Repository,
    ) -> Result<Vec<StoredTag>, Error> {
        let mut tags = Vec::new();
        for entry in list(&self.layout().tag_records(host, repository))? {
            let name = entry.file_name();
            let Some(tag) = name.to_str().and_then(Tag::parse) else {
                continue;
            };
            if let Some(record) = self.tag(host, repository, &tag)? {
                let stored = fs::metadata(self.layout().blob(&record.digest))
                    .and_then(|metadata| metadata.modified());
                tags.push(StoredTag {
                    tag,
                    record,
                    stored: stored.ok(),
                });
            }
        }
        Ok(tags)
    }

    pub fn remove_manifest_record(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        remove(&self.layout().manifest_record(host, repository, digest))?;
        remove(&self.layout().referrers_record(host, repository, digest))?;
        remove(&self.layout().membership(host, repository, digest))
    }

    /// Whether the repository has a record of any of them.
    pub fn speaks_of(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        keys: &HashSet<Key>,
    ) -> Result<bool, Error> {
        let members = digests(&self.layout().memberships(host, repository))?;
        Ok(members
            .iter()
            .any(|digest| keys.contains(&Key::from(digest))))
    }

    /// Removes the repository's records of those of `touched` that are not in the store: manifests and their referrers, the tags
    /// that name them, and members that no manifest needs, since `referred` does not have them.
    pub fn sweep(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        touched: &HashSet<Key>,
        referred: &HashSet<Key>,
    ) -> Result<(), Error> {
        let is_gone = |digest: &Digest| {
            let key = Key::from(digest);
            touched.contains(&key) && self.index().get(&key).is_none()
        };
        for digest in self.manifests(host, repository)? {
            if is_gone(&digest) {
                remove(&self.layout().manifest_record(host, repository, &digest))?;
            }
        }
        for subject in digests(&self.layout().referrers_records(host, repository))? {
            if is_gone(&subject) {
                remove(&self.layout().referrers_record(host, repository, &subject))?;
            }
        }
        for StoredTag { tag, record, .. } in self.tags(host, repository)? {
            if is_gone(&record.digest) {
                self.remove_tag(host, repository, &tag)?;
            }
        }
        for digest in digests(&self.layout().memberships(host, repository))? {
            if is_gone(&digest) && !referred.contains(&Key::from(&digest)) {
                remove(&self.layout().membership(host, repository, &digest))?;
            }
        }
        Ok(())
    }
}

fn below(
    directory: &Path,
    host: &RegistryHost,
    name: &str,
    each: &mut dyn FnMut(&RegistryHost, &Repository) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut is_repository = false;
    for entry in list(directory)? {
        let component = entry.file_name();
        let Some(component) = component.to_str() else {
            continue;
        };
        if component.starts_with('_') {
            is_repository = true;
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let separator = if name.is_empty() { "" } else { "/" };
            let name = format!("{name}{separator}{component}");
            below(&entry.path(), host, &name, each)?;
        }
    }
    match Repository::parse(name).filter(|_| is_repository) {
        Some(repository) => each(host, &repository),
        None => Ok(()),
    }
}

/// The digests that the files of a directory of records are named by.
fn digests(root: &Path) -> Result<Vec<Digest>, Error> {
    let mut digests = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for entry in list(&root.join(algorithm.as_str()))? {
            let name = entry.file_name();
            digests.extend(
                name.to_str()
                    .and_then(|hex| Digest::parse(&format!("{}:{hex}", algorithm.as_str())).ok()),
            );
        }
    }
    Ok(digests)
}

fn remove(path: &Path) -> Result<(), Error> {
    match step(|| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
