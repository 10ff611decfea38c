//! How a watch tells the [`Memory`] what it shows.

use std::collections::{HashMap, HashSet};

use hyper::body::Bytes;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;

use super::objects::{Entry, Kind};
use super::{Label, Memory};

/// One watch's part in the [`Memory`].
#[derive(Debug)]
pub struct Feed {
    pub(super) memory: Memory,
    pub(super) kind: String,
    pub(super) scope: Option<String>,
    pub(super) label: Label,
    pub(super) bare: bool,
    /// What the list that is under way has shown so far.
    pub(super) listed: Option<HashSet<(String, String)>>,
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
