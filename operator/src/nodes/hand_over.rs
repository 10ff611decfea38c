//! The two objects that the agents mount: read, and written where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crds::node_agent::WiredCache;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Settings;
use super::count::Trouble;
use super::wiring::{self, CacheKey, Handed, Texts, Wiring, config_map, secret};
use crate::FIELD_MANAGER;
use crate::render::secret_texts;

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {kind} {namespace}/{name} of the node agents")]
    Read {
        kind: String,
        namespace: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("failed to write {kind} {namespace}/{name} of the node agents")]
    Write {
        kind: String,
        namespace: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("failed to make a salt: the system gives no random bytes")]
    Random,
}

/// What the agents have, as far as they may.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) wiring: Wiring,
    /// Why no agent gets what it should.
    pub(super) trouble: Option<Trouble>,
    /// Why no agent gets what holds credentials.
    pub(super) confidential_trouble: Option<Trouble>,
}

/// One of the two objects as it is.
enum Found {
    Ours(Texts),
    Absent,
    /// It belongs to somebody else, or the operator may not see it: why it is not used.
    Unusable(Trouble),
}

/// Brings both objects in line with what the caches declare.
pub(super) async fn hand_over(
    client: &Client,
    settings: &Settings,
    daemon_set_uid: &str,
    known: &BTreeSet<CacheKey>,
    declared: &BTreeMap<CacheKey, Option<WiredCache>>,
) -> Result<Outcome, Error> {
    let objects = Objects {
        client,
        settings,
        daemon_set_uid,
    };
    let open = objects
        .find(|map: ConfigMap| map.data.unwrap_or_default())
        .await?;
    let confidential = objects.find(|secret: Secret| secret_texts(&secret)).await?;
    let live = Handed {
        open: open.texts().cloned().unwrap_or_default(),
        confidential: confidential.texts().cloned().unwrap_or_default(),
    };
    let wiring = wiring::wiring(settings, known, declared, &live, &salt()?);
    let handed = &wiring.handed;
    if open.texts() != Some(&handed.open) && open.is_usable() {
        let body = config_map(settings, daemon_set_uid, handed.open.clone());
        objects.write(&body, handed.open.len()).await?;
    }
    // Where nobody needs one, there is none.
    let differs = live.confidential != handed.confidential;
    if differs && confidential.is_usable() {
        let body = secret(settings, daemon_set_uid, handed.confidential.clone());
        objects.write(&body, handed.confidential.len()).await?;
    }
    Ok(Outcome {
        wiring,
        trouble: open.trouble(),
        confidential_trouble: confidential.trouble(),
    })
}

impl Found {
    fn texts(&self) -> Option<&Texts> {
        match self {
            Self::Ours(texts) => Some(texts),
            Self::Absent | Self::Unusable(_) => None,
        }
    }

    fn is_usable(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }

    fn trouble(self) -> Option<Trouble> {
        match self {
            Self::Unusable(trouble) => Some(trouble),
            Self::Ours(_) | Self::Absent => None,
        }
    }
}

struct Objects<'a> {
    client: &'a Client,
    settings: &'a Settings,
    daemon_set_uid: &'a str,
}

impl Objects<'_> {
    async fn find<K>(&self, texts: impl FnOnce(K) -> Texts) -> Result<Found, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let Settings {
            namespace, name, ..
        } = self.settings;
        let kind = K::kind(&());
        let object = match self.api::<K>().get_opt(name).await {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Ok(Found::Unusable(Trouble::Other {
                    message: format!(
                        "The operator may not read and write {kind} {namespace}/{name}, which the node agents need: give it the right (mirrorSecrets of the chart)."
                    ),
                }));
            }
            Err(source) => {
                return Err(Error::Read {
                    kind: kind.into_owned(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    source: Box::new(source),
                });
            }
        };
        let Some(object) = object else {
            return Ok(Found::Absent);
        };
        let mut owners = object.owner_references().iter();
        let ours = owners.any(|one| one.controller == Some(true) && one.uid == self.daemon_set_uid);
        Ok(if ours {
            Found::Ours(texts(object))
        } else {
            Found::Unusable(Trouble::NotOwned {
                message: format!(
                    "{kind} {namespace}/{name} exists and does not belong to the DaemonSet of the node agents: delete it."
                ),
            })
        })
    }

    async fn write<K>(&self, body: &K, caches: usize) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let (kind, name) = (K::kind(&()), &self.settings.name);
        tracing::info!(caches, %kind, "handing mirror files to the node agents");
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = self
            .api::<K>()
            .patch(name, &parameters, &Patch::Apply(body))
            .await;
        written.map(drop).map_err(|source| Error::Write {
            kind: kind.into_owned(),
            namespace: self.settings.namespace.clone(),
            name: name.clone(),
            source: Box::new(source),
        })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
}

/// Text that nobody can guess.
fn salt() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
