//! Rendering without a cluster, for reviews and pipelines: files in, the same objects out that a cluster would get. Pure.
//!
//! What only a cluster knows is written as a placeholder or taken as given, and said in the notes.

mod documents;

use std::collections::{BTreeMap, BTreeSet};

use crds::registry_cache::{CredentialSpec, RegistryCache};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::confidential::Confidential;
use crate::figures::Told;
use crate::nodes::Sighting;
use crate::observe::{FoundPolicy, Live, Observed, rendered_keys, secret_names, tls_secret};
use crate::optional_apis::OptionalApis;
use crate::render::{self, render};
use crate::report::conflicts;
use crate::resolve::{self, Settings, resolve};

pub use documents::Documents;

/// Stands for the address that only a cluster gives to a Service.
pub const PLACEHOLDER: &str = "CLUSTER-IP";

/// Why nothing is rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {file}: {reason}")]
    Yaml { file: String, reason: String },
    #[error("failed to read {object} in {file}: {path}: {reason}")]
    Field {
        file: String,
        object: String,
        path: String,
        reason: String,
    },
    #[error(
        "failed to read {object} in {file}: there is no field {path}; `kubectl explain registrycache` and `kubectl explain cachepolicy` list the fields"
    )]
    UnknownField {
        file: String,
        object: String,
        path: String,
    },
    #[error("failed to read {file}: {object} is there twice")]
    Twice { file: String, object: String },
    #[error("failed to render: there is no RegistryCache in {files}")]
    NoCache { files: String },
    #[error("failed to render RegistryCache {namespace}/{name}")]
    Resolve {
        namespace: String,
        name: String,
        source: resolve::Error,
    },
    #[error("failed to render RegistryCache {namespace}/{name}")]
    Render {
        namespace: String,
        name: String,
        source: render::Error,
    },
}

/// What a cluster would get.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Whole objects, in the order in which they are applied.
    pub objects: Vec<Value>,
    /// Sentences about what was taken as given.
    pub notes: Vec<String>,
}

/// Renders every cache of the documents.
pub fn output(
    documents: &Documents,
    settings: &Settings,
    apis: &OptionalApis,
) -> Result<Output, Error> {
    if documents.caches.is_empty() {
        return Err(Error::NoCache {
            files: documents.files.join(", "),
        });
    }
    let mut output = Output {
        objects: Vec::new(),
        notes: Vec::new(),
    };
    for cache in documents.caches.values() {
        let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
        let observed = observed(documents, cache, apis, &mut output.notes);
        let failed = |source| Error::Resolve {
            namespace: namespace.clone(),
            name: name.clone(),
            source,
        };
        let resolved = resolve(&observed, settings).map_err(failed)?;
        // In a cluster they stop their own mirror only, and stand in its conditions.
        if !resolved.mirror_problems.is_empty() {
            return Err(failed(resolve::Error {
                problems: resolved.mirror_problems,
            }));
        }
        for (type_, state) in conflicts(&resolved.enforcement) {
            output.notes.push(format!(
                "RegistryCache {namespace}/{name} will be {type_}: {}",
                state.message
            ));
        }
        let manifests = render(&resolved)
            .into_apply_order()
            .map_err(|source| Error::Render {
                namespace,
                name,
                source,
            })?;
        output.objects.extend(
            manifests
                .into_iter()
                .map(|manifest| without_owner(manifest.body)),
        );
    }
    Ok(output)
}

/// An owner that is not in a cluster has no identity, and without one a reference to it is refused.
fn without_owner(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
    }
    object
}

/// What the observe step would find, as far as the documents say it.
fn observed(
    documents: &Documents,
    cache: &RegistryCache,
    apis: &OptionalApis,
    notes: &mut Vec<String>,
) -> Observed {
    let namespace = cache.namespace().unwrap_or_default();
    let key = |name: &str| (namespace.clone(), name.to_owned());
    let mut policies = BTreeMap::new();
    for reference in &cache.spec.policy_refs {
        let found = documents.policies.get(&key(&reference.name));
        let found = found.map_or(FoundPolicy::Missing, |policy| {
            FoundPolicy::Found(Box::new(policy.clone()))
        });
        policies.insert(reference.name.clone(), found);
    }
    let mut secrets = BTreeMap::new();
    let mut secret_values = BTreeMap::new();
    for name in secret_names(cache).collect::<BTreeSet<_>>() {
        let found = documents.secrets.get(&key(&name));
        for (_, key) in rendered_keys(cache).filter(|(secret, _)| *secret == name) {
            let value = match found {
                Some(values) => values.get(key).cloned(),
                None => Some(Confidential::new(placeholder(key).into_bytes())),
            };
            let place = (name.clone().into_owned(), key.to_owned());
            secret_values.extend(value.map(|value| (place, value)));
        }
        let keys = found.map(|values| values.keys().cloned().collect());
        let keys = keys.unwrap_or_else(|| {
            let keys = expected_keys(cache, &name);
            notes.push(format!(
                "Secret {namespace}/{name} is not in the files; it is taken to hold {}.",
                keys.iter().cloned().collect::<Vec<_>>().join(", ")
            ));
            keys
        });
        secrets.insert(name.into_owned(), Some(keys));
    }
    if cache.spec.tls.is_some() {
        notes.push(format!(
            "Which authorities nodes shall trust for RegistryCache {namespace}/{} is known to a cluster only; the mirrors here name none.",
            cache.name_any()
        ));
    }
    let needs_address = |mirror: &crds::registry_cache::MirrorSpec| mirror.endpoint.is_none();
    if cache.spec.mirrors.iter().any(needs_address) {
        notes.push(format!(
            "{PLACEHOLDER} stands for the address that the cluster gives to Service {namespace}/{}; say `endpoint` in the mirrors to have it here.",
            cache.name_any()
        ));
    }
    let service = ApiResource::erase::<Service>(&());
    let address = DynamicObject::new(&cache.name_any(), &service)
        .data(json!({"spec": {"clusterIP": PLACEHOLDER}}));
    Observed {
        cache: cache.clone(),
        policies,
        secrets,
        secret_values,
        live: Live::new([(service, address)]),
        pods: Vec::new(),
        claims: Vec::new(),
        apis: apis.clone(),
        authorities: None,
        time: 0,
        classes: BTreeMap::new(),
        nodes: Sighting::NotWired,
        nodes_behind: false,
        figures: Told::default(),
    }
}

/// Stands for a value of a Secret that is not in the files.
fn placeholder(key: &str) -> String {
    match key {
        "username" | "password" => key.to_uppercase(),
        _ => "-----BEGIN CERTIFICATE-----\nCERTIFICATE-AUTHORITY\n-----END CERTIFICATE-----\n"
            .to_owned(),
    }
}

/// The keys that a Secret needs for what the cache names it for.
fn expected_keys(cache: &RegistryCache, name: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut add = |more: &[&str]| keys.extend(more.iter().map(|key| (*key).to_owned()));
    for upstream in &cache.spec.upstreams {
        for authority in upstream.ca_secret_ref.iter().filter(|one| one.name == name) {
            add(&[&authority.key]);
        }
        let credentials = upstream.credentials.iter();
        let is_named =
            |one: &CredentialSpec| one.secret_ref.as_ref().is_some_and(|one| one.name == name);
        if credentials.clone().any(is_named) {
            add(&["username", "password"]);
        }
        let mut certificates = upstream.client_certificate.iter();
        if certificates.any(|one| one.secret_ref.name == name) {
            add(&["tls.crt", "tls.key"]);
        }
    }
    let spec = &cache.spec;
    if tls_secret(cache).is_some_and(|one| one == name) {
        add(&["tls.crt", "tls.key"]);
    }
    let authorities = spec.tls.iter().filter_map(|tls| tls.ca_secret_ref.as_ref());
    let certificate = spec.access.client_certificate.iter();
    for reference in authorities.chain(certificate.map(|one| &one.ca_secret_ref)) {
        if reference.name == name {
            add(&[&reference.key]);
        }
    }
    if spec
        .access
        .basic
        .iter()
        .any(|one| one.secret_ref.name == name)
    {
        add(&["auth"]);
    }
    let tokens = spec.access.token.iter().map(|one| &one.secret_ref);
    let mut tokens = tokens.chain(&spec.admin_token_secret_ref);
    if tokens.any(|one| one.name == name) {
        add(&["token"]);
    }
    for (_, key) in rendered_keys(cache).filter(|(secret, _)| *secret == name) {
        add(&[key]);
    }
    keys
}
