//! What was checked gets its name. Several at a time share what durability costs: a filesystem writes its journal once for
//! all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crds::values::RegistryHost;
use std::io;

use super::filesystem::{Store, make_directory, sync_directory};
use super::index::{Entry, Key, Kind, seconds};
use super::recency::access_time;
use super::{Error, TemporaryBlob};
use crate::oci::{Digest, Repository};

/// Whole content, whose digest was checked.
#[derive(Debug)]
pub struct Finished {
    pub blob: TemporaryBlob,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub kind: Kind,
    /// Who is known to have it.
    pub member_of: Option<(RegistryHost, Repository)>,
}

/// The same, when it is on the disk for good.
#[derive(Debug)]
pub struct Synced(Finished);

impl Finished {
    /// A failed sync loses pages for good: the file is given up, never synced again.
    pub fn sync(self) -> Result<Synced, Error> {
        self.blob.sync().map(|()| Synced(self))
    }
}

impl Store {
    /// Makes the content durable and visible under its digest.
    pub fn commit(&self, finished: Finished) -> Result<(), Error> {
        self.give_names([finished.sync()?]).pop().unwrap_or(Ok(()))
    }

    /// Makes them visible under their digests, each or not; the results are in their order. What one failed to do, no other is
    /// told.
    pub fn give_names(&self, all: impl IntoIterator<Item = Synced>) -> Vec<Result<(), Error>> {
        let named: Vec<_> = all
            .into_iter()
            .map(|Synced(finished)| self.give_name(finished))
            .collect();
        let mut directories = Directories::default();
        named
            .into_iter()
            .map(|named| named.and_then(|directory| directories.sync(directory)))
            .collect()
    }

    /// Returns the directory that the name is in, whose sync makes it durable.
    fn give_name(&self, finished: Finished) -> Result<PathBuf, Error> {
        // First who has it, then what: content that is seen in the store is seen with its repository.
        if let Some((host, repository)) = &finished.member_of {
            self.add_member(host, repository, &finished.digest)?;
        }
        let target = self.layout().blob(&finished.digest);
        let directory = target.parent().unwrap_or(self.layout().root()).to_owned();
        make_directory(&directory)?;
        let used = seconds(self.clock().now());
        let _ = rustix::fs::futimens(finished.blob.file(), &access_time(used));
        finished.blob.rename(&target)?;
        self.index().insert(Entry {
            key: Key::from(&finished.digest),
            size: finished.size,
            used,
            kind: finished.kind,
        });
        Ok(directory)
    }
}

/// Directories that were synced, and the number of the error if that failed: a second sync would succeed, and mean nothing.
#[derive(Default)]
struct Directories(BTreeMap<PathBuf, Option<i32>>);

impl Directories {
    fn sync(&mut self, directory: PathBuf) -> Result<(), Error> {
        if let Some(known) = self.0.get(&directory) {
            return match known {
                None => Ok(()),
                Some(number) => {
                    let error = io::Error::from_raw_os_error(*number);
                    Err(Error::io("sync", directory)(error))
                }
            };
        }
        let synced = sync_directory(&directory);
        let number = match &synced {
            Err(Error::Io { source, .. }) => Some(source.raw_os_error().unwrap_or_default()),
            _ => None,
        };
        self.0.insert(directory, number);
        synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_whose_sync_failed_stays_failed_for_all_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().join("there");
        let mut directories = Directories::default();
        let failed = directories.sync(there.clone()).unwrap_err().to_string();
        std::fs::create_dir(&there).unwrap();
        let again = directories.sync(there.clone()).unwrap_err().to_string();
        assert_eq!(failed, again);
        assert!(again.contains("failed to sync"), "{again}");
        for _ in 0..2 {
            Directories::default().sync(there.clone()).unwrap();
        }
    }
}
