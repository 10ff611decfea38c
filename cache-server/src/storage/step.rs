//! The steps of the store on the disk, each of which a test can let fail.

use std::io;

/// Takes a step.
pub(super) fn step<T>(take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(test)]
    tests::count()?;
    take()
}

#[cfg(test)]
mod tests;
