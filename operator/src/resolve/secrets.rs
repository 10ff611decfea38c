//! Secrets that are mounted whole: credentials for upstreams and the bucket, and of clients. Pure.
//!
//! A pod template names the Secret and every key that it may have, and so does not change with what the Secret holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crds::policy::{Access, BasicAccess, ClientCertificate, Credential, TokenAccess};
use crds::registry_cache::{
    AccessSpec, ClientCertificateSpec, CredentialSpec, SecretKeyRef, SecretRef,
};
use crds::static_config::ObjectStorageCredentials;
use crds::values::RepositoryPrefix;

use super::{Problem, spec_problem};
use crate::observe::{Observed, SecretKeys};
use crate::render::names::Owner;

const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const DOCKER_CONFIG: &str = ".dockerconfigjson";
const HTPASSWD: &str = "auth";
const TOKEN: &str = "token";
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
    /// User names with passwords that clients may show.
    Passwords,
    /// Tokens that clients may show.
    Tokens,
    /// Authorities of clients' certificates.
    ClientAuthorities,
    /// The certificate that clients see.
    Serving,
    /// What the admin port's calls must show.
    AdminToken,
    Bucket,
}

/// A Secret to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedSecret {
    pub(crate) purpose: Purpose,
    pub(crate) secret: String,
    /// The only key to mount, where the declaration names one.
    pub(crate) key: Option<String>,
    /// `upstreams[1].credentials[0].secretRef`, for messages.
    pub(crate) field: String,
}

impl Purpose {
    /// Keys that the Secret may have, and the files that they become.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ClientCertificate | Self::Serving => &[(CERTIFICATE, CERTIFICATE), (KEY, KEY)],
            Self::Passwords => &[
                (HTPASSWD, "htpasswd"),
                (USERNAME, "username"),
                (PASSWORD, "password"),
            ],
            Self::Tokens => &[(TOKEN, "tokens")],
            Self::AdminToken => &[(TOKEN, "token")],
            Self::ClientAuthorities => &[],
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
            Self::Passwords => "passwords",
            Self::Tokens => "client-tokens",
            Self::ClientAuthorities => "client-ca",
            Self::Serving => "tls",
            Self::AdminToken => "admin-token",
            Self::Bucket => "bucket",
        }
    }

    /// Whether a server can't start without it. A pod waits then, where it would end again and again.
    pub(crate) fn is_essential(self) -> bool {
        matches!(self, Self::Serving | Self::ClientAuthorities)
    }

    fn expected(self) -> &'static str {
        match self {
            Self::ClientCertificate | Self::Serving => {
                "with the type kubernetes.io/tls and the keys tls.crt and tls.key"
            }
            Self::Credentials => {
                "with the type kubernetes.io/basic-auth and the keys username and password, or with the type kubernetes.io/dockerconfigjson and the key .dockerconfigjson"
            }
            Self::Passwords => {
                "with the key auth, which holds lines of htpasswd -B, or with the type kubernetes.io/basic-auth and the keys username and password"
            }
            Self::Tokens | Self::AdminToken => "with the key token",
            Self::ClientAuthorities => "with the key ca.crt",
            Self::Bucket => "with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        }
    }

    fn is_served_by(self, keys: &BTreeSet<String>) -> bool {
        let has = |wanted: &[&str]| wanted.iter().all(|key| keys.contains(*key));
        match self {
            Self::ClientCertificate | Self::Serving => has(&[CERTIFICATE, KEY]),
            Self::Credentials => has(&[DOCKER_CONFIG]) || has(&[USERNAME, PASSWORD]),
            Self::Passwords => has(&[HTPASSWD]) || has(&[USERNAME, PASSWORD]),
            Self::Tokens | Self::AdminToken => has(&[TOKEN]),
            // Its key is the declaration's, and asked for by `missing_key`.
            Self::ClientAuthorities => true,
            Self::Bucket => has(&[ACCESS_KEY_ID, SECRET_ACCESS_KEY]),
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

    /// Keys that the Secret may have, and the files that they become.
    pub(crate) fn files(&self) -> Vec<(&str, &'static str)> {
        let named = self.key.as_deref().map(|key| (key, "ca.crt"));
        let usual = self.purpose.files().iter().copied();
        named.into_iter().chain(usual).collect()
    }

    fn new(purpose: Purpose, reference: &SecretRef, field: &str) -> Self {
        Self {
            purpose,
            secret: reference.name.clone(),
            key: None,
            field: format!("{field}.secretRef"),
        }
    }
}

/// The server's form of a credential, and the Secret to mount for it. Which files it has depends on the Secret's keys.
pub(super) fn credential(
    field: &str,
    spec: &CredentialSpec,
    reference: &SecretRef,
    secrets: &SecretKeys,
) -> Result<(Credential, MountedSecret), Problem> {
    let secret = MountedSecret::new(Purpose::Credentials, reference, field);
    let repository_prefix = repository_prefix(field, spec)?;
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
    let secret = MountedSecret::new(Purpose::ClientCertificate, &spec.secret_ref, field);
    let certificate = ClientCertificate {
        certificate_file: secret.directory().join(CERTIFICATE),
        key_file: secret.directory().join(KEY),
    };
    (certificate, secret)
}

/// The repositories that a credential is for.
pub(super) fn repository_prefix(
    field: &str,
    spec: &CredentialSpec,
) -> Result<Option<RepositoryPrefix>, Problem> {
    let prefix = spec.repository_prefix.as_ref().map(|text| {
        let parsed = text.parse::<RepositoryPrefix>();
        parsed.map_err(|error| spec_problem(&format!("{field}.repositoryPrefix"), &error))
    });
    prefix.transpose()
}

/// The server's form of what clients must show, and the Secret to mount for it.
pub(super) fn access(spec: &AccessSpec, secrets: &SecretKeys) -> (Access, Option<MountedSecret>) {
    let mut access = Access {
        client_certificate: spec.client_certificate.is_some(),
        ..Access::default()
    };
    let mut mounted = None;
    if let Some(basic) = &spec.basic {
        let secret = MountedSecret::new(Purpose::Passwords, &basic.secret_ref, "access.basic");
        let keys = secrets.get(&secret.secret).and_then(Option::as_ref);
        let is_pair = keys.is_some_and(|keys| !keys.contains(HTPASSWD));
        let file = |name: &str, wanted: bool| wanted.then(|| secret.directory().join(name));
        access.basic = Some(BasicAccess {
            htpasswd_file: file("htpasswd", !is_pair),
            username_file: file("username", is_pair),
            password_file: file("password", is_pair),
        });
        mounted = Some(secret);
    } else if let Some(token) = &spec.token {
        let secret = MountedSecret::new(Purpose::Tokens, &token.secret_ref, "access.token");
        access.token = Some(TokenAccess {
            tokens_file: secret.directory().join("tokens"),
        });
        mounted = Some(secret);
    }
    (access, mounted)
}

/// The authorities of clients' certificates, which the servers read when they start.
pub(super) fn client_authorities(reference: &SecretKeyRef) -> MountedSecret {
    MountedSecret {
        purpose: Purpose::ClientAuthorities,
        secret: reference.name.clone(),
        key: Some(reference.key.clone()),
        field: "access.clientCertificate.caSecretRef".to_owned(),
    }
}

/// The token of the admin port.
pub(super) fn admin_token(reference: &SecretRef) -> MountedSecret {
    MountedSecret {
        purpose: Purpose::AdminToken,
        secret: reference.name.clone(),
        key: None,
        field: "adminTokenSecretRef".to_owned(),
    }
}

/// A key that is named and does not exist.
pub(super) fn missing_key(
    observed: &Observed,
    owner: &Owner,
    reference: &SecretKeyRef,
    field: String,
) -> Option<Problem> {
    let namespace = owner.namespace.clone();
    let (name, key) = (reference.name.clone(), reference.key.clone());
    match observed.secrets.get(&name) {
        Some(Some(keys)) if keys.contains(&key) => None,
        Some(Some(_)) => Some(Problem::SecretKeyMissing {
            namespace,
            name,
            key,
            field,
        }),
        Some(None) | None => Some(Problem::SecretMissing {
            namespace,
            name,
            key,
            field,
        }),
    }
}

/// The server's form of the keys of a bucket, and the Secret to mount for them.
pub(super) fn bucket(field: &str, spec: &SecretRef) -> (ObjectStorageCredentials, MountedSecret) {
    let secret = MountedSecret {
        purpose: Purpose::Bucket,
        secret: spec.name.clone(),
        key: None,
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
pub(super) fn missing<'a>(
    observed: &Observed,
    owner: &Owner,
    secrets: impl IntoIterator<Item = &'a MountedSecret>,
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
    secrets.into_iter().filter_map(problem).collect()
}

/// One for each volume: a Secret that several upstreams name is mounted once.
pub(super) fn volumes<'a>(secrets: impl Iterator<Item = &'a MountedSecret>) -> Vec<MountedSecret> {
    let by_volume: BTreeMap<_, _> = secrets
        .map(|secret| ((secret.purpose, secret.secret.clone()), secret.clone()))
        .collect();
    by_volume.into_values().collect()
}
