//! Opening the store, and reading content from it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Error;
use super::index::Index;
use super::layout::Layout;
use super::step::step;
use super::verify::open_unnoticed;
use crate::clock::Clock;
use crate::oci::{Algorithm, Digest};

/// Content of the version file.
pub const VERSION: &str = "larder-store 1";

/// One directory tree on one filesystem.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    index: Index,
    /// Whether the scan is over.
    pub(super) scanned: AtomicBool,
    clock: Clock,
    /// Makes names in `tmp/` unique within this process.
    sequence: AtomicU64,
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
    pub fn open(root: &Path, clock: Clock) -> Result<Self, Error> {
        let layout = Layout::new(root);
        step(|| fs::create_dir_all(root)).map_err(Error::io("create", root))?;
        check_version(&layout)?;
        match prepare(&layout, &clock) {
            // What is stored can still be served; writes fail later on, and are told of then.
            Err(error) if error.is_unwritable() => {
                tracing::error!(%error, "the store takes nothing new");
            }
            prepared => prepared?,
        }
        Ok(Self::new(layout, clock))
    }

    /// A store that another process may have open: nothing is made and nothing removed.
    pub fn look_into(root: &Path, clock: Clock) -> Result<Self, Error> {
        let layout = Layout::new(root);
        if !layout.version().exists() {
            return Err(Error::NoStore {
                path: root.to_owned(),
            });
        }
        check_version(&layout)?;
        Ok(Self::new(layout, clock))
    }

    fn new(layout: Layout, clock: Clock) -> Self {
        Self {
            layout,
            index: Index::default(),
            scanned: AtomicBool::new(false),
            clock,
            sequence: AtomicU64::new(0),
        }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Committed content under that digest. Opening it is a use.
    pub fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let path = self.layout.blob(digest);
        // The kernel would write down each use; the index does so for many at once.
        let Some(file) = open_unnoticed(&path)? else {
            return Ok(None);
        };
        let size = step(|| file.metadata())
            .map_err(Error::io("examine", path))?
            .len();
        self.touch_open(digest, &file, size);
        Ok(Some(StoredBlob {
            file: Arc::new(file),
            size,
        }))
    }

    /// Committed content as a whole, without counting as a use; `None` too if it is larger than `limit`.
    pub fn peek(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.layout.blob(digest);
        let Some(file) = open_unnoticed(&path)? else {
            return Ok(None);
        };
        let size = step(|| file.metadata())
            .map_err(Error::io("examine", &path))?
            .len();
        if size > limit {
            return Ok(None);
        }
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        step(|| file.read_exact_at(&mut content, 0)).map_err(Error::io("read", path))?;
        Ok(Some(content))
    }

    /// Committed content, without counting as a use.
    pub fn peek_file(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let path = self.layout.blob(digest);
        let Some(file) = open_unnoticed(&path)? else {
            return Ok(None);
        };
        let size = step(|| file.metadata())
            .map_err(Error::io("examine", path))?
            .len();
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
        step(|| file.read_exact_at(&mut content, 0))
            .map_err(Error::io("read", self.layout.blob(digest)))?;
        Ok(Some(content))
    }

    /// Bytes of committed content.
    pub fn used(&self) -> u64 {
        self.index.bytes()
    }

    /// What is known of the content.
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
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

    pub(super) fn temporary_path(&self) -> PathBuf {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.layout
            .temporary()
            .join(format!("{}-{number}", std::process::id()))
    }
}

/// Removes what a crash left unfinished, and makes what is missing.
fn prepare(layout: &Layout, clock: &Clock) -> Result<(), Error> {
    let temporary = layout.temporary();
    match step(|| fs::remove_dir_all(&temporary)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("empty", temporary)(error));
        }
        _ => {}
    }
    for directory in [temporary, layout.blobs(), layout.repositories()] {
        step(|| fs::create_dir_all(&directory)).map_err(Error::io("create", directory))?;
    }
    make_fans(&layout.blobs().join(Algorithm::Sha256.as_str()))?;
    // Without it, markers are files of their own.
    let _ = step(|| File::create(layout.marker()));
    // A new store counts as scrubbed. Only a hint is lost if it can't be written.
    let scrubbed = layout.last_scrub();
    if !scrubbed.exists() {
        let _ = fs::write(&scrubbed, format!("{}\n", clock.now().0));
    }
    sync_directory(layout.root())
}

fn check_version(layout: &Layout) -> Result<(), Error> {
    let path = layout.version();
    match step(|| fs::read_to_string(&path)) {
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
    match step(|| fs::metadata(path)) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        // What can't be examined may be there, and so may all that it is in.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("examine", path)(error));
        }
        _ => {}
    }
    let Some(parent) = path.parent() else {
        return Err(Error::io("create", path)(io::ErrorKind::NotFound.into()));
    };
    make_directory(parent)?;
    match step(|| fs::create_dir(path)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create", path)(error))
        }
        _ => sync_directory(parent),
    }
}

/// Makes the directories that content goes to, all at once: a first one of its kind would make a fill wait for the disk.
fn make_fans(parent: &Path) -> Result<(), Error> {
    make_directory(parent)?;
    let make = |byte: u8| match fs::create_dir(parent.join(format!("{byte:02x}"))) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    step(|| (0..=u8::MAX).try_for_each(make))
        .map_err(Error::io("create directories in", parent))?;
    sync_directory(parent)
}

pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    step(|| File::open(path)?.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests;
