//! Volumes of the pods' tokens: each is for one audience, and none is for the API server.

use k8s_openapi::api::core::v1::{
    ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use crate::resolve::{ResolvedCache, TOKEN_FILE};

/// Lifetime of a token. The kubelet renews it after four fifths.
const SECONDS: i64 = 3600;

pub(super) fn volumes(cache: &ResolvedCache) -> impl Iterator<Item = Volume> {
    cache.pod_tokens.iter().map(|token| Volume {
        name: token.name(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    audience: Some(token.audience.clone()),
                    expiration_seconds: Some(SECONDS),
                    path: TOKEN_FILE.to_owned(),
                }),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// Names of the volumes, and the directories that they are mounted at.
pub(super) fn directories(cache: &ResolvedCache) -> impl Iterator<Item = (String, String)> {
    let tokens = cache.pod_tokens.iter();
    tokens.map(|token| (token.name(), token.directory().display().to_string()))
}
