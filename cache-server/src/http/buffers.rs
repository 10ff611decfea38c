//! Buffers for reading files, used again and again: fresh ones cost page faults, which is most of what a read costs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

/// One read at most, if nothing else is said.
pub const SIZE: usize = 256 * 1024;
/// Kept for later; above, they are given back to the system.
const KEPT: usize = 16;

/// A pool of buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    size: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self::of(SIZE)
    }
}

/// What a read without waiting came to.
#[derive(Debug)]
pub enum Attempt {
    Read(Bytes),
    /// The disk must be waited for.
    WouldBlock,
}

impl Buffers {
    /// Buffers of that many bytes, which is the most that is read at once.
    pub fn of(size: usize) -> Self {
        Self {
            free: Arc::default(),
            size,
        }
    }

    /// Reads at most `length` bytes if they are in the page cache.
    pub fn try_read(&self, file: &File, offset: u64, length: u64) -> io::Result<Attempt> {
        let mut buffer = self.take(length);
        let slices = &mut [io::IoSliceMut::new(buffer.space())];
        match rustix::io::preadv2(file, slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Attempt::Read(buffer.freeze(count))),
            // Not all filesystems know the flag.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(Attempt::WouldBlock),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads at most `length` bytes, waiting for the disk.
    pub fn read(&self, file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut buffer = self.take(length);
        loop {
            match file.read_at(buffer.space(), offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(buffer.freeze(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self, length: u64) -> Buffer {
        let size = self.size;
        let visible = usize::try_from(length).unwrap_or(size).min(size);
        // Small reads don't need a whole one.
        let small = visible < size / 8;
        let mut bytes = if small {
            Vec::new()
        } else {
            self.free().pop().unwrap_or_default()
        };
        // Does nothing to a used one, which has its full length.
        bytes.resize(if small { visible } else { size }, 0);
        Buffer {
            bytes,
            visible,
            pool: self.clone(),
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back to its pool when it is dropped.
struct Buffer {
    bytes: Vec<u8>,
    visible: usize,
    pool: Buffers,
}

impl Buffer {
    fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.visible]
    }

    fn freeze(mut self, count: usize) -> Bytes {
        self.visible = count;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.visible]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == self.pool.size {
            let mut free = self.pool.free();
            if free.len() < KEPT {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_used_buffer_shows_only_what_was_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; SIZE]).unwrap();
        file.write_all(b"end").unwrap();
        let buffers = Buffers::default();
        let first = buffers.read(&file, 0, SIZE as u64).unwrap();
        assert!(first.iter().all(|byte| *byte == 7));
        drop(first);
        assert_eq!(buffers.free().len(), 1);
        let second = buffers.read(&file, SIZE as u64, SIZE as u64).unwrap();
        assert_eq!(&second[..], b"end");
        assert_eq!(&buffers.read(&file, 1, 2).unwrap()[..], [7, 7]);
        assert_eq!(
            buffers.read(&file, 1 << 20, 1).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
