//! Manifests in the store. Blocks; runs on the threads for that.

use bytes::Bytes;
use crds::values::RegistryHost;

use super::manifest::Stored;
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, MAXIMUM_MANIFEST, Repository};
use crate::storage;

/// What the store knows of a manifest.
pub(super) enum Found {
    /// The repository has it.
    Here(Stored),
    /// The store has the content, but not for this repository.
    Elsewhere(Bytes),
    Nowhere,
}

/// Looks a manifest up for one repository.
pub(super) fn find(
    store: &storage::Store,
    host: &RegistryHost,
    repository: &Repository,
    digest: Digest,
) -> Result<Found, storage::Error> {
    let media_type = store.manifest_type(host, repository, &digest)?;
    let Some(content) = store.read(&digest, MAXIMUM_MANIFEST)?.map(Bytes::from) else {
        return Ok(Found::Nowhere);
    };
    if let Some(media_type) = media_type {
        return Ok(Found::Here(Stored {
            digest,
            media_type: media_type.into(),
            content,
        }));
    }
    // An index of the repository refers to it: it may be served, and what it refers to becomes known now.
    if store.is_member(host, repository, &digest)
        && let Ok(manifest) = Manifest::parse(&content)
    {
        let stored = Stored {
            digest,
            media_type: manifest.media_type.into(),
            content,
        };
        keep(store, host, repository, &stored)?;
        return Ok(Found::Here(stored));
    }
    Ok(Found::Elsewhere(content))
}

/// Stores a checked manifest: content, then what it refers to, then the record, so that a record means all of it.
pub(super) fn keep(
    store: &storage::Store,
    host: &RegistryHost,
    repository: &Repository,
    stored: &Stored,
) -> Result<(), storage::Error> {
    store.put(&stored.digest, &stored.content)?;
    let references = Manifest::parse(&stored.content)
        .map(|manifest| manifest.references)
        .unwrap_or_default();
    for digest in references.iter().chain([&stored.digest]) {
        store.add_member(host, repository, digest)?;
    }
    store.put_manifest_type(host, repository, &stored.digest, stored.media_type.as_str())
}
