//! Layers whose bytes depend on nothing but their content: sorted entries, no times, no owners but root.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use super::artifact::LAYER;
use super::{Blob, Platform, digest_of};
use crate::tools::packages;

/// A compressed layer and the digest of what it was before.
#[derive(Debug, Clone)]
pub struct Layer {
    blob: Blob,
    uncompressed_digest: String,
}

impl Layer {
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    pub fn uncompressed_digest(&self) -> &str {
        &self.uncompressed_digest
    }
}

enum Entry {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: PathBuf },
}

/// Collects the entries of a layer; a later entry of the same path replaces the earlier one.
#[derive(Default)]
pub struct LayerBuilder {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Directories that current Debian merges into /usr while older packages still name them at the top.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

impl LayerBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.entries.insert(path.into(), Entry::Directory { mode });
        self
    }

    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entries.insert(
            path.into(),
            Entry::File {
                mode,
                content: content.into(),
            },
        );
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.entries.insert(
            path.into(),
            Entry::Link {
                target: target.into(),
            },
        );
        self
    }

    /// Adds all that is below `directory`, at the top of the image.
    pub fn tree(mut self, directory: &Path) -> Result<Self> {
        self.add_tree(directory, Path::new(""))?;
        Ok(self)
    }

    /// Adds the files of a Debian package, in the merged-usr layout.
    pub fn package(self, package: &str) -> Result<Self> {
        self.package_for(package, Platform::AMD64)
    }

    /// As [`Self::package`], for machines of another kind.
    pub fn package_for(mut self, package: &str, platform: Platform) -> Result<Self> {
        let directory = tempfile::tempdir().context("failed to create a directory to unpack in")?;
        packages::unpack_for(package, platform, directory.path())?;
        self.add_tree(directory.path(), Path::new(""))?;
        Ok(self.with_merged_usr())
    }

    pub fn build(&self) -> Result<Layer> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry)
                .with_context(|| format!("failed to add {}", path.display()))?;
        }
        let archive = archive
            .into_inner()
            .context("failed to end the layer's archive")?;
        let mut compressor = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::fast());
        compressor
            .write_all(&archive)
            .context("failed to compress the layer")?;
        let compressed = compressor
            .finish()
            .context("failed to end the compressed layer")?;
        Ok(Layer {
            blob: Blob::new(LAYER, compressed),
            uncompressed_digest: digest_of(&archive),
        })
    }

    fn add_tree(&mut self, directory: &Path, prefix: &Path) -> Result<()> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("failed to list {}", directory.display()))?;
        for entry in entries {
            let source = entry
                .with_context(|| format!("failed to list {}", directory.display()))?
                .path();
            let name = source
                .file_name()
                .context("a directory entry has no name")?;
            let path = prefix.join(name);
            let metadata = fs::symlink_metadata(&source)
                .with_context(|| format!("failed to look at {}", source.display()))?;
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.entries.insert(path.clone(), Entry::Directory { mode });
                self.add_tree(&source, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&source)
                    .with_context(|| format!("failed to read {}", source.display()))?;
                self.entries.insert(path, Entry::Link { target });
            } else if metadata.is_file() {
                let content = fs::read(&source)
                    .with_context(|| format!("failed to read {}", source.display()))?;
                self.entries.insert(path, Entry::File { mode, content });
            } else {
                bail!("{} is neither file, directory nor link", source.display());
            }
        }
        Ok(())
    }

    fn with_merged_usr(self) -> Self {
        let mut merged = BTreeMap::new();
        for (path, entry) in self.entries {
            let Some(top) = MERGED.into_iter().find(|top| path.starts_with(top)) else {
                merged.insert(path, entry);
                continue;
            };
            let below_usr = Path::new("usr").join(&path);
            if path != Path::new(top) {
                merged.insert(below_usr, entry);
            } else if !matches!(entry, Entry::Link { .. }) {
                merged.entry(below_usr).or_insert(entry);
            }
            merged.insert(
                top.into(),
                Entry::Link {
                    target: format!("usr/{top}").into(),
                },
            );
        }
        Self { entries: merged }
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &Path, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Directory { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            archive.append_data(
                &mut header,
                format!("{}/", path.display()),
                std::io::empty(),
            )?;
        }
        Entry::File { mode, content } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, content.as_slice())?;
        }
        Entry::Link { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::LayerBuilder;

    #[test]
    fn the_order_of_additions_does_not_change_the_layer() {
        let one = LayerBuilder::new()
            .file("b", 0o644, "2")
            .directory("a", 0o755)
            .link("c", "b");
        let other = LayerBuilder::new()
            .link("c", "b")
            .directory("a", 0o755)
            .file("b", 0o644, "2");
        let (one, other) = (one.build().unwrap(), other.build().unwrap());
        assert_eq!(one.blob().digest, other.blob().digest);
        assert_ne!(one.blob().digest, one.uncompressed_digest());
    }

    #[test]
    fn a_library_at_the_top_moves_below_usr() {
        let builder = LayerBuilder::new()
            .directory("lib64", 0o755)
            .file("lib64/ld.so", 0o755, "")
            .with_merged_usr();
        let paths: Vec<String> = builder
            .entries
            .keys()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(paths, ["lib64", "usr/lib64", "usr/lib64/ld.so"]);
    }
}
