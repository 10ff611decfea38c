//! What the agents on the nodes are handed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crds::node_agent::{FORMAT, HOSTS_FILE, WiredCache};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::ObjectMeta;

use super::Settings;
use crate::containerd::Hosts;
use crate::render::names::{self, Owner};
use crate::render::{MirrorObject, secret_data};

/// Namespace and name of a cache.
pub type CacheKey = (String, String);

/// Texts of [`WiredCache`]s by their file names: data of one of the agents' objects.
pub type Texts = BTreeMap<String, String>;

/// The data of both objects of the agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handed {
    /// Of the `ConfigMap`.
    pub open: Texts,
    /// Of the Secret.
    pub confidential: Texts,
}

/// What is to be handed over, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    pub handed: Handed,
    /// Directories that a cache does not get, with the cache that has each.
    pub taken: BTreeMap<CacheKey, Vec<(String, CacheKey)>>,
}

/// The files for nodes of this cluster, out of a cache's mirror configurations by their names. `None`: it has none for them, or the namespace
/// is not listed.
pub fn wired(
    settings: &Settings,
    owner: &Owner,
    mirrors: &[(&str, &MirrorObject)],
) -> Option<WiredCache> {
    if !settings.namespaces.contains(&owner.namespace) {
        return None;
    }
    let (_, mirror) = mirrors.iter().find(|(name, _)| *name == settings.mirror)?;
    let data = &mirror.texts();
    let suffix = format!(".{HOSTS_FILE}");
    let directories: BTreeMap<_, _> = data
        .iter()
        .filter_map(|(key, text)| {
            let directory = key.strip_suffix(&suffix)?;
            Some((directory.to_owned(), files(text, data)))
        })
        .collect();
    (!directories.is_empty()).then(|| WiredCache {
        format: FORMAT,
        namespace: owner.namespace.clone(),
        cache: owner.name.clone(),
        // The salt itself comes when it is handed over.
        salt: matches!(mirror, MirrorObject::Secret(_)).then(String::new),
        directories,
    })
}

/// A `hosts.toml` with the certificates that it names and that come with it.
fn files(hosts: &str, data: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([(HOSTS_FILE.to_owned(), hosts.to_owned())]);
    let parsed = Hosts::parse(hosts).unwrap_or_default();
    let names = parsed.hosts.into_iter().flat_map(|host| host.ca);
    files.extend(names.filter_map(|name| Some((name.clone(), data.get(&name)?.clone()))));
    files
}

impl Handed {
    fn get(&self, key: &CacheKey) -> Option<WiredCache> {
        let name = file_name(key);
        let text = self.confidential.get(&name).or(self.open.get(&name))?;
        WiredCache::parse(text).ok()
    }

    /// The text of a cache.
    pub fn text(&self, key: &CacheKey) -> Option<&String> {
        let name = file_name(key);
        self.open.get(&name).or(self.confidential.get(&name))
    }
}

/// Puts all caches together. `known` are those that exist; one of them that was not looked at since the operator's start has no
/// entry in `declared`, and keeps what is `live`. `salt` is for caches that have none yet.
pub fn wiring(
    settings: &Settings,
    known: &BTreeSet<CacheKey>,
    declared: &BTreeMap<CacheKey, Option<WiredCache>>,
    live: &Handed,
    salt: &str,
) -> Wiring {
    let mut wiring = Wiring::default();
    let mut owners: BTreeMap<String, CacheKey> = BTreeMap::new();
    let caches = settings
        .namespaces
        .iter()
        .flat_map(|namespace| known.iter().filter(move |(other, _)| other == namespace));
    for key in caches {
        let cache = match declared.get(key) {
            Some(declared) => declared.clone(),
            None => live.get(key),
        };
        let Some(mut cache) = cache else {
            continue;
        };
        cache.directories.retain(|directory, _| {
            let owner = owners
                .entry(directory.clone())
                .or_insert_with(|| key.clone());
            if owner != key {
                let taken = wiring.taken.entry(key.clone()).or_default();
                taken.push((directory.clone(), owner.clone()));
            }
            owner == key
        });
        if cache.directories.is_empty() {
            continue;
        }
        if cache.salt.is_some() {
            let before = live.get(key).and_then(|before| before.salt);
            cache.salt = Some(before.unwrap_or_else(|| salt.to_owned()));
        }
        let texts = match cache.salt {
            Some(_) => &mut wiring.handed.confidential,
            None => &mut wiring.handed.open,
        };
        texts.insert(cache.file_name(), cache.to_text());
    }
    wiring
}

/// The key of a cache in the agents' objects.
fn file_name((namespace, cache): &CacheKey) -> String {
    WiredCache {
        format: FORMAT,
        namespace: namespace.clone(),
        cache: cache.clone(),
        salt: None,
        directories: BTreeMap::new(),
    }
    .file_name()
}

/// The agents' `ConfigMap`.
pub(super) fn config_map(settings: &Settings, daemon_set_uid: &str, texts: Texts) -> ConfigMap {
    ConfigMap {
        metadata: metadata(settings, daemon_set_uid),
        data: Some(texts),
        ..ConfigMap::default()
    }
}

/// The agents' Secret.
pub(super) fn secret(settings: &Settings, daemon_set_uid: &str, texts: Texts) -> Secret {
    Secret {
        metadata: metadata(settings, daemon_set_uid),
        type_: Some("Opaque".to_owned()),
        data: Some(secret_data(texts)),
        ..Secret::default()
    }
}

fn metadata(settings: &Settings, daemon_set_uid: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(settings.name.clone()),
        namespace: Some(settings.namespace.clone()),
        labels: Some(names::labels(&settings.name, names::Component::NodeAgent)),
        owner_references: Some(vec![OwnerReference {
            api_version: DaemonSet::api_version(&()).into_owned(),
            kind: DaemonSet::kind(&()).into_owned(),
            name: settings.name.clone(),
            uid: daemon_set_uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

/// Says which directories others have.
pub(super) fn taken_message(taken: &[(String, CacheKey)]) -> String {
    let parts: Vec<String> = taken
        .iter()
        .map(|(directory, (namespace, name))| {
            format!("{directory} (RegistryCache {namespace}/{name})")
        })
        .collect();
    format!(
        "The nodes are wired to another cache for {}: leave these upstreams out of the mirror.",
        parts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "[host.\"https://cache\"]\nca = \"ca.crt\"\n";

    fn settings() -> Settings {
        Settings {
            namespace: "agents".to_owned(),
            name: "larder-node-agent".to_owned(),
            port: 5009,
            mirror: "nodes".to_owned(),
            namespaces: vec!["z".to_owned(), "a".to_owned()],
        }
    }

    fn owner(namespace: &str) -> Owner {
        Owner {
            name: "images".to_owned(),
            namespace: namespace.to_owned(),
            uid: "1".to_owned(),
        }
    }

    fn mirror(data: &[(&str, &str)]) -> MirrorObject {
        let data = data.iter();
        MirrorObject::ConfigMap(ConfigMap {
            data: Some(
                data.map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                    .collect(),
            ),
            ..ConfigMap::default()
        })
    }

    fn key(namespace: &str) -> CacheKey {
        (namespace.to_owned(), "images".to_owned())
    }

    #[test]
    fn a_mirror_is_taken_with_what_its_hosts_name() {
        let edge = mirror(&[("quay.io.hosts.toml", HOSTS)]);
        let nodes = mirror(&[
            ("docker.io.hosts.toml", HOSTS),
            ("ca.crt", "PEM"),
            ("registries.conf", "x"),
        ]);
        let mirrors = [("edge", &edge), ("nodes", &nodes)];
        let wired = wired(&settings(), &owner("a"), &mirrors).unwrap();
        insta::assert_snapshot!(wired.to_text());
    }

    #[test]
    fn only_listed_namespaces_and_the_mirror_of_that_name_are_wired() {
        let mirror = mirror(&[("docker.io.hosts.toml", HOSTS)]);
        assert!(wired(&settings(), &owner("b"), &[("nodes", &mirror)]).is_none());
        assert!(wired(&settings(), &owner("a"), &[("edge", &mirror)]).is_none());
    }

    fn together(
        known: &BTreeSet<CacheKey>,
        declared: &BTreeMap<CacheKey, Option<WiredCache>>,
        live: &Handed,
    ) -> Wiring {
        wiring(&settings(), known, declared, live, "salt")
    }

    fn declared(namespace: &str, upstreams: &[&str]) -> Option<WiredCache> {
        let data: Vec<_> = upstreams
            .iter()
            .map(|name| (format!("{name}.hosts.toml"), HOSTS))
            .collect();
        let data: Vec<_> = data.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        wired(&settings(), &owner(namespace), &[("nodes", &mirror(&data))])
    }

    #[test]
    fn the_namespace_that_is_listed_first_gets_an_upstream() {
        let known = [key("a"), key("z"), key("b")].into();
        let all = [
            (key("a"), declared("a", &["docker.io", "quay.io"])),
            (key("z"), declared("z", &["docker.io"])),
        ];
        let wiring = together(&known, &all.into(), &Handed::default());
        let handed = &wiring.handed.open;
        let keys: Vec<_> = handed.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a.images.json", "z.images.json"]);
        let second = WiredCache::parse(&handed["a.images.json"]).unwrap();
        assert_eq!(second.directories.keys().collect::<Vec<_>>(), ["quay.io"]);
        assert_eq!(
            wiring.taken,
            [(key("a"), vec![("docker.io".to_owned(), key("z"))])].into()
        );
    }

    #[test]
    fn a_restart_takes_nothing_away_from_nodes() {
        let known = [key("a")].into();
        let all = [(key("a"), declared("a", &["docker.io"]))].into();
        let before = together(&known, &all, &Handed::default());
        // Nothing is declared yet; only what exists no more goes.
        let mut live = before.handed.clone();
        live.open.insert("z.images.json".to_owned(), String::new());
        let after = together(&known, &BTreeMap::new(), &live);
        assert_eq!(after.handed, before.handed);
        let without = together(&known, &[(key("a"), None)].into(), &live);
        assert_eq!(without.handed, Handed::default());
    }

    #[test]
    fn credentials_go_their_own_way_under_a_salt_that_stays() {
        let texts = [("docker.io.hosts.toml".to_owned(), HOSTS.to_owned())];
        let secret = MirrorObject::Secret(Secret {
            data: Some(secret_data(texts.into())),
            ..Secret::default()
        });
        let known = [key("a")].into();
        let wired = wired(&settings(), &owner("a"), &[("nodes", &secret)]);
        let all = [(key("a"), wired)].into();
        let first = together(&known, &all, &Handed::default()).handed;
        assert!(first.open.is_empty());
        let handed = WiredCache::parse(&first.confidential["a.images.json"]).unwrap();
        assert_eq!(handed.salt.as_deref(), Some("salt"));
        for declared in [&all, &BTreeMap::new()] {
            let again = wiring(&settings(), &known, declared, &first, "another salt");
            assert_eq!(again.handed, first);
        }
        // The credentials are no longer asked for.
        let open = [(key("a"), declared("a", &["docker.io"]))].into();
        let after = together(&known, &open, &first).handed;
        assert!(after.confidential.is_empty() && after.open.len() == 1);
    }
}
