//! A region of a file on its way to a socket, and the system calls that bring it there.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::data::{self, MOST};
use crate::http::buffers::Buffers;

/// Read at once where the kernel does not send the file itself.
const COPIED: u64 = 64 * 1024;
/// How far apart the bytes are that are asked for. What was read together is forgotten together, so a gap is mostly longer;
/// one that is not costs a worker the time of one short read. Each look costs as much as sending 8 KiB.
const PROBED: usize = 256 * 1024;

/// The kernel's number for tmpfs (`TMPFS_MAGIC`).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// What is still to be sent of a file.
#[derive(Debug)]
pub struct Job {
    file: Arc<File>,
    left: Range<u64>,
    /// Up to where the file is in the page cache, as far as was looked.
    resident_to: u64,
    /// The kernel does not send this file.
    copies: bool,
}

/// What one step came to.
#[derive(Debug)]
pub enum Step {
    Sent(usize),
    /// The socket takes no more now.
    Full,
    /// The disk must be waited for, off the workers.
    Cold(ReadAhead),
}

/// Brings a part of a file into the page cache.
#[derive(Debug)]
pub struct ReadAhead {
    file: Arc<File>,
    part: Range<u64>,
}

impl Job {
    pub fn new(file: Arc<File>, left: Range<u64>) -> Self {
        Self {
            file,
            resident_to: left.start,
            left,
            copies: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether a marker of that length stands for what is left.
    pub fn expects(&self, length: usize) -> bool {
        data::marker(self.left.end.saturating_sub(self.left.start)).len() == length
    }

    /// Sends at most the length of one marker.
    pub fn step(&mut self, stream: &TcpStream, buffers: &Buffers) -> io::Result<Step> {
        if self.left.start >= self.resident_to {
            let part = self.left.start..self.left.end.min(self.left.start + MOST as u64);
            // After a read-ahead the answer is not asked for again: a page that went meanwhile is waited for.
            self.resident_to = part.end;
            if !self.is_resident(&part)? {
                let file = self.file.clone();
                return Ok(Step::Cold(ReadAhead { file, part }));
            }
        }
        let sent = stream.try_io(Interest::WRITABLE, || self.send(stream, buffers));
        match sent {
            // The file is shorter than it was when it was opened.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.left.start += count as u64;
                Ok(Step::Sent(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Full),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::Full),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, stream: &TcpStream, buffers: &Buffers) -> io::Result<usize> {
        let part = self.left.start..self.left.end.min(self.resident_to);
        let length = part.end - part.start;
        if !self.copies {
            let mut offset = part.start;
            let count = usize::try_from(length).unwrap_or(MOST).min(MOST);
            match rustix::fs::sendfile(stream, &*self.file, Some(&mut offset), count) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.copies = true,
                sent => return Ok(sent?),
            }
        }
        let bytes = buffers.read(&self.file, part.start, length.min(COPIED))?;
        Ok(rustix::net::send(
            stream,
            &bytes,
            rustix::net::SendFlags::NOSIGNAL,
        )?)
    }

    /// Whether reading the part would not wait, as far as some of its bytes tell. It is not empty.
    fn is_resident(&self, part: &Range<u64>) -> io::Result<bool> {
        for offset in part.clone().step_by(PROBED).chain([part.end - 1]) {
            if !self.is_byte_resident(offset)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Filesystems that can't say count as those that wait, but for those in memory.
    fn is_byte_resident(&self, offset: u64) -> io::Result<bool> {
        let byte = &mut [0];
        let slices = &mut [IoSliceMut::new(byte)];
        match rustix::io::preadv2(&*self.file, slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(Errno::OPNOTSUPP) => is_in_memory(&self.file),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether it lies in a tmpfs.
fn is_in_memory(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type == TMPFS)
}

impl ReadAhead {
    /// Reads the part. Blocks on the disk.
    pub fn run(self) -> io::Result<()> {
        let length = NonZeroU64::new(self.part.end - self.part.start);
        // Only advice: the reads below are what counts.
        let _ = rustix::fs::fadvise(&*self.file, self.part.start, length, Advice::WillNeed);
        let mut buffer = [0; 16 * 1024];
        let mut offset = self.part.start;
        while offset < self.part.end {
            match self.file.read_at(&mut buffer, offset) {
                // Whoever sends will see it too.
                Ok(0) => break,
                Ok(count) => offset += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    impl Job {
        /// As if the kernel had refused.
        pub(in crate::http::sendfile) fn copy(&mut self) {
            self.copies = true;
        }
    }

    #[test]
    fn a_job_expects_the_marker_of_what_is_left() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let job = Job::new(file.clone(), 10..30);
        assert!(job.expects(20) && !job.expects(19) && !job.is_done());
        assert!(Job::new(file.clone(), 0..1 << 40).expects(MOST));
        assert!(Job::new(file, 5..5).is_done());
    }

    #[test]
    fn what_was_read_ahead_is_resident() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 100_000]).unwrap();
        file.sync_all().unwrap();
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        let job = Job::new(Arc::new(file), 0..100_000);
        let ahead = ReadAhead {
            file: job.file.clone(),
            part: 0..100_000,
        };
        ahead.run().unwrap();
        assert!(job.is_resident(&(0..100_000)).unwrap());
        assert_eq!(
            job.is_resident(&(0..100_001)).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        // Shorter than was said: nothing to wait for.
        let part = 0..200_000;
        ReadAhead {
            file: job.file,
            part,
        }
        .run()
        .unwrap();
    }

    #[test]
    fn what_lies_in_memory_is_resident() {
        let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all(&vec![7; 100_000]).unwrap();
        assert!(is_in_memory(&file).unwrap());
        let job = Job::new(Arc::new(file), 0..100_000);
        assert!(job.is_resident(&(0..100_000)).unwrap());
        let on_disk = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert!(!is_in_memory(&on_disk).unwrap());
    }

    #[test]
    fn a_part_whose_middle_was_forgotten_is_not_resident() {
        // Beside the source: a directory for temporary files may be memory, which forgets nothing.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; MOST]).unwrap();
        file.sync_all().unwrap();
        let (job, whole) = (Job::new(Arc::new(file), 0..MOST as u64), 0..MOST as u64);
        // A look at what is not there has it read, and sees it if the disk answers at once. Not each time, at each place.
        let is_seen = (0..100).any(|_| {
            rustix::fs::fadvise(&*job.file, 0, None, Advice::DontNeed).unwrap();
            rustix::fs::fadvise(&*job.file, 0, None, Advice::Random).unwrap();
            for end in [0, whole.end - 1] {
                job.file.read_exact_at(&mut [0], end).unwrap();
                assert!(job.is_byte_resident(end).unwrap());
            }
            !job.is_resident(&whole).unwrap()
        });
        assert!(is_seen);
        let (file, part) = (job.file.clone(), whole.clone());
        ReadAhead { file, part }.run().unwrap();
        assert!(job.is_resident(&whole).unwrap());
    }
}
