//! Reads containerd's configuration from the node: the only part of this module that is not pure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::{self, RegistryConfig, imports};

/// Why the configuration is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to understand containerd's configuration")]
    Parse { source: config::Error },
}

/// Reads the file and what it imports.
pub fn read(path: &Path) -> Result<RegistryConfig, Error> {
    let parse = |source| Error::Parse { source };
    let text = read_text(path)?;
    let imported = imports(path, &text).map_err(parse)?;
    let mut files = vec![(path.to_owned(), text)];
    for pattern in imported {
        for path in matches(&pattern) {
            let text = read_text(&path)?;
            files.push((path, text));
        }
    }
    RegistryConfig::read(&files).map_err(parse)
}

fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Files that a path with a `*` in its last part stands for, in order.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, after)) = name.split_once('*') else {
        return vec![pattern.to_owned()];
    };
    let entries = pattern
        .parent()
        .and_then(|parent| fs::read_dir(parent).ok());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let length = before.len() + after.len();
        name.len() >= length && name.starts_with(before) && name.ends_with(after)
    };
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(fits)
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imported_files_are_read_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        fs::write(
            path("config.toml"),
            "imports = ['conf.d/*.toml', '/nowhere/*.toml']\n",
        )
        .unwrap();
        let set = |root: &str| {
            format!("[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{root}'\n")
        };
        fs::write(path("conf.d/20.toml"), set("/second")).unwrap();
        fs::write(path("conf.d/10.toml"), set("/first")).unwrap();
        fs::write(path("conf.d/30.toml.bak"), set("/none")).unwrap();
        let config = read(&path("config.toml")).unwrap();
        assert_eq!(config.roots, [PathBuf::from("/second")]);
    }
}
