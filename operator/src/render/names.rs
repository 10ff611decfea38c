//! Names, labels and annotations of what is made for a cache. Pure; the other steps use them to find it again.

use std::collections::BTreeMap;

use crds::registry_cache::{MirrorSpec, MirrorTargetKind, RegistryCache};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

/// Label that every object of the operator has; watches select by it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "larder");
/// Label with the name of the cache.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Annotation with the hash of the rendered object.
pub const RENDERED_HASH: &str = "larder.dev/rendered-hash";
/// Annotation of the `ConfigMap` with the hash of its policy: a text that does not match it is nobody's last good policy.
pub const POLICY_HASH: &str = "larder.dev/policy-hash";
/// Annotation of the pod template with the hash of `static.yaml`: a change rolls the pods.
pub const STATIC_HASH: &str = "larder.dev/static-config-hash";
/// Annotation of the pod template by which `kubectl rollout restart` asks for a restart.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation of a `RegistryCache` that asks for a reconcile now.
pub const REQUESTED_AT: &str = "larder.dev/requestedAt";
/// Annotation of a pod whose change makes the kubelet sync the pod's volumes at once.
pub const POLICY_NONCE: &str = "larder.dev/policy-nonce";

/// Annotation of the `ConfigMap` with authorities: when each of them came and went.
pub const AUTHORITY_HISTORY: &str = "larder.dev/authority-history";
/// Key with authorities, in Secrets and `ConfigMap`s.
pub const AUTHORITY_KEY: &str = "ca.crt";

const NAME: (&str, &str) = ("app.kubernetes.io/name", "larder");
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "larder");
const COMPONENT: &str = "app.kubernetes.io/component";

/// Kind of the object with the server's two files, and of mirror configurations without credentials.
pub const CONFIG_MAP: &str = MirrorTargetKind::ConfigMap.as_str();

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    CacheServer,
    Mirror,
    Monitoring,
    NodeAgent,
}

impl Component {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CacheServer => "cache-server",
            Self::Mirror => "mirror",
            Self::Monitoring => "monitoring",
            Self::NodeAgent => "node-agent",
        }
    }
}

/// `ConfigMap` with the server's two files.
pub fn config_map(cache: &str) -> String {
    format!("{cache}-config")
}

/// `ConfigMap` with the authorities that clients shall trust.
pub fn authorities(cache: &str) -> String {
    format!("{cache}-ca")
}

/// Secret with the certificate that is issued for a cache.
pub fn tls_secret(cache: &str) -> String {
    format!("{cache}-tls")
}

/// Headless Service of the pods.
pub fn pods_service(cache: &str) -> String {
    format!("{cache}-pods")
}

/// The object that holds a mirror configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorTarget {
    pub kind: MirrorTargetKind,
    pub name: String,
}

/// Where a mirror configuration goes. Credentials go into a Secret unless something else is said.
pub fn mirror_target(cache: &str, mirror: &MirrorSpec) -> MirrorTarget {
    let target = mirror.target.clone().unwrap_or_default();
    let usual = match mirror.credentials_secret_ref {
        Some(_) => MirrorTargetKind::Secret,
        None => MirrorTargetKind::ConfigMap,
    };
    MirrorTarget {
        kind: target.kind.unwrap_or(usual),
        name: target
            .name
            .unwrap_or_else(|| format!("{cache}-mirror-{}", mirror.name)),
    }
}

/// Name of one pod.
pub fn pod(cache: &str, ordinal: i32) -> String {
    format!("{cache}-{ordinal}")
}

/// Name of the volume claim of one pod.
pub fn claim(cache: &str, ordinal: i32) -> String {
    format!("store-{}", pod(cache, ordinal))
}

/// Selector of everything that belongs to a cache.
pub fn selector(cache: &str) -> String {
    format!("{}={},{INSTANCE}={cache}", MANAGED_BY.0, MANAGED_BY.1)
}

/// Selector of the mirror configurations of a cache.
pub fn mirror_selector(cache: &str) -> String {
    let component = Component::Mirror.as_str();
    format!("{},{COMPONENT}={component}", selector(cache))
}

/// The pods' immutable labels: a `StatefulSet` selects by them.
pub fn pod_labels(cache: &str) -> BTreeMap<String, String> {
    [
        NAME,
        (INSTANCE, cache),
        (COMPONENT, Component::CacheServer.as_str()),
        MANAGED_BY,
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// All labels of a child.
pub fn labels(cache: &str, component: Component) -> BTreeMap<String, String> {
    [
        NAME,
        (INSTANCE, cache),
        (COMPONENT, component.as_str()),
        MANAGED_BY,
        PART_OF,
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// A volume's name is short and has no dots, and must not change when upstreams change places.
pub fn hashed(kind: &str, text: &str) -> String {
    let digest = Sha256::digest(text);
    let hash = digest
        .iter()
        .take(5)
        .fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
    format!("{kind}-{hash:010x}")
}

/// Who a child belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

impl Owner {
    /// Metadata of a child. Nothing of the parent's own metadata is copied: its labels and annotations belong to whoever wrote them.
    pub fn child(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels(&self.name, component)),
            owner_references: Some(vec![self.reference()]),
            ..ObjectMeta::default()
        }
    }

    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: RegistryCache::api_version(&()).into_owned(),
            kind: RegistryCache::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}
