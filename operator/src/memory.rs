//! What the watches have shown, so that looking at the cluster again costs the API server nothing.
//!
//! A read that takes any version (`resourceVersion=0`) of something that is watched is answered from here ([`layer`]); every other
//! read, and one of an object that is not known, goes to the API server. What a write returns is noted before the writer sees
//! it, so nobody reads back an older state than it wrote. Of Secrets nothing but the metadata of our own is kept.

mod feed;
pub mod layer;
mod objects;
mod target;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http_body_util::Full;
use hyper::body::Bytes;
use kube::api::ApiResource;
use serde_json::Value;
use tokio::sync::Notify;

use objects::{Entry, Kind};
use target::Target;

pub use feed::{Feed, text, text_if_readable};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::render::names;

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
