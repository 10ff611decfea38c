//! What the watches have shown, so that looking at the cluster again costs the API server nothing.
//!
//! A read that takes any version (`resourceVersion=0`) of something that is watched is answered from here ([`layer`]); every other
//! read, and one of an object that is not known, goes to the API server. What a write returns is noted before the writer sees
//! it, so nobody reads back an older state than it wrote. Of Secrets nothing but the metadata of our own is kept.

pub mod layer;
mod target;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use http_body_util::Full;
use hyper::body::Bytes;
use kube::api::ApiResource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;

use crate::render::names;
use target::Target;

/// What a watch selects by: it shows nothing of objects without it.
pub type Label = Option<(&'static str, &'static str)>;

/// Objects by kind, namespace and name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kinds: RwLock<HashMap<String, Kind>>,
    /// Told when all of a kind has become known.
    listed: Notify,
}

#[derive(Debug, Default)]
struct Kind {
    /// Only metadata is shown, and kept: reads of the rest go to the API server.
    bare: bool,
    /// The namespaces whose objects are known, `None` being every one, and the label that those objects have; `None`: all objects are.
    known: HashMap<Option<String>, Label>,
    namespaces: HashMap<String, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    objects: BTreeMap<String, Entry>,
    /// The versions in which objects went, or became unreadable: what a write returned before that is no news.
    gone: HashMap<String, u64>,
    /// Names by the cache that the objects belong to.
    instances: HashMap<String, HashSet<String>>,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    version: Option<u64>,
    labels: BTreeMap<String, String>,
    /// JSON, which takes a fraction of what the parsed object would.
    text: Bytes,
}

impl Memory {
    /// Takes part in one watch: of a kind, in one namespace or in all, with a label or without. Dropping it forgets what the
    /// watch has shown.
    pub fn feed(&self, resource: &ApiResource, namespace: Option<&str>, label: Label) -> Feed {
        Feed {
            memory: self.clone(),
            kind: target::kind(&resource.api_version, &resource.plural),
            scope: namespace.map(str::to_owned),
            label,
            bare: false,
            listed: None,
        }
    }

    /// Returns when the watches of all these kinds have shown what there is.
    pub async fn has_seen(&self, resources: &[ApiResource]) {
        loop {
            let listed = self.0.listed.notified();
            let all = self.read(|kinds| {
                resources.iter().all(|resource| {
                    let kind = kinds.get(&target::kind(&resource.api_version, &resource.plural));
                    kind.is_some_and(|kind| !kind.known.is_empty())
                })
            });
            if all {
                return;
            }
            listed.await;
        }
    }

    fn read<T>(&self, visit: impl FnOnce(&HashMap<String, Kind>) -> T) -> T {
        let kinds = self.0.kinds.read();
        visit(&kinds.unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, visit: impl FnOnce(&mut HashMap<String, Kind>) -> T) -> T {
        let kinds = self.0.kinds.write();
        visit(&mut kinds.unwrap_or_else(PoisonError::into_inner))
    }

    /// By which label the objects are known that are; `None`: none is.
    fn known(&self, target: &Target<'_>) -> Option<Label> {
        self.read(|kinds| {
            let known = &kinds.get(&target.kind)?.known;
            let here = known.get(&Some(target.namespace.to_owned()));
            here.or_else(|| known.get(&None)).copied()
        })
    }

    /// The object, if it is known; `bare`: its metadata will do.
    fn get(&self, target: &Target<'_>, name: &str, bare: bool) -> Option<Full<Bytes>> {
        self.read(|kinds| {
            let kind = kinds.get(&target.kind).filter(|kind| bare || !kind.bare)?;
            let namespace = kind.namespaces.get(target.namespace)?;
            Some(Full::new(namespace.objects.get(name)?.text.clone()))
        })
    }

    /// A list, if all of it is known; `labels` must all be there; `bare`: metadata will do.
    fn list(
        &self,
        target: &Target<'_>,
        labels: &[(String, String)],
        bare: bool,
    ) -> Option<Full<Bytes>> {
        if let Some((key, value)) = self.known(target)?
            && !labels
                .iter()
                .any(|one| (one.0.as_str(), one.1.as_str()) == (key, value))
        {
            return None;
        }
        self.read(|kinds| {
            let mut text = br#"{"apiVersion":"v1","kind":"List","metadata":{},"items":["#.to_vec();
            let kind = kinds.get(&target.kind).filter(|kind| bare || !kind.bare)?;
            let namespace = kind.namespaces.get(target.namespace);
            let selected = namespace
                .into_iter()
                .flat_map(|namespace| namespace.select(labels));
            for (at, entry) in selected.enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(&entry.text);
            }
            text.extend_from_slice(b"]}");
            Some(Full::new(Bytes::from(text)))
        })
    }

    /// Notes what the API server answered to a write.
    fn note(&self, target: &Target<'_>, answer: &[u8]) {
        let Ok(mut object) = serde_json::from_slice::<Value>(answer) else {
            return;
        };
        // Only whole objects: a read of another kind may want the rest.
        let partial = object["kind"] == "PartialObjectMetadata";
        let name = object["metadata"]["name"].as_str().map(str::to_owned);
        let (false, Some(name)) = (partial, name) else {
            return;
        };
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        if self.is_bare(target)
            && let Some(object) = object.as_object_mut()
        {
            object.retain(|field, _| ["apiVersion", "kind", "metadata"].contains(&field.as_str()));
        }
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let labels = object["metadata"]["labels"].as_object();
        let entry = Entry {
            uid: text("uid").to_owned(),
            version: text("resourceVersion").parse().ok(),
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            text: Bytes::from(object.to_string()),
        };
        self.write(|kinds| {
            // Of a kind that is not watched nothing would ever be forgotten.
            if let Some(kind) = kinds.get_mut(&target.kind) {
                let namespace = kind.namespace(target.namespace);
                let gone = namespace.gone.get(&name).copied();
                if gone.zip(entry.version).is_none_or(|(gone, new)| gone < new) {
                    namespace.put(name, entry);
                }
            }
        });
    }

    fn is_bare(&self, target: &Target<'_>) -> bool {
        self.read(|kinds| kinds.get(&target.kind).is_some_and(|kind| kind.bare))
    }

    fn forget(&self, target: &Target<'_>, name: &str) {
        self.write(|kinds| {
            if let Some(kind) = kinds.get_mut(&target.kind) {
                kind.namespace(target.namespace).remove(name);
            }
        });
    }
}

impl Kind {
    fn namespace(&mut self, name: &str) -> &mut Namespace {
        self.namespaces.entry(name.to_owned()).or_default()
    }
}

impl Namespace {
    /// Keeps the newer of two states: a watch may be behind what a write returned.
    fn put(&mut self, name: String, entry: Entry) {
        let newer_is_known = self.objects.get(&name).is_some_and(|known| {
            let versions = known.version.zip(entry.version);
            versions.is_some_and(|(known, new)| known > new)
        });
        if newer_is_known {
            return;
        }
        self.remove(&name);
        if let Some(instance) = entry.labels.get(names::INSTANCE) {
            let instance = self.instances.entry(instance.clone()).or_default();
            instance.insert(name.clone());
        }
        self.objects.insert(name, entry);
    }

    fn remove(&mut self, name: &str) {
        let Some(entry) = self.objects.remove(name) else {
            return;
        };
        if let Some(instance) = entry.labels.get(names::INSTANCE)
            && let Some(all) = self.instances.get_mut(instance)
        {
            all.remove(name);
            if all.is_empty() {
                self.instances.remove(instance);
            }
        }
    }

    fn select<'a>(
        &'a self,
        labels: &'a [(String, String)],
    ) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
        let instance = labels.iter().find(|(key, _)| key == names::INSTANCE);
        let matches = |entry: &&Entry| {
            labels
                .iter()
                .all(|(key, value)| entry.labels.get(key) == Some(value))
        };
        match instance {
            Some((_, instance)) => {
                let mut all: Vec<&String> =
                    self.instances.get(instance).into_iter().flatten().collect();
                all.sort_unstable();
                let entries = all.into_iter().filter_map(|name| self.objects.get(name));
                Box::new(entries.filter(matches))
            }
            None => Box::new(self.objects.values().filter(matches)),
        }
    }
}

/// One watch's part in the [`Memory`].
#[derive(Debug)]
pub struct Feed {
    memory: Memory,
    kind: String,
    scope: Option<String>,
    label: Label,
    bare: bool,
    /// What the list that is under way has shown so far.
    listed: Option<HashSet<(String, String)>>,
}

impl Feed {
    /// Of a watch that shows metadata only.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    fn kind<'a>(&self, kinds: &'a mut HashMap<String, Kind>) -> &'a mut Kind {
        let kind = kinds.entry(self.kind.clone()).or_default();
        kind.bare = self.bare;
        kind
    }

    /// Takes in an event, before anybody is woken by it. `text` makes JSON of an object; `None`: it can't be kept.
    pub fn take<K: Resource>(&mut self, event: &Event<K>, text: impl Fn(&K) -> Option<Vec<u8>>) {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) | Event::Apply(object) => self.put(object, text(object)),
            Event::Delete(object) => {
                let (namespace, name) = key(object);
                let uid = object.uid().unwrap_or_default();
                self.memory.write(|kinds| {
                    let namespace = self.kind(kinds).namespace(&namespace);
                    // Another one may have taken the name.
                    if namespace
                        .objects
                        .get(&name)
                        .is_some_and(|one| one.uid == uid)
                    {
                        namespace.remove(&name);
                    }
                    namespace.gone.extend(version(object).map(|at| (name, at)));
                });
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let (scope, label) = (self.scope.clone(), self.label);
                self.memory.write(|kinds| {
                    let kind = self.kind(kinds);
                    kind.retain(scope.as_deref(), |namespace, name| {
                        listed.contains(&(namespace.to_owned(), name.to_owned()))
                    });
                    kind.known.insert(scope, label);
                });
                self.memory.0.listed.notify_waiters();
            }
        }
    }

    fn put<K: Resource>(&mut self, object: &K, text: Option<Vec<u8>>) {
        let (namespace, name) = key(object);
        if let Some(listed) = &mut self.listed {
            listed.insert((namespace.clone(), name.clone()));
        }
        self.memory.write(|kinds| {
            let namespace = self.kind(kinds).namespace(&namespace);
            let Some(text) = text else {
                namespace.remove(&name);
                namespace.gone.extend(version(object).map(|at| (name, at)));
                return;
            };
            namespace.gone.remove(&name);
            let entry = Entry {
                uid: object.uid().unwrap_or_default(),
                version: version(object),
                labels: object.labels().clone(),
                text: Bytes::from(text),
            };
            namespace.put(name, entry);
        });
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.memory.write(|kinds| {
            if let Some(kind) = kinds.get_mut(&self.kind) {
                kind.known.remove(&self.scope);
                kind.retain(self.scope.as_deref(), |_, _| false);
            }
        });
    }
}

impl Kind {
    fn retain(&mut self, scope: Option<&str>, keep: impl Fn(&str, &str) -> bool) {
        for (namespace, objects) in &mut self.namespaces {
            if scope.is_some_and(|scope| scope != namespace) {
                continue;
            }
            let gone: Vec<String> = objects
                .objects
                .keys()
                .filter(|name| !keep(namespace, name))
                .cloned()
                .collect();
            for name in gone {
                objects.remove(&name);
            }
            objects.gone.clear();
        }
        self.namespaces
            .retain(|_, objects| !objects.objects.is_empty());
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

/// JSON of an object, without what only the API server needs.
pub fn text<K: Resource + Serialize>(object: &K) -> Option<Vec<u8>> {
    serde_json::to_vec(object).ok()
}

/// Likewise; one that can't be read is not kept, and its readers see for themselves.
pub fn text_if_readable<K: Resource + Serialize>(object: &DeserializeGuard<K>) -> Option<Vec<u8>> {
    object.0.as_ref().ok().and_then(text)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: u64, instance: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        let metadata = &mut object.metadata;
        metadata.namespace = Some("team-a".to_owned());
        metadata.name = Some(name.to_owned());
        metadata.uid = Some(name.to_owned());
        metadata.resource_version = Some(version.to_string());
        let label = (names::INSTANCE.to_owned(), instance.to_owned());
        metadata.labels = Some(BTreeMap::from([label]));
        object
    }

    struct Watched {
        memory: Memory,
        feed: Feed,
    }

    impl Watched {
        fn new() -> Self {
            let memory = Memory::default();
            let feed = memory.feed(&ApiResource::erase::<ConfigMap>(&()), None, None);
            Self { memory, feed }
        }

        fn take(&mut self, event: &Event<ConfigMap>) {
            self.feed.take(event, text);
        }

        fn version(&self, name: &str) -> Option<u64> {
            let target = target(name);
            self.memory.read(|kinds| {
                let namespace = kinds.get(&target.kind)?.namespaces.get("team-a")?;
                namespace.objects.get(name)?.version
            })
        }

        fn listed(&self, instance: &str) -> Option<usize> {
            let labels = [(names::INSTANCE.to_owned(), instance.to_owned())];
            let all = target("");
            self.memory.list(&all, &labels, false)?;
            self.memory.read(|kinds| {
                let namespace = kinds.get(&all.kind)?.namespaces.get("team-a");
                Some(namespace.map_or(0, |all| all.select(&labels).count()))
            })
        }
    }

    fn target(name: &str) -> Target<'_> {
        Target {
            kind: "v1/configmaps".to_owned(),
            namespace: "team-a",
            name: Some(name),
            subresource: None,
        }
    }

    #[test]
    fn list_is_known_only_when_the_watch_has_shown_all() {
        let mut watched = Watched::new();
        watched.take(&Event::Init);
        watched.take(&Event::InitApply(object("a", 1, "x")));
        assert_eq!(watched.listed("x"), None);
        assert_eq!(watched.version("a"), Some(1));
        watched.take(&Event::InitDone);
        assert_eq!(
            (watched.listed("x"), watched.listed("y")),
            (Some(1), Some(0))
        );
    }

    #[test]
    fn list_of_more_than_the_watch_selects_is_not_known() {
        let memory = Memory::default();
        let resource = ApiResource::erase::<ConfigMap>(&());
        let mut feed = memory.feed(&resource, None, Some(names::MANAGED_BY));
        feed.take(&Event::<ConfigMap>::Init, text);
        feed.take(&Event::<ConfigMap>::InitDone, text);
        let (ours, other) = (names::MANAGED_BY, ("app", "node-agent"));
        let labels = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let pairs = all.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let known = |all: &[(&str, &str)]| memory.list(&target(""), &labels(all), false).is_some();
        assert!(known(&[ours]) && known(&[ours, other]));
        assert!(!known(&[]) && !known(&[other]));
    }

    #[test]
    fn watch_that_is_behind_does_not_undo_what_a_write_returned() {
        let mut watched = Watched::new();
        watched.take(&Event::Init);
        watched.take(&Event::InitDone);
        let written = serde_json::to_vec(&object("a", 7, "x")).unwrap();
        watched.memory.note(&target("a"), &written);
        watched.take(&Event::Apply(object("a", 5, "x")));
        assert_eq!(watched.version("a"), Some(7));
        watched.take(&Event::Apply(object("a", 8, "x")));
        assert_eq!(watched.version("a"), Some(8));
        watched.take(&Event::Delete(object("a", 8, "x")));
        assert_eq!((watched.version("a"), watched.listed("x")), (None, Some(0)));
        // The answer to a write comes after the news that the object is gone.
        let written = serde_json::to_vec(&object("a", 8, "x")).unwrap();
        watched.memory.note(&target("a"), &written);
        assert_eq!(watched.version("a"), None);
        let made_anew = serde_json::to_vec(&object("a", 9, "x")).unwrap();
        watched.memory.note(&target("a"), &made_anew);
        assert_eq!(watched.version("a"), Some(9));
    }

    #[test]
    fn object_that_a_new_list_lacks_is_gone() {
        let mut watched = Watched::new();
        for names in [["a", "b"].as_slice(), &["b"]] {
            watched.take(&Event::Init);
            for name in names {
                watched.take(&Event::InitApply(object(name, 1, "x")));
            }
            watched.take(&Event::InitDone);
        }
        assert_eq!(
            (watched.version("a"), watched.version("b")),
            (None, Some(1))
        );
    }

    #[test]
    fn label_that_changes_moves_the_object_to_the_other_cache() {
        let mut watched = Watched::new();
        watched.take(&Event::Init);
        watched.take(&Event::InitApply(object("a", 1, "x")));
        watched.take(&Event::InitDone);
        watched.take(&Event::Apply(object("a", 2, "y")));
        assert_eq!(
            (watched.listed("x"), watched.listed("y")),
            (Some(0), Some(1))
        );
    }

    #[test]
    fn part_of_an_object_is_not_taken_for_the_whole() {
        let watched = Watched::new();
        let part =
            br#"{"kind":"PartialObjectMetadata","metadata":{"name":"a","resourceVersion":"1"}}"#;
        watched.memory.note(&target("a"), part);
        assert_eq!(watched.version("a"), None);
    }

    #[test]
    fn nothing_but_metadata_is_kept_where_nothing_else_is_watched() {
        let memory = Memory::default();
        let resource = ApiResource::erase::<ConfigMap>(&());
        let mut feed = memory.feed(&resource, None, None).bare();
        feed.take(&Event::<ConfigMap>::Init, text);
        feed.take(&Event::<ConfigMap>::InitDone, text);
        let mut written = object("a", 1, "x");
        written.data = Some([("key".to_owned(), "secret".to_owned())].into());
        memory.note(&target("a"), &serde_json::to_vec(&written).unwrap());
        assert!(memory.get(&target("a"), "a", false).is_none());
        assert!(memory.list(&target(""), &[], false).is_none());
        assert!(memory.get(&target("a"), "a", true).is_some());
        let kept = format!("{memory:?}");
        assert!(
            kept.contains("resourceVersion") && !kept.contains("secret"),
            "{kept}"
        );
    }

    #[test]
    fn watch_that_ends_leaves_nothing_behind() {
        let mut watched = Watched::new();
        watched.take(&Event::Init);
        watched.take(&Event::InitApply(object("a", 1, "x")));
        watched.take(&Event::InitDone);
        let Watched { memory, feed } = watched;
        drop(feed);
        assert!(memory.list(&target(""), &[], false).is_none());
        assert!(memory.get(&target("a"), "a", false).is_none());
    }
}
