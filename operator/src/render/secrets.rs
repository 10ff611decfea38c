//! Volumes of the Secrets that a cache names. None of them changes with what a Secret holds.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume};

use super::names::hashed;
use crate::resolve::object_storage::{AUTHORITIES_DIRECTORY, AUTHORITIES_FILE};
use crate::resolve::{CaSecret, MountedSecret, ResolvedCache};

const BUCKET_AUTHORITIES: &str = "bucket-ca";

pub(super) fn volumes(cache: &ResolvedCache) -> Vec<Volume> {
    let authorities = cache.ca_secrets.iter().map(|secret| {
        let files = [(secret.key.as_str(), secret.key.as_str())];
        volume(authorities_name(secret), &secret.secret, &files, true)
    });
    let others = cache.secrets.iter().map(|secret| {
        let optional = !secret.purpose.is_essential();
        volume(name(secret), &secret.secret, &secret.files(), optional)
    });
    let bucket = cache.bucket_authorities.as_ref().map(|secret| {
        let files = [(secret.key.as_str(), AUTHORITIES_FILE)];
        volume(BUCKET_AUTHORITIES.to_owned(), &secret.name, &files, true)
    });
    authorities.chain(others).chain(bucket).collect()
}

/// Names of the volumes, and the directories that they are mounted at.
pub(super) fn directories(cache: &ResolvedCache) -> Vec<(String, String)> {
    let authorities = cache
        .ca_secrets
        .iter()
        .map(|secret| (authorities_name(secret), secret.directory()));
    let others = cache
        .secrets
        .iter()
        .map(|secret| (name(secret), secret.directory()));
    let bucket = cache.bucket_authorities.iter().map(|_| {
        let path = PathBuf::from(AUTHORITIES_DIRECTORY);
        (BUCKET_AUTHORITIES.to_owned(), path)
    });
    authorities
        .chain(others)
        .chain(bucket)
        .map(|(name, path)| (name, path.display().to_string()))
        .collect()
}

/// Most are optional, so that a pod can start while the Secret or one of its keys is gone.
fn volume(name: String, secret: &str, files: &[(&str, &str)], optional: bool) -> Volume {
    let item = |(key, path): &(&str, &str)| KeyToPath {
        key: (*key).to_owned(),
        path: (*path).to_owned(),
        ..KeyToPath::default()
    };
    Volume {
        name,
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            optional: Some(optional),
            items: Some(files.iter().map(item).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn name(secret: &MountedSecret) -> String {
    hashed(secret.purpose.name(), &secret.secret)
}

fn authorities_name(secret: &CaSecret) -> String {
    hashed("ca", secret.host.as_str())
}
