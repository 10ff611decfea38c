//! The `ConfigMap` with the server's two files, and the authorities that its clients know. The pods mount it as a directory.

use std::collections::BTreeMap;

use crds::{POLICY_FILE, STATIC_FILE};
use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component};
use crate::resolve::{KNOWN_AUTHORITIES_FILE, ResolvedCache};

pub(super) fn config_map(cache: &ResolvedCache) -> ConfigMap {
    let mut metadata = cache
        .owner
        .child(names::config_map(&cache.owner.name), Component::CacheServer);
    metadata.annotations = Some(BTreeMap::from([(
        names::POLICY_HASH.to_owned(),
        cache.policy.hash.clone(),
    )]));
    let mut data = BTreeMap::from([
        (STATIC_FILE.to_owned(), cache.static_config.to_yaml()),
        (POLICY_FILE.to_owned(), cache.policy.text.clone()),
    ]);
    data.extend(cache.accounts.clone());
    if let Some(authorities) = cache.authorities() {
        data.insert(KNOWN_AUTHORITIES_FILE.to_owned(), authorities.known.clone());
    }
    ConfigMap {
        metadata,
        data: Some(data),
        ..ConfigMap::default()
    }
}
