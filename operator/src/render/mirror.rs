//! Mirror configuration for nodes: a `ConfigMap` for each mirror with a containerd `hosts.toml` for each upstream, and the
//! authorities to trust, which stand beside each `hosts.toml` on the node and must be there before it.

use std::fmt::Write as _;

use crds::values::Endpoint;
use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component, Owner};
use crate::resolve::{Mirror, ResolvedCache};

pub(super) fn config_maps(cache: &ResolvedCache) -> Vec<ConfigMap> {
    let config_map = |mirror: &Mirror| {
        let is_secure = mirror.endpoint.starts_with("https://");
        let authorities = cache.authorities().filter(|_| is_secure);
        let authorities = authorities.map(|authorities| &authorities.trusted);
        let files = mirror.upstreams.iter().map(|(host, fallback)| {
            (
                format!("{}.hosts.toml", host.hosts_directory()),
                hosts_toml(
                    &cache.owner,
                    &mirror.endpoint,
                    fallback,
                    authorities.is_some(),
                ),
            )
        });
        let authorities = authorities.map(|pem| (names::AUTHORITY_KEY.to_owned(), pem.clone()));
        ConfigMap {
            metadata: cache.owner.child(
                names::mirror(&cache.owner.name, &mirror.name),
                Component::Mirror,
            ),
            data: Some(files.chain(authorities).collect()),
            ..ConfigMap::default()
        }
    };
    cache.mirrors.iter().map(config_map).collect()
}

/// Neither address can hold a quote or a control character: both are checked values, or made from an IP address and a port.
fn hosts_toml(
    owner: &Owner,
    cache_endpoint: &str,
    fallback: &Endpoint,
    with_authorities: bool,
) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Made for RegistryCache {}/{}. Edit that object, not this file.",
        owner.namespace, owner.name
    );
    let _ = writeln!(text, "server = \"{fallback}\"\n");
    let _ = writeln!(text, "[host.\"{cache_endpoint}\"]");
    text.push_str("  capabilities = [\"pull\", \"resolve\"]\n");
    if with_authorities {
        // Beside this file on the node, and added to what the node trusts anyway.
        let _ = writeln!(text, "  ca = \"{}\"", names::AUTHORITY_KEY);
    }
    // Known since containerd 2.1; older versions ignore it and wait 30 s for a cache that is gone.
    text.push_str("  dial_timeout = \"2s\"\n");
    text
}
