//! Opening the store, and reading content from it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::Error;
use super::layout::Layout;
use crate::oci::Digest;

/// Content of the version file.
pub const VERSION: &str = "larder-store 1";

/// One directory tree on one filesystem.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    used: AtomicU64,
    /// Makes names in `tmp/` unique within this process.
    sequence: AtomicU64,
    opened: SystemTime,
}

/// Committed content, open for reading. It stays readable when it is evicted.
#[derive(Debug, Clone)]
pub struct StoredBlob {
    pub file: Arc<File>,
    pub size: u64,
}

/// Capacity of the filesystem under the store, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    pub capacity: u64,
    pub free: u64,
}

impl Store {
    /// Opens or makes a store, and removes what a crash left unfinished.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let layout = Layout::new(root);
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        check_version(&layout)?;
        let temporary = layout.temporary();
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("empty", temporary)(error));
            }
            _ => {}
        }
        for directory in [temporary, layout.blobs(), layout.repositories()] {
            fs::create_dir_all(&directory).map_err(Error::io("create", directory))?;
        }
        sync_directory(root)?;
        Ok(Self {
            layout,
            used: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            opened: SystemTime::now(),
        })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Committed content under that digest.
    pub fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let path = self.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let size = file.metadata().map_err(Error::io("examine", path))?.len();
        Ok(Some(StoredBlob {
            file: Arc::new(file),
            size,
        }))
    }

    /// Committed content as a whole; `None` too if it is larger than `limit`.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(StoredBlob { file, size }) = self.blob(digest)?.filter(|blob| blob.size <= limit)
        else {
            return Ok(None);
        };
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut content, 0)
            .map_err(Error::io("read", self.layout.blob(digest)))?;
        Ok(Some(content))
    }

    /// Bytes of committed content.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds up what was there when the store was opened. Slow; meant for the background.
    pub fn scan(&self) -> Result<(), Error> {
        let root = self.layout.blobs();
        let mut directories = vec![root];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory).map_err(Error::io("list", &directory))?;
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                if metadata.is_dir() {
                    directories.push(entry.path());
                } else if metadata.modified().is_ok_and(|time| time < self.opened) {
                    self.used.fetch_add(metadata.len(), Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    pub fn space(&self) -> Result<Space, Error> {
        let root = self.layout.root();
        let statistics =
            rustix::fs::statvfs(root).map_err(|errno| Error::io("examine", root)(errno.into()))?;
        Ok(Space {
            capacity: statistics.f_blocks * statistics.f_frsize,
            free: statistics.f_bavail * statistics.f_frsize,
        })
    }

    pub(super) fn count(&self, added: u64, replaced: u64) {
        self.used.fetch_add(added, Ordering::Relaxed);
        self.used.fetch_sub(replaced.min(added), Ordering::Relaxed);
    }

    pub(super) fn temporary_path(&self) -> PathBuf {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.layout
            .temporary()
            .join(format!("{}-{number}", std::process::id()))
    }
}

fn check_version(layout: &Layout) -> Result<(), Error> {
    let path = layout.version();
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == VERSION => Ok(()),
        Ok(text) => Err(Error::Version {
            path: layout.root().to_owned(),
            found: text.trim().chars().take(80).collect(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if layout.blobs().exists() || layout.repositories().exists() {
                return Err(Error::NotAStore {
                    path: layout.root().to_owned(),
                });
            }
            let temporary = layout.root().join("version.tmp");
            let written = fs::write(&temporary, format!("{VERSION}\n"))
                .and_then(|()| File::open(&temporary)?.sync_all())
                .and_then(|()| fs::rename(&temporary, &path));
            written.map_err(Error::io("write", path))
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Makes a directory and its parents, each durable in its parent before something is put in it.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    make_directory(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create", path)(error))
        }
        _ => sync_directory(parent),
    }
}

pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests;
