//! What should become of each directory, given the files that were handed over and how the caches are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::{Bundle, CacheFiles, Entry, Target};
use super::health::{Health, Verdict};
use super::plan::Wish;

/// What is known of the caches, by whom to ask.
pub type Healths = BTreeMap<BTreeSet<Target>, Health>;

/// The decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// By directory. A directory that is not named here stays as it is.
    pub directories: BTreeMap<String, Wish>,
    /// Directories that a cache does not get, because another one has them: by the file of the bundle.
    pub taken: BTreeMap<String, Vec<String>>,
}

/// Decides. `recorded` are the directories that were changed before, with the file of the bundle that they come from.
pub fn decide(bundle: &Bundle, healths: &Healths, recorded: &BTreeMap<String, String>) -> Wishes {
    let mut wishes = Wishes::default();
    let mut claimed: BTreeSet<&str> = BTreeSet::new();
    for (source, entry) in bundle {
        let Entry::Cache(files) = entry else {
            continue;
        };
        let verdict = verdict(files, healths);
        for (directory, contents) in &files.directories {
            if !claimed.insert(directory) {
                let taken = wishes.taken.entry(source.clone()).or_default();
                taken.push(directory.clone());
                continue;
            }
            let wish = match verdict {
                Verdict::Wait => continue,
                Verdict::Withdraw => Wish::Restore,
                Verdict::Install => Wish::Install {
                    source: source.clone(),
                    files: contents.clone(),
                    confidential: files.confidential,
                },
            };
            wishes.directories.insert(directory.clone(), wish);
        }
    }
    for (directory, source) in recorded {
        let broken = matches!(bundle.get(source), Some(Entry::Broken { .. }));
        if !claimed.contains(directory.as_str()) && !broken {
            wishes.directories.insert(directory.clone(), Wish::Restore);
        }
    }
    wishes
}

/// What should become of a cache's files.
pub fn verdict(files: &CacheFiles, healths: &Healths) -> Verdict {
    if files.forbids_fallback {
        return Verdict::Install;
    }
    healths
        .get(&files.targets)
        .map_or(Verdict::Wait, Health::verdict)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crds::node_agent::WiredCache;

    use super::*;
    use crate::node_agent::bundle::parse;

    const HOSTS: &str = "server = \"https://up\"\n[host.\"http://cache:5000\"]\n";

    fn entry(namespace: &str, directories: &[&str], hosts: &str) -> Entry {
        let files = || BTreeMap::from([("hosts.toml".to_owned(), hosts.to_owned())]);
        let wired = WiredCache {
            format: 1,
            namespace: namespace.to_owned(),
            cache: "images".to_owned(),
            salt: None,
            directories: directories
                .iter()
                .map(|name| ((*name).to_owned(), files()))
                .collect(),
        };
        parse(&wired.to_text(), &["a".to_owned(), "b".to_owned()])
    }

    fn bundle(entries: Vec<Entry>) -> Bundle {
        entries
            .into_iter()
            .enumerate()
            .map(|(number, entry)| (number.to_string(), entry))
            .collect()
    }

    /// Every cache of the bundle after the probes.
    fn healths(bundle: &Bundle, probes: &[(u64, bool)]) -> Healths {
        let mut health = Health::default();
        let now = Instant::now();
        for (seconds, healthy) in probes {
            health.probed(*healthy, now + Duration::from_secs(*seconds));
        }
        let caches = bundle.values().filter_map(|entry| match entry {
            Entry::Cache(files) => Some((files.targets.clone(), health.clone())),
            Entry::Refused { .. } | Entry::Broken { .. } => None,
        });
        caches.collect()
    }

    const GONE: [(u64, bool); 3] = [(0, false), (20, false), (40, false)];

    /// Directories and what becomes of them.
    fn outcome(bundle: &Bundle, probes: &[(u64, bool)], recorded: &[(&str, &str)]) -> String {
        let recorded = recorded
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        let wishes = decide(bundle, &healths(bundle, probes), &recorded);
        let lines = wishes
            .directories
            .iter()
            .map(|(directory, wish)| match wish {
                Wish::Install { source, .. } => format!("{directory}: install {source}"),
                Wish::Restore => format!("{directory}: restore"),
            });
        let taken = wishes
            .taken
            .iter()
            .map(|(source, names)| format!("{source} misses {}", names.join(" ")));
        lines.chain(taken).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn health_decides() {
        let bundle = bundle(vec![entry("a", &["docker.io", "quay.io"], HOSTS)]);
        assert_eq!(
            outcome(&bundle, &[(0, true)], &[]),
            "docker.io: install 0, quay.io: install 0"
        );
        assert_eq!(outcome(&bundle, &[(0, false)], &[("docker.io", "0")]), "");
        assert_eq!(
            outcome(&bundle, &GONE, &[("docker.io", "0")]),
            "docker.io: restore, quay.io: restore"
        );
    }

    #[test]
    fn nodes_that_may_not_go_past_the_cache_keep_their_files() {
        let hosts = HOSTS.replace("https://up", "http://cache:5000");
        let bundle = bundle(vec![entry("a", &["docker.io"], &hosts)]);
        assert_eq!(outcome(&bundle, &GONE, &[]), "docker.io: install 0");
    }

    #[test]
    fn what_is_no_longer_handed_over_is_restored() {
        assert_eq!(
            outcome(&Bundle::new(), &[], &[("docker.io", "0")]),
            "docker.io: restore"
        );
        let other = bundle(vec![entry("a", &["quay.io"], HOSTS)]);
        assert_eq!(
            outcome(&other, &[(0, true)], &[("docker.io", "0")]),
            "docker.io: restore, quay.io: install 0"
        );
    }

    #[test]
    fn a_namespace_that_nobody_listed_is_as_if_it_were_not_there() {
        let bundle = bundle(vec![entry("c", &["docker.io"], HOSTS)]);
        assert!(matches!(bundle["0"], Entry::Refused { .. }));
        assert_eq!(
            outcome(&bundle, &[(0, true)], &[("docker.io", "0")]),
            "docker.io: restore"
        );
    }

    #[test]
    fn a_broken_file_changes_nothing() {
        let bundle = bundle(vec![
            parse("{", &[]),
            entry(
                "a",
                &["quay.io"],
                "[host.\"http://a\"]\ncapabilities = [\"x\"]",
            ),
        ]);
        assert!(
            bundle
                .values()
                .all(|entry| matches!(entry, Entry::Broken { .. }))
        );
        assert_eq!(
            outcome(&bundle, &[], &[("docker.io", "0"), ("quay.io", "1")]),
            ""
        );
    }

    #[test]
    fn the_first_of_two_caches_gets_a_directory() {
        let bundle = bundle(vec![
            entry("a", &["docker.io"], HOSTS),
            entry("b", &["docker.io", "quay.io"], HOSTS),
        ]);
        assert_eq!(
            outcome(&bundle, &[(0, true)], &[]),
            "docker.io: install 0, quay.io: install 1, 1 misses docker.io"
        );
    }
}
