//! Objects of one kind, as they were shown last.

use std::collections::{BTreeMap, HashMap, HashSet};

use hyper::body::Bytes;

use super::Label;
use crate::render::names;

#[derive(Debug, Default)]
pub(super) struct Kind {
    /// Only metadata is shown, and kept: reads of the rest go to the API server.
    pub(super) bare: bool,
    /// The namespaces whose objects are known, `None` being every one, and the label that those objects have; `None`: all objects are.
    pub(super) known: HashMap<Option<String>, Label>,
    pub(super) namespaces: HashMap<String, Namespace>,
}

#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) objects: BTreeMap<String, Entry>,
    /// The versions in which objects went, or became unreadable: what a write returned before that is no news.
    pub(super) gone: HashMap<String, u64>,
    /// Names by the cache that the objects belong to.
    instances: HashMap<String, HashSet<String>>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) uid: String,
    pub(super) version: Option<u64>,
    pub(super) labels: BTreeMap<String, String>,
    /// JSON, which takes a fraction of what the parsed object would.
    pub(super) text: Bytes,
}

impl Kind {
    pub(super) fn namespace(&mut self, name: &str) -> &mut Namespace {
        self.namespaces.entry(name.to_owned()).or_default()
    }

    pub(super) fn retain(&mut self, scope: Option<&str>, keep: impl Fn(&str, &str) -> bool) {
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

impl Namespace {
    /// Keeps the newer of two states: a watch may be behind what a write returned.
    pub(super) fn put(&mut self, name: String, entry: Entry) {
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

    pub(super) fn remove(&mut self, name: &str) {
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

    pub(super) fn select<'a>(
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
