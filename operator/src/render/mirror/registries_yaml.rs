//! The `registries.yaml` of K3s and RKE2 (K3s documentation, private registry configuration), and the one setting that is not in it.

use std::collections::BTreeMap;

use crds::registry_cache::Fallback;
use serde::Serialize;

use super::{AUTHORITY_FILE, Files, yaml};
use crate::resolve::{Mirror, MirroredUpstream};

const NAME: &str = "registries.yaml";
const SETTINGS: &str = "config.yaml";
/// Where the authorities' file must be, since K3s takes no relative path.
const DIRECTORY: &str = "/etc/rancher/k3s";

#[derive(Serialize)]
struct Registries {
    mirrors: BTreeMap<String, Endpoints>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<String, Configuration>,
}

#[derive(Serialize)]
struct Endpoints {
    endpoint: Vec<String>,
}

#[derive(Serialize)]
struct Configuration {
    tls: Tls,
}

#[derive(Serialize)]
struct Tls {
    ca_file: String,
}

pub(super) fn files(note: &str, mirror: &Mirror) -> Files {
    let endpoints = |upstream: &MirroredUpstream| {
        let mut endpoint = vec![mirror.endpoint.url()];
        // K3s adds the registry itself, which is another one here.
        if mirror.fallback == Fallback::Allow && !upstream.is_usual() {
            endpoint.push(upstream.url());
        }
        (upstream.host.to_string(), Endpoints { endpoint })
    };
    let tls = Tls {
        ca_file: format!("{DIRECTORY}/{AUTHORITY_FILE}"),
    };
    let has_authority = mirror.certificate_authority.is_some();
    let configuration = has_authority.then_some(Configuration { tls });
    let registries = Registries {
        mirrors: mirror.upstreams.iter().map(endpoints).collect(),
        configs: configuration
            .into_iter()
            .map(|one| (mirror.endpoint.authority.clone(), one))
            .collect(),
    };
    let mut files = Files::from([(NAME.to_owned(), format!("{note}{}", yaml(&registries)))]);
    if mirror.fallback == Fallback::Forbid {
        // For the registries that have mirrors, and no others.
        let text = format!("{note}disable-default-registry-endpoint: true\n");
        files.insert(SETTINGS.to_owned(), text);
    }
    files
}
