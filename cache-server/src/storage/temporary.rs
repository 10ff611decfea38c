//! A blob on its way in: written at offsets into `tmp/`, then committed under its digest or, if dropped, removed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::Error;
use super::commit::Finished;
use super::filesystem::Store;
use super::index::{Key, Kind};
use super::step::step;
use crate::oci::Digest;

/// An uncommitted file. Dropping it removes it; open handles go on reading.
#[derive(Debug)]
pub struct TemporaryBlob {
    file: Arc<File>,
    path: Option<PathBuf>,
}

impl Store {
    pub fn begin(&self) -> Result<TemporaryBlob, Error> {
        let path = self.temporary_path();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = step(|| options.open(&path)).map_err(Error::io("create", &path))?;
        Ok(TemporaryBlob {
            file: Arc::new(file),
            path: Some(path),
        })
    }

    /// Stores a manifest, which is whole in memory, under the digest that the caller has checked.
    pub fn put(&self, digest: &Digest, content: &[u8]) -> Result<(), Error> {
        if self.layout().blob(digest).exists() {
            self.index().mark_manifest(&Key::from(digest));
            return Ok(());
        }
        let blob = self.begin()?;
        blob.write_at(content, 0)?;
        self.commit(Finished {
            blob,
            digest: digest.clone(),
            size: content.len() as u64,
            kind: Kind::Manifest,
            member_of: None,
        })
    }
}

impl TemporaryBlob {
    /// For readers. They must not read beyond what was written.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Sets the room aside that the content will need, so that a full disk is known before anybody was promised it.
    pub fn set_aside(&self, size: u64) -> Result<(), Error> {
        if size == 0 {
            return Ok(());
        }
        let keep_size = FallocateFlags::KEEP_SIZE;
        let done = step(
            || match rustix::fs::fallocate(&self.file, keep_size, 0, size) {
                // Some filesystems can't; writing will show.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
        );
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(Error::io(
                "set room aside for",
                self.path.clone().unwrap_or_default(),
            )(error)),
        }
    }

    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        step(|| self.file.write_all_at(bytes, offset))
            .map_err(Error::io("write", self.path.clone().unwrap_or_default()))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        step(|| self.file.sync_all())
            .map_err(Error::io("sync", self.path.clone().unwrap_or_default()))
    }

    /// Moves it to its place, over what may be there.
    pub(super) fn rename(mut self, target: &Path) -> Result<(), Error> {
        if let Some(path) = &self.path {
            step(|| fs::rename(path, target)).map_err(Error::io("rename to", target))?;
        }
        self.path = None;
        Ok(())
    }

    /// Fills the buffer with what was written at that place.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        step(|| self.file.read_exact_at(bytes, offset))
            .map_err(Error::io("read", self.path.clone().unwrap_or_default()))
    }
}

impl Drop for TemporaryBlob {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
