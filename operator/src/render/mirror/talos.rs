//! A patch for Talos' machine configuration: documents `RegistryMirrorConfig` and `RegistryTLSConfig` since 1.12,
//! `machine.registries` before (Talos documentation, reference of both).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::registry_cache::Fallback;
use serde::Serialize;
use serde_json::json;

use super::yaml;
use crate::resolve::{Mirror, MirroredUpstream, TalosForm};

pub(super) const NAME: &str = "talos.yaml";

const API_VERSION: &str = "v1alpha1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MirrorDocument {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    endpoints: Vec<Endpoint>,
    skip_fallback: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    url: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    override_path: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TlsDocument {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    ca: String,
}

pub(super) fn patch(note: &str, mirror: &Mirror, form: TalosForm) -> String {
    match form {
        TalosForm::Documents => documents(note, mirror),
        TalosForm::MachineConfig => format!("{note}{}", yaml(&machine(mirror))),
    }
}

fn documents(note: &str, mirror: &Mirror) -> String {
    let forbid = mirror.fallback == Fallback::Forbid;
    let document = |upstream: &MirroredUpstream| {
        let cache = Endpoint {
            url: mirror.endpoint.url(),
            override_path: false,
        };
        let own = Endpoint {
            url: upstream.url(),
            override_path: upstream.repository_prefix.is_some(),
        };
        // Talos adds the registry itself, which is another one here.
        let own = (!forbid && !upstream.is_usual()).then_some(own);
        yaml(&MirrorDocument {
            api_version: API_VERSION,
            kind: "RegistryMirrorConfig",
            name: upstream.host.to_string(),
            endpoints: [cache].into_iter().chain(own).collect(),
            skip_fallback: forbid,
        })
    };
    let mut documents: Vec<String> = mirror.upstreams.iter().map(document).collect();
    if let Some(ca) = &mirror.certificate_authority {
        documents.push(yaml(&TlsDocument {
            api_version: API_VERSION,
            kind: "RegistryTLSConfig",
            name: mirror.endpoint.authority.clone(),
            ca: ca.clone(),
        }));
    }
    format!("{note}{}", documents.join("---\n"))
}

fn machine(mirror: &Mirror) -> serde_json::Value {
    let forbid = mirror.fallback == Fallback::Forbid;
    let mirrors: BTreeMap<String, serde_json::Value> = mirror
        .upstreams
        .iter()
        .map(|upstream| {
            let host = upstream.host.to_string();
            if upstream.is_usual() || forbid {
                let endpoints = [mirror.endpoint.url()];
                return (
                    host,
                    json!({"endpoints": endpoints, "skipFallback": forbid}),
                );
            }
            // Here the path is overridden for all endpoints or none.
            let endpoints = [format!("{}/v2", mirror.endpoint.url()), upstream.api()];
            (
                host,
                json!({"endpoints": endpoints, "overridePath": true, "skipFallback": false}),
            )
        })
        .collect();
    let mut registries = json!({"mirrors": mirrors});
    if let Some(ca) = &mirror.certificate_authority {
        let ca = STANDARD.encode(ca);
        registries["config"] = json!({mirror.endpoint.authority.as_str(): {"tls": {"ca": ca}}});
    }
    // What Talos did not know before 1.9 is written only where it is needed.
    if !forbid && let Some(mirrors) = registries["mirrors"].as_object_mut() {
        for mirror in mirrors.values_mut().filter_map(|one| one.as_object_mut()) {
            mirror.remove("skipFallback");
        }
    }
    json!({"machine": {"registries": registries}})
}
