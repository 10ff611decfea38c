//! Looking for content that is not what its name says any more, and taking it out of the way.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use super::filesystem::{Store, make_directory, sync_directory};
use super::index::Key;
use super::recency::list;
use super::step::step;
use crate::oci::{Algorithm, Digest, Hasher};

const PIECE: usize = 1 << 20;
/// Kept for whoever wants to know what happened; the oldest goes first.
const QUARANTINED: usize = 16;

/// What the content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// It was removed meanwhile.
    Gone,
    /// `go_on` said no.
    Stopped,
}

impl Store {
    /// Reads content and compares it with its name. `go_on` is told of each piece that was read, and may wait or end it.
    pub fn verify(
        &self,
        digest: &Digest,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Verdict, Error> {
        let path = self.layout().blob(digest);
        let Some(file) = open_unnoticed(&path)? else {
            return Ok(Verdict::Gone);
        };
        // Only advice: it is read once.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::NoReuse);
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        loop {
            let count = match step(|| file.read_at(&mut piece, offset)) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What can't be read can't be served either.
                Err(error) => {
                    tracing::error!(%digest, %error, "failed to read {digest}");
                    return Ok(Verdict::Wrong);
                }
            };
            hasher.update(&piece[..count]);
            offset += count as u64;
            if !go_on(count) {
                return Ok(Verdict::Stopped);
            }
        }
        Ok(if hasher.finish() == *digest {
            Verdict::Right
        } else {
            Verdict::Wrong
        })
    }

    /// Moves content to `quarantine/`: the next request fetches it anew.
    pub fn quarantine(&self, digest: &Digest) -> Result<(), Error> {
        let directory = self.layout().quarantine();
        make_directory(&directory)?;
        let (from, to) = (self.layout().blob(digest), directory.join(digest.hex()));
        let take = || match step(|| fs::rename(&from, &to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("quarantine", &from)(error))
            }
            _ => Ok(()),
        };
        let known = self.index().remove(&Key::from(digest), u32::MAX, take)?;
        if known.is_none() {
            take()?;
        }
        sync_directory(&directory)?;
        let mut files: Vec<_> = list(&directory)?
            .into_iter()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .filter(|(_, path)| *path != to)
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(QUARANTINED - 1) {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    /// Calls for each content on the disk, with its size, until it says no.
    pub fn each_content(
        &self,
        each: &mut dyn FnMut(Digest, &fs::Metadata) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let root = self.layout().blobs().join(algorithm.as_str());
            for directory in list(&root)? {
                for entry in list(&directory.path())? {
                    let name = entry.file_name();
                    let digest = name.to_str().and_then(|hex| {
                        Digest::parse(&format!("{}:{hex}", algorithm.as_str())).ok()
                    });
                    if let (Some(digest), Ok(metadata)) = (digest, entry.metadata())
                        && !each(digest, &metadata)?
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Opens a file so that reading it does not count as a use; `None` if it is not there.
pub(super) fn open_unnoticed(path: &Path) -> Result<Option<File>, Error> {
    let open = |flags| {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    // Only the owner may leave the access time alone.
    let opened = match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        other => other,
    };
    match step(|| opened.map_err(io::Error::from)) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_flipped_bit_is_found_and_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Clock::default()).unwrap();
        let name = Digest::of(Algorithm::Sha256, b"hello");
        store.put(&name, b"hello").unwrap();
        let verify = |store: &Store| store.verify(&name, &mut |_| true).unwrap();
        assert_eq!(verify(&store), Verdict::Right);
        assert_eq!(
            store.verify(&name, &mut |_| false).unwrap(),
            Verdict::Stopped
        );
        fs::write(store.layout().blob(&name), b"hellp").unwrap();
        assert_eq!(verify(&store), Verdict::Wrong);
        store.quarantine(&name).unwrap();
        assert_eq!(verify(&store), Verdict::Gone);
        assert_eq!((store.used(), store.index().count()), (0, 0));
        store.put(&name, b"hello").unwrap();
        assert_eq!(verify(&store), Verdict::Right);
    }

    #[test]
    fn the_quarantine_does_not_grow_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Clock::default()).unwrap();
        for number in 0_u8..20 {
            let name = Digest::of(Algorithm::Sha256, &[number]);
            store.put(&name, &[number]).unwrap();
            store.quarantine(&name).unwrap();
        }
        let count = fs::read_dir(store.layout().quarantine()).unwrap().count();
        assert_eq!(count, QUARANTINED);
    }
}
