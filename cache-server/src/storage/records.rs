//! Small files by repository: which manifests, blobs and tags it has.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crds::values::RegistryHost;
use serde::{Deserialize, Serialize};

use super::Error;
use super::filesystem::{Store, make_directory, sync_directory};
use super::step::step;
use crate::clock::Moment;
use crate::oci::{Digest, MediaType, Repository, Tag};

/// What a tag was when the upstream was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagRecord {
    pub digest: Digest,
    pub media_type: MediaType,
    pub size: u64,
    /// Milliseconds since 1970.
    pub checked_at: Moment,
}

/// What refers to a manifest, as the upstream said when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersRecord {
    /// Milliseconds since 1970.
    pub checked_at: Moment,
    /// The text of the index.
    pub index: String,
}

impl Store {
    /// Whether the repository is known to have the content, by a manifest that refers to it or by the upstream's word.
    pub fn is_member(&self, host: &RegistryHost, repository: &Repository, digest: &Digest) -> bool {
        self.layout().membership(host, repository, digest).exists()
    }

    /// Writes down that the repository has the content.
    pub fn add_member(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let path = self.layout().membership(host, repository, digest);
        let marker = self.layout().marker();
        let link = || match step(|| fs::hard_link(&marker, &path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        match link() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(path.parent().unwrap_or(&path))?;
                link()
            }
            other => other,
        }
        // Filesystems bound the links of a file, and some have none.
        .or_else(|_| {
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(false).write(true);
            step(|| options.open(&path)).map(|_| ())
        })
        .map_err(Error::io("create", &path))
    }

    /// Media type under which the repository has the manifest.
    pub fn manifest_type(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<String>, Error> {
        read_text(&self.layout().manifest_record(host, repository, digest))
    }

    /// Writes the record of a manifest. Call it when the content and the members are there.
    pub fn put_manifest_type(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
        media_type: &str,
    ) -> Result<(), Error> {
        let path = self.layout().manifest_record(host, repository, digest);
        self.replace(&path, media_type.as_bytes())
    }

    /// The record of a tag. One that can't be read counts as none.
    pub fn tag(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<TagRecord>, Error> {
        let text = read_text(&self.layout().tag_record(host, repository, tag))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub fn put_tag(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: &Tag,
        record: &TagRecord,
    ) -> Result<(), Error> {
        let path = self.layout().tag_record(host, repository, tag);
        self.replace_json(&path, record)
    }

    pub fn remove_tag(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<(), Error> {
        let path = self.layout().tag_record(host, repository, tag);
        match step(|| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// What was said about the referrers of a manifest. A record that can't be read counts as none.
    pub fn referrers(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<ReferrersRecord>, Error> {
        let path = self.layout().referrers_record(host, repository, subject);
        Ok(read_text(&path)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub fn put_referrers(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        subject: &Digest,
        record: &ReferrersRecord,
    ) -> Result<(), Error> {
        let path = self.layout().referrers_record(host, repository, subject);
        self.replace_json(&path, record)
    }

    /// The text of the policy that was last in force.
    pub fn last_good_policy(&self) -> Result<Option<String>, Error> {
        read_text(&self.layout().last_good_policy())
    }

    pub fn put_last_good_policy(&self, text: &str) -> Result<(), Error> {
        self.replace(&self.layout().last_good_policy(), text.as_bytes())
    }

    /// When all content was last read and compared; `None` if never or if it can't be told.
    pub fn last_scrub(&self) -> Result<Option<Moment>, Error> {
        let text = read_text(&self.layout().last_scrub())?;
        Ok(text.and_then(|text| text.trim().parse().ok()).map(Moment))
    }

    pub fn put_last_scrub(&self, moment: Moment) -> Result<(), Error> {
        let text = format!("{}\n", moment.0);
        self.replace(&self.layout().last_scrub(), text.as_bytes())
    }

    fn replace_json(&self, path: &Path, record: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_vec(record).map_err(|error| Error::Io {
            action: "encode",
            path: path.to_owned(),
            source: error.into(),
        })?;
        self.replace(path, &text)
    }

    /// Writes a whole file so that after a crash it is the old one or the new one.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let temporary = self.temporary_path();
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        let written = step(|| options.open(&temporary)).and_then(|mut file| {
            step(|| file.write_all(content))?;
            step(|| file.sync_all())
        });
        let directory = path.parent().unwrap_or(path);
        let moved = written
            .map_err(Error::io("write", &temporary))
            .and_then(|()| make_directory(directory))
            .and_then(|()| {
                step(|| fs::rename(&temporary, path)).map_err(Error::io("rename to", path))
            })
            .and_then(|()| sync_directory(directory));
        if moved.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        moved
    }
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match step(|| fs::read_to_string(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}
