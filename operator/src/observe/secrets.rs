//! The Secrets that a cache names: which keys they have, and the few values that are rendered for nodes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crds::registry_cache::RegistryCache;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use super::{Error, failed};
use crate::confidential::Confidential;
use crate::render::names;

/// Keys of Secrets; `None`: there is no such Secret.
pub type SecretKeys = BTreeMap<String, Option<BTreeSet<String>>>;

/// What of the Secrets leaves this module.
pub(super) struct Secrets {
    pub(super) keys: SecretKeys,
    /// Of those keys alone that mirrors need, by Secret and key.
    pub(super) values: BTreeMap<(String, String), Confidential>,
    /// PEM text of the authorities that clients shall trust. No secret.
    pub(super) authorities: Option<String>,
}

/// Reads the Secrets that a cache names.
pub(super) async fn secrets(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
) -> Result<Secrets, Error> {
    let api: &Api<Secret> = &Api::namespaced(client.clone(), namespace);
    let names: BTreeSet<Cow<'_, str>> = secret_names(cache).collect();
    let reads = names.into_iter().map(|name| async move {
        let secret = api
            .get_opt(&name)
            .await
            .map_err(failed(|| format!("Secret {namespace}/{name}")))?;
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        Ok((name.into_owned(), data))
    });
    let needed: BTreeSet<(&str, &str)> = rendered_keys(cache).collect();
    let source = authority_source(cache);
    let mut found = Secrets {
        keys: SecretKeys::new(),
        values: BTreeMap::new(),
        authorities: None,
    };
    for (name, data) in try_join_all(reads).await? {
        let keys = data.as_ref().map(|data| data.keys().cloned().collect());
        found.keys.insert(name.clone(), keys);
        for (key, value) in data.into_iter().flatten() {
            let is_source =
                |(secret, named): &(Cow<'_, str>, Cow<'_, str>)| *secret == name && *named == key;
            if source.as_ref().is_some_and(is_source) {
                let text = String::from_utf8_lossy(&value.0);
                found.authorities = Some(text.into_owned());
            }
            if needed.contains(&(name.as_str(), key.as_str())) {
                let place = (name.clone(), key);
                found.values.insert(place, Confidential::new(value.0));
            }
        }
    }
    Ok(found)
}

/// Secret and key with the authorities that clients shall trust.
fn authority_source(cache: &RegistryCache) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let tls = cache.spec.tls.as_ref()?;
    match &tls.ca_secret_ref {
        Some(reference) => Some((
            Cow::Borrowed(&reference.name),
            Cow::Borrowed(&reference.key),
        )),
        None => Some((tls_secret(cache)?, Cow::Borrowed(names::AUTHORITY_KEY))),
    }
}

/// Name of the Secret with the certificate for clients.
pub fn tls_secret(cache: &RegistryCache) -> Option<Cow<'_, str>> {
    let tls = cache.spec.tls.as_ref()?;
    Some(match &tls.secret_ref {
        Some(reference) => Cow::Borrowed(&reference.name),
        None => Cow::Owned(names::tls_secret(&cache.name_any())),
    })
}

/// Names of the Secrets that a cache refers to.
pub fn secret_names(cache: &RegistryCache) -> impl Iterator<Item = Cow<'_, str>> {
    let spec = &cache.spec;
    let bucket = spec.storage.object_storage.iter().flat_map(|bucket| {
        let credentials = bucket.credentials_secret_ref.iter().map(|one| &one.name);
        credentials.chain(bucket.ca_secret_ref.iter().map(|one| &one.name))
    });
    let upstreams = spec.upstreams.iter().flat_map(|upstream| {
        let authorities = upstream.ca_secret_ref.iter().map(|one| &one.name);
        let credentials = upstream.credentials.iter();
        let credentials = credentials.filter_map(|one| Some(&one.secret_ref.as_ref()?.name));
        let certificate = upstream.client_certificate.iter();
        authorities
            .chain(credentials)
            .chain(certificate.map(|one| &one.secret_ref.name))
    });
    let authorities = spec.tls.iter().filter_map(|tls| tls.ca_secret_ref.as_ref());
    let certificate = spec.access.client_certificate.iter();
    let authorities = authorities.chain(certificate.map(|one| &one.ca_secret_ref));
    let door = [
        spec.access.basic.as_ref().map(|one| &one.secret_ref),
        spec.access.token.as_ref().map(|one| &one.secret_ref),
        spec.admin_token_secret_ref.as_ref(),
    ];
    upstreams
        .chain(bucket)
        .chain(authorities.map(|reference| &reference.name))
        .chain(door.into_iter().flatten().map(|one| &one.name))
        .map(String::as_str)
        .chain(rendered_keys(cache).map(|(name, _)| name))
        .map(Cow::Borrowed)
        .chain(tls_secret(cache))
}

/// Secrets and keys whose values are rendered into mirror configurations.
pub fn rendered_keys(cache: &RegistryCache) -> impl Iterator<Item = (&str, &str)> {
    cache.spec.mirrors.iter().flat_map(|mirror| {
        let credentials = mirror.credentials_secret_ref.iter().flat_map(|one| {
            let name = one.name.as_str();
            [(name, "username"), (name, "password")]
        });
        let authority = mirror.ca_secret_ref.iter();
        credentials.chain(authority.map(|one| (one.name.as_str(), one.key.as_str())))
    })
}
