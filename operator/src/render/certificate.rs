//! The `Certificate` that cert-manager issues, and the `ConfigMap` with the authorities that clients shall trust.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::names::{self, Component};
use crate::resolve::ResolvedCache;

pub(super) fn certificate(cache: &ResolvedCache) -> Option<Value> {
    let tls = cache.tls.as_ref()?;
    let request = tls.request.as_ref()?;
    let metadata = cache
        .owner
        .child(cache.owner.name.clone(), Component::CacheServer);
    let issuer = &request.issuer;
    Some(json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": metadata,
        "spec": {
            "secretName": tls.secret.secret,
            "dnsNames": request.names,
            "ipAddresses": request.addresses,
            "usages": ["digital signature", "key encipherment", "server auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
        },
    }))
}

/// Also what the operator remembers of authorities that went.
pub(super) fn authorities(cache: &ResolvedCache) -> Option<ConfigMap> {
    let authorities = cache.authorities()?;
    let mut metadata = cache.owner.child(
        names::authorities(&cache.owner.name),
        Component::CacheServer,
    );
    metadata.annotations = Some(BTreeMap::from([(
        names::AUTHORITY_HISTORY.to_owned(),
        authorities.history.clone(),
    )]));
    Some(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(
            names::AUTHORITY_KEY.to_owned(),
            authorities.trusted.clone(),
        )])),
        ..ConfigMap::default()
    })
}
