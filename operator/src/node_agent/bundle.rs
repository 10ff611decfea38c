//! The mirror files that the operator hands over, as they are mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crds::node_agent::{HOSTS_FILE, WiredCache, hash};

use super::plan::Files;
use crate::containerd::Hosts;
use crate::containerd::hosts::Headers;

/// Why the directory can't be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {}", .path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// All files of the directory by name.
pub type Bundle = BTreeMap<String, Entry>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Cache(Box<CacheFiles>),
    /// Of a namespace that the administrator has not listed: as if it were not there.
    Refused {
        namespace: String,
        cache: String,
    },
    /// It can't be read. What an earlier version of it brought stays where it is.
    Broken {
        reason: String,
    },
}

/// The files of one cache, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFiles {
    pub namespace: String,
    pub cache: String,
    pub hash: String,
    /// Whether there are credentials in the files.
    pub confidential: bool,
    pub directories: BTreeMap<String, Files>,
    /// Whom to ask whether the cache serves.
    pub targets: BTreeSet<Target>,
    /// Whether a directory must stay although the cache does not answer: its nodes may not go past the cache.
    pub forbids_fallback: bool,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub url: String,
    /// Certificates to trust, as PEM; empty: those of the system.
    pub authorities: String,
    /// What containerd would send.
    pub headers: Headers,
}

/// Reads the directory, and that of files with credentials, which may not be there. `namespaces` are those that the
/// administrator has listed.
pub fn read(directory: &Path, confidential: &Path, namespaces: &[String]) -> Result<Bundle, Error> {
    let mut bundle = Bundle::new();
    read_one(directory, namespaces, &mut bundle)?;
    match read_one(confidential, namespaces, &mut bundle) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
        read => read?,
    }
    Ok(bundle)
}

fn read_one(directory: &Path, namespaces: &[String], bundle: &mut Bundle) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error { path, source }
    };
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Kubelet's own links and directories.
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        bundle.insert(name, parse(&text, namespaces));
    }
    Ok(())
}

/// One file's meaning.
pub fn parse(text: &str, namespaces: &[String]) -> Entry {
    let wired = match WiredCache::parse(text) {
        Ok(wired) => wired,
        Err(error) => {
            return Entry::Broken {
                reason: error.to_string(),
            };
        }
    };
    if !namespaces.contains(&wired.namespace) {
        return Entry::Refused {
            namespace: wired.namespace,
            cache: wired.cache,
        };
    }
    let mut files = CacheFiles {
        hash: hash(text),
        confidential: wired.salt.is_some(),
        namespace: wired.namespace,
        cache: wired.cache,
        directories: wired.directories,
        targets: BTreeSet::new(),
        forbids_fallback: false,
    };
    for (directory, contents) in &files.directories {
        let text = contents.get(HOSTS_FILE).map_or("", String::as_str);
        let hosts = match Hosts::parse(text) {
            Ok(hosts) => hosts,
            Err(error) => {
                return Entry::Broken {
                    reason: format!("{HOSTS_FILE} of {directory}: {error}"),
                };
            }
        };
        files.forbids_fallback |= hosts.forbids_fallback();
        for host in &hosts.hosts {
            let authorities = host.ca.iter().filter_map(|name| contents.get(name));
            files.targets.insert(Target {
                url: host.probe_url(),
                authorities: authorities.cloned().collect::<Vec<_>>().join("\n"),
                headers: host.headers.clone(),
            });
        }
    }
    Entry::Cache(Box::new(files))
}
