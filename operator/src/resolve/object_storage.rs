//! The bucket that replicas share, and the Secrets that it needs. Pure.

use std::path::PathBuf;

use crds::registry_cache::{RegistryCacheSpec, SecretKeyRef};
use crds::static_config::ObjectStorage;
use crds::values::InvalidValue;

use super::Problem;
use super::secrets::{self, MountedSecret};
use crate::observe::Observed;
use crate::render::names::Owner;

const FIELD: &str = "storage.objectStorage";
/// Where the pods find the bucket's authorities.
pub(crate) const AUTHORITIES_DIRECTORY: &str = "/etc/larder/bucket-ca";
pub(crate) const AUTHORITIES_FILE: &str = "ca.crt";

/// A checked bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    pub(super) config: Option<ObjectStorage>,
    pub(super) secret: Option<MountedSecret>,
    pub(super) authorities: Option<SecretKeyRef>,
}

/// The bucket that is declared, if one is.
pub(super) fn bucket(spec: &RegistryCacheSpec, owner: &Owner) -> Result<Bucket, Problem> {
    let Some(declared) = &spec.storage.object_storage else {
        return Ok(Bucket::default());
    };
    let endpoint = declared.endpoint.as_ref().map(|text| {
        text.parse().map_err(|error: InvalidValue| Problem::Spec {
            field: format!("{FIELD}.endpoint"),
            reason: error.to_string(),
        })
    });
    let credentials = declared
        .credentials_secret_ref
        .as_ref()
        .map(|secret| secrets::bucket(&format!("{FIELD}.credentialsSecretRef"), secret));
    let (credentials, secret) = credentials.unzip();
    let own = || format!("{}/{}", owner.namespace, owner.name);
    Ok(Bucket {
        config: Some(ObjectStorage {
            endpoint: endpoint.transpose()?,
            bucket: declared.bucket.clone(),
            region: declared.region.clone(),
            // Nobody shares what others' credentials opened by accident.
            prefix: declared.prefix.clone().unwrap_or_else(own),
            path_style: declared.path_style,
            credentials,
            ca_file: declared
                .ca_secret_ref
                .as_ref()
                .map(|_| PathBuf::from(AUTHORITIES_DIRECTORY).join(AUTHORITIES_FILE)),
        }),
        secret,
        authorities: declared.ca_secret_ref.clone(),
    })
}

/// Secrets that are named and do not exist or lack a key.
pub(super) fn missing(observed: &Observed, owner: &Owner, bucket: &Bucket) -> Vec<Problem> {
    let keys: Vec<MountedSecret> = bucket.secret.iter().cloned().collect();
    let mut problems = secrets::missing(observed, owner, &keys);
    let authorities = bucket.authorities.as_ref();
    problems.extend(authorities.and_then(|reference| {
        secrets::missing_key(observed, owner, reference, format!("{FIELD}.caSecretRef"))
    }));
    problems
}
