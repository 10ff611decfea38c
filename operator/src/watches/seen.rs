//! Which objects a watch has shown, so that only what changed wakes, and a deletion that a new list skips over is noticed.

use std::collections::{HashMap, HashSet};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

use super::CacheRef;

type Key = (Option<String>, String);

/// Objects by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Seen {
    objects: HashMap<Key, (u64, Vec<CacheRef>)>,
    /// What the list that is under way has shown so far.
    listed: Option<HashSet<Key>>,
}

impl Seen {
    /// The caches that an event wakes.
    pub(super) fn take<K: Resource>(
        &mut self,
        event: &Event<K>,
        property: impl Fn(&K) -> u64,
        targets: impl Fn(&K) -> Vec<CacheRef>,
    ) -> Vec<CacheRef> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key(object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                let property = property(object);
                let before = self.objects.get(&key);
                if before.is_some_and(|(before, _)| *before == property) {
                    return Vec::new();
                }
                let mut targets = targets(object);
                let before = self.objects.insert(key, (property, targets.clone()));
                // Those that it belonged to before, too: somebody may have changed what says so.
                for target in before.into_iter().flat_map(|(_, before)| before) {
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
                targets
            }
            Event::Delete(object) => {
                self.objects.remove(&key(object));
                targets(object)
            }
            Event::InitDone => {
                let Some(listed) = self.listed.take() else {
                    return Vec::new();
                };
                self.objects
                    .extract_if(|key, _| !listed.contains(key))
                    .flat_map(|(_, (_, targets))| targets)
                    .collect()
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector::ObjectRef;

    use super::*;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    fn take(seen: &mut Seen, event: &Event<ConfigMap>) -> Vec<String> {
        let targets = seen.take(event, super::super::version, |object| {
            vec![ObjectRef::new(&object.name_any())]
        });
        targets.into_iter().map(|target| target.name).collect()
    }

    #[test]
    fn only_changes_wake() {
        let mut seen = Seen::default();
        assert_eq!(take(&mut seen, &Event::Apply(object("a", "1"))), ["a"]);
        assert!(take(&mut seen, &Event::Apply(object("a", "1"))).is_empty());
        assert_eq!(take(&mut seen, &Event::Apply(object("a", "2"))), ["a"]);
        assert_eq!(take(&mut seen, &Event::Delete(object("a", "2"))), ["a"]);
    }

    #[test]
    fn deletion_that_was_missed_wakes() {
        let mut seen = Seen::default();
        take(&mut seen, &Event::Apply(object("a", "1")));
        take(&mut seen, &Event::Apply(object("b", "1")));
        take(&mut seen, &Event::Init);
        take(&mut seen, &Event::InitApply(object("b", "1")));
        assert_eq!(take(&mut seen, &Event::InitDone), ["a"]);
    }
}
