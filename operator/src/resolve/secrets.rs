//! Secrets that are mounted whole for upstreams and for the bucket, such as credentials. Pure.
//!
//! A pod template names the Secret and every key that it may have, and so does not change with what the Secret holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crds::policy::{ClientCertificate, Credential};
use crds::registry_cache::{ClientCertificateSpec, CredentialSpec, SecretRef};
use crds::static_config::ObjectStorageCredentials;

use super::Problem;
use crate::observe::Observed;
use crate::render::names::Owner;

/// Keys of the Secrets that a cache names; `None`: there is no such Secret.
pub(super) type Keys = BTreeMap<String, Option<BTreeSet<String>>>;

const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const DOCKER_CONFIG: &str = ".dockerconfigjson";
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const ACCESS_KEY_ID_FILE: &str = "access-key-id";
const SECRET_ACCESS_KEY_FILE: &str = "secret-access-key";
const SESSION_TOKEN_FILE: &str = "session-token";

/// What a Secret is mounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    ClientCertificate,
    Credentials,
    Bucket,
}

/// A Secret to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedSecret {
    pub(crate) purpose: Purpose,
    pub(crate) secret: String,
    /// `upstreams[1].credentials[0].secretRef`, for messages.
    pub(crate) field: String,
}

impl Purpose {
    /// Keys that the Secret may have, and the files that they become.
    pub(crate) fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ClientCertificate => &[(CERTIFICATE, CERTIFICATE), (KEY, KEY)],
            Self::Credentials => &[
                (USERNAME, "username"),
                (PASSWORD, "password"),
                (DOCKER_CONFIG, "config.json"),
            ],
            Self::Bucket => &[
                (ACCESS_KEY_ID, ACCESS_KEY_ID_FILE),
                (SECRET_ACCESS_KEY, SECRET_ACCESS_KEY_FILE),
                ("AWS_SESSION_TOKEN", SESSION_TOKEN_FILE),
            ],
        }
    }

    /// For the names of directories and volumes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client-certificate",
            Self::Credentials => "credentials",
            Self::Bucket => "bucket",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::ClientCertificate => {
                "with the type kubernetes.io/tls and the keys tls.crt and tls.key"
            }
            Self::Credentials => {
                "with the type kubernetes.io/basic-auth and the keys username and password, or with the type kubernetes.io/dockerconfigjson and the key .dockerconfigjson"
            }
            Self::Bucket => "with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        }
    }

    fn is_served_by(self, keys: &BTreeSet<String>) -> bool {
        match self {
            Self::ClientCertificate => [CERTIFICATE, KEY].iter().all(|key| keys.contains(*key)),
            Self::Credentials => {
                keys.contains(DOCKER_CONFIG)
                    || [USERNAME, PASSWORD].iter().all(|key| keys.contains(*key))
            }
            Self::Bucket => [ACCESS_KEY_ID, SECRET_ACCESS_KEY]
                .iter()
                .all(|key| keys.contains(*key)),
        }
    }
}

impl MountedSecret {
    /// Directory in which the pods find it.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from("/etc/larder")
            .join(self.purpose.name())
            .join(&self.secret)
    }
}

/// The server's form of a credential, and the Secret to mount for it. Which files it has depends on the Secret's keys.
pub(super) fn credential(
    field: &str,
    spec: &CredentialSpec,
    secrets: &Keys,
) -> Result<(Credential, MountedSecret), Problem> {
    let secret = MountedSecret {
        purpose: Purpose::Credentials,
        secret: spec.secret_ref.name.clone(),
        field: format!("{field}.secretRef"),
    };
    let repository_prefix = spec
        .repository_prefix
        .as_ref()
        .map(|text| {
            text.parse().map_err(|error| Problem::Spec {
                field: format!("{field}.repositoryPrefix"),
                reason: format!("{error}"),
            })
        })
        .transpose()?;
    let is_docker = secrets
        .get(&secret.secret)
        .and_then(Option::as_ref)
        .is_some_and(|keys| keys.contains(DOCKER_CONFIG));
    let file = |name: &str, wanted: bool| wanted.then(|| secret.directory().join(name));
    let credential = Credential {
        repository_prefix,
        username_file: file("username", !is_docker),
        password_file: file("password", !is_docker),
        docker_config_file: file("config.json", is_docker),
        identity: None,
    };
    Ok((credential, secret))
}

/// The server's form of a client certificate, and the Secret to mount for it.
pub(super) fn client_certificate(
    field: &str,
    spec: &ClientCertificateSpec,
) -> (ClientCertificate, MountedSecret) {
    let secret = MountedSecret {
        purpose: Purpose::ClientCertificate,
        secret: spec.secret_ref.name.clone(),
        field: format!("{field}.secretRef"),
    };
    let certificate = ClientCertificate {
        certificate_file: secret.directory().join(CERTIFICATE),
        key_file: secret.directory().join(KEY),
    };
    (certificate, secret)
}

/// The server's form of the keys of a bucket, and the Secret to mount for them.
pub(super) fn bucket(field: &str, spec: &SecretRef) -> (ObjectStorageCredentials, MountedSecret) {
    let secret = MountedSecret {
        purpose: Purpose::Bucket,
        secret: spec.name.clone(),
        field: field.to_owned(),
    };
    let credentials = ObjectStorageCredentials {
        access_key_id_file: secret.directory().join(ACCESS_KEY_ID_FILE),
        secret_access_key_file: secret.directory().join(SECRET_ACCESS_KEY_FILE),
        session_token_file: Some(secret.directory().join(SESSION_TOKEN_FILE)),
    };
    (credentials, secret)
}

/// Secrets that are named and do not exist or lack a key.
pub(super) fn missing(
    observed: &Observed,
    owner: &Owner,
    secrets: &[MountedSecret],
) -> Vec<Problem> {
    let problem = |secret: &MountedSecret| {
        let (namespace, name) = (owner.namespace.clone(), secret.secret.clone());
        let (expected, field) = (secret.purpose.expected(), secret.field.clone());
        match observed.secrets.get(&secret.secret) {
            Some(Some(keys)) if secret.purpose.is_served_by(keys) => None,
            Some(Some(_)) => Some(Problem::MountedSecretKeys {
                namespace,
                name,
                expected,
                field,
            }),
            Some(None) | None => Some(Problem::MountedSecretMissing {
                namespace,
                name,
                expected,
                field,
            }),
        }
    };
    secrets.iter().filter_map(problem).collect()
}

/// One for each volume: a Secret that several upstreams name is mounted once.
pub(super) fn volumes<'a>(secrets: impl Iterator<Item = &'a MountedSecret>) -> Vec<MountedSecret> {
    let by_volume: BTreeMap<_, _> = secrets
        .map(|secret| ((secret.purpose, secret.secret.clone()), secret.clone()))
        .collect();
    by_volume.into_values().collect()
}
