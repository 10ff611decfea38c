//! The `ConfigMap` with the server's two files. The pods mount it as a directory.

use std::collections::BTreeMap;

use crds::{POLICY_FILE, STATIC_FILE};
use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component};
use crate::resolve::ResolvedCache;

pub(super) fn config_map(cache: &ResolvedCache) -> ConfigMap {
    let mut metadata = cache
        .owner
        .child(names::config_map(&cache.owner.name), Component::CacheServer);
    metadata.annotations = Some(BTreeMap::from([(
        names::POLICY_HASH.to_owned(),
        cache.policy.hash.clone(),
    )]));
    ConfigMap {
        metadata,
        data: Some(BTreeMap::from([
            (STATIC_FILE.to_owned(), cache.static_config.to_yaml()),
            (POLICY_FILE.to_owned(), cache.policy.text.clone()),
        ])),
        ..ConfigMap::default()
    }
}
