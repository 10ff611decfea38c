//! Uses of content: noted in memory, written to the files' access times in batches, and read back by the scan at start.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use super::Error;
use super::filesystem::Store;
use super::index::{Entry, Key, Kind, seconds};
use super::step::step;
use crate::oci::Digest;

impl Store {
    /// Notes a use of content.
    pub fn touch(&self, digest: &Digest) {
        self.index()
            .touch(&Key::from(digest), seconds(self.clock().now()));
    }

    /// Notes the use of content that was just opened.
    pub(super) fn touch_open(&self, digest: &Digest, file: &File, size: u64) {
        let key = Key::from(digest);
        let used = seconds(self.clock().now());
        if self.index().touch(&key, used) {
            return;
        }
        // The scan was not here yet, or the content was removed since it was opened.
        let gone = file
            .metadata()
            .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) == 0);
        if !gone {
            self.index().insert(Entry {
                key,
                size,
                used,
                kind: Kind::Blob,
            });
        }
    }

    /// Writes the uses since the last call to the disk. The number of files that were written to.
    pub fn write_uses(&self) -> usize {
        let changed = self.index().take_changed();
        for entry in &changed {
            let path = self.layout().blob(&entry.key.digest());
            // Only a hint is lost if it fails, such as for content that was removed meanwhile.
            let _ = rustix::fs::utimensat(
                rustix::fs::CWD,
                &path,
                &access_time(entry.used),
                rustix::fs::AtFlags::empty(),
            );
        }
        changed.len()
    }

    /// Takes up what was there when the store was opened. Slow; meant for the background.
    pub fn scan(&self) -> Result<(), Error> {
        self.each_content(&mut |digest, metadata| {
            let used = metadata
                .accessed()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .and_then(|time| u32::try_from(time.as_secs()).ok());
            self.index().insert(Entry {
                key: Key::from(&digest),
                size: metadata.len(),
                used: used.unwrap_or(0),
                kind: Kind::Blob,
            });
            Ok(true)
        })?;
        self.each_repository(&mut |host, repository| {
            for digest in self.manifests(host, repository)? {
                self.index().mark_manifest(&Key::from(&digest));
            }
            Ok(())
        })?;
        self.scanned.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the content is known not to be here, without a look at the disk. What somebody put there by hand is not known.
    pub fn surely_lacks(&self, digest: &Digest) -> bool {
        self.is_scanned() && self.index().get(&Key::from(digest)).is_none()
    }

    /// Whether the index is complete.
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::Acquire)
    }
}

/// Sets the access time, and leaves the time of the last change.
pub(super) fn access_time(used: u32) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: i64::from(used),
            tv_nsec: 0,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    }
}

/// Entries of a directory; none if it is not there.
pub(super) fn list(path: &std::path::Path) -> Result<Vec<fs::DirEntry>, Error> {
    match step(|| fs::read_dir(path)) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", path)(error)),
    }
}
