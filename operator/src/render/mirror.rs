//! Mirror configuration for nodes: an object for each mirror, with the files that its runtime reads.

mod daemon_json;
mod hosts_toml;
mod kubeadm_files;
mod registries_conf;
mod registries_yaml;
mod talos;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::Serialize;

use super::names::{Component, MirrorTarget, Owner};
use crate::resolve::{Mirror, ResolvedCache, Runtime};
use crds::registry_cache::MirrorTargetKind;

/// Key of the certificate authorities by which nodes know the cache. Every runtime has a place for such a file.
const AUTHORITY_FILE: &str = "ca.crt";

/// Keys of an object, and what stands there.
type Files = BTreeMap<String, String>;

/// What holds a mirror configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum MirrorObject {
    ConfigMap(ConfigMap),
    Secret(Secret),
}

pub(super) fn objects(cache: &ResolvedCache) -> Vec<MirrorObject> {
    let object = |mirror: &Mirror| {
        let target = &mirror.target;
        let metadata = cache.owner.child(target.name.clone(), Component::Mirror);
        let files = files(&cache.owner, mirror);
        match target.kind {
            MirrorTargetKind::ConfigMap => MirrorObject::ConfigMap(ConfigMap {
                metadata,
                data: Some(files),
                ..ConfigMap::default()
            }),
            MirrorTargetKind::Secret => MirrorObject::Secret(Secret {
                metadata,
                type_: Some("Opaque".to_owned()),
                data: Some(secret_data(files)),
                ..Secret::default()
            }),
        }
    };
    cache.mirrors.iter().map(object).collect()
}

/// What is rendered for a mirror, as its runtime calls it: a name for each kind of file.
pub fn formats(owner: &Owner, mirror: &Mirror) -> Vec<String> {
    let format = |key: String| match key.strip_suffix(hosts_toml::SUFFIX) {
        Some(_) => hosts_toml::NAME.to_owned(),
        None => key,
    };
    let files = files(owner, mirror).into_keys();
    let formats: BTreeSet<String> = files.map(format).collect();
    formats.into_iter().collect()
}

/// Everything that stands in the files is checked: no host, address or name holds a quote, a space or a control character.
fn files(owner: &Owner, mirror: &Mirror) -> Files {
    let note = note(owner);
    let mut files = match mirror.runtime {
        Runtime::Containerd(containerd) => hosts_toml::files(&note, mirror, containerd),
        Runtime::ClusterApi(containerd) => {
            let mut files = hosts_toml::files(&note, mirror, containerd);
            let fragment = kubeadm_files::fragment(&note, mirror, &files);
            match mirror.target.kind {
                // The fragment has everything in it.
                MirrorTargetKind::ConfigMap => files.clear(),
                MirrorTargetKind::Secret => {}
            }
            files.insert(kubeadm_files::NAME.to_owned(), fragment);
            files
        }
        Runtime::Crio => registries_conf::files(&note, mirror),
        Runtime::K3s => registries_yaml::files(&note, mirror),
        Runtime::Talos(form) => {
            [(talos::NAME.to_owned(), talos::patch(&note, mirror, form))].into()
        }
        Runtime::Docker => [(daemon_json::NAME.to_owned(), daemon_json::file(mirror))].into(),
    };
    // Inside of what is one file for all anyway.
    let within = match mirror.runtime {
        Runtime::Talos(_) => true,
        Runtime::ClusterApi(_) => mirror.target.kind == MirrorTargetKind::ConfigMap,
        _ => false,
    };
    if let Some(authority) = mirror.certificate_authority.clone().filter(|_| !within) {
        files.insert(AUTHORITY_FILE.to_owned(), authority);
    }
    files
}

/// Texts as a Secret's data.
pub fn secret_data(texts: BTreeMap<String, String>) -> BTreeMap<String, ByteString> {
    let bytes = |(key, text): (String, String)| (key, ByteString(text.into_bytes()));
    texts.into_iter().map(bytes).collect()
}

/// What [`secret_data`] was made from.
pub fn secret_texts(secret: &Secret) -> BTreeMap<String, String> {
    let text = |(key, bytes): (&String, &ByteString)| {
        (key.clone(), String::from_utf8_lossy(&bytes.0).into_owned())
    };
    secret.data.iter().flatten().map(text).collect()
}

fn note(owner: &Owner) -> String {
    format!(
        "# Made for RegistryCache {}/{}. Edit that object, not this file.\n",
        owner.namespace, owner.name
    )
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).expect("plain data has a YAML form")
}

impl MirrorObject {
    /// The files in it.
    pub fn texts(&self) -> BTreeMap<String, String> {
        match self {
            Self::ConfigMap(object) => object.data.clone().unwrap_or_default(),
            Self::Secret(object) => secret_texts(object),
        }
    }

    /// Kind and name.
    pub(crate) fn target(&self) -> MirrorTarget {
        let (kind, metadata) = match self {
            Self::ConfigMap(object) => (MirrorTargetKind::ConfigMap, &object.metadata),
            Self::Secret(object) => (MirrorTargetKind::Secret, &object.metadata),
        };
        MirrorTarget {
            kind,
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
