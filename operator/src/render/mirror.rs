//! Mirror configuration for nodes: a `ConfigMap` for each mirror with a containerd `hosts.toml` for each upstream.

use std::fmt::Write as _;

use crds::values::Endpoint;
use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component, Owner};
use crate::resolve::{Mirror, ResolvedCache};

pub(super) fn config_maps(cache: &ResolvedCache) -> Vec<ConfigMap> {
    let config_map = |mirror: &Mirror| {
        let files = mirror.upstreams.iter().map(|(host, fallback)| {
            (
                format!("{}.hosts.toml", host.hosts_directory()),
                hosts_toml(&cache.owner, &mirror.endpoint, fallback),
            )
        });
        ConfigMap {
            metadata: cache.owner.child(
                names::mirror(&cache.owner.name, &mirror.name),
                Component::Mirror,
            ),
            data: Some(files.collect()),
            ..ConfigMap::default()
        }
    };
    cache.mirrors.iter().map(config_map).collect()
}

/// Neither address can hold a quote or a control character: both are checked values, or made from an IP address and a port.
fn hosts_toml(owner: &Owner, cache_endpoint: &str, fallback: &Endpoint) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Made for RegistryCache {}/{}. Edit that object, not this file.",
        owner.namespace, owner.name
    );
    let _ = writeln!(text, "server = \"{fallback}\"\n");
    let _ = writeln!(text, "[host.\"{cache_endpoint}\"]");
    text.push_str("  capabilities = [\"pull\", \"resolve\"]\n");
    // Known since containerd 2.1; older versions ignore it and wait 30 s for a cache that is gone.
    text.push_str("  dial_timeout = \"2s\"\n");
    text
}
