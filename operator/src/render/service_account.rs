//! The pods' service account, where one is to be made.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::names::Component;
use crate::resolve::ResolvedCache;

pub(super) fn service_account(cache: &ResolvedCache) -> Option<ServiceAccount> {
    let spec = cache.service_account.as_ref()?;
    if spec.name.is_some() {
        return None;
    }
    let mut metadata = cache
        .owner
        .child(cache.owner.name.clone(), Component::CacheServer);
    metadata.annotations = Some(spec.annotations.clone()).filter(|all| !all.is_empty());
    Some(ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

/// Name of the service account. `None`: the namespace's own.
pub(super) fn name(cache: &ResolvedCache) -> Option<String> {
    let spec = cache.service_account.as_ref()?;
    Some(spec.name.as_ref().unwrap_or(&cache.owner.name).clone())
}
