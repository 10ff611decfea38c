//! What a body gives to the HTTP library: bytes, or the marker of a region of a file.

use bytes::{Buf, Bytes};

/// Length of the marker: the most that one write can ask for.
pub const MOST: usize = 2 * 1024 * 1024;

/// Known by its address, never read. It costs no memory: nothing touches its pages.
static MARKER: [u8; MOST] = [0; MOST];

/// What stands for so many bytes of a file.
pub fn marker(length: u64) -> &'static [u8] {
    &MARKER[..usize::try_from(length).map_or(MOST, |length| length.min(MOST))]
}

/// Whether the bytes stand for bytes of a file.
pub fn is_marker(bytes: &[u8]) -> bool {
    !bytes.is_empty() && MARKER.as_ptr_range().contains(&bytes.as_ptr())
}

/// A part of a body.
#[derive(Debug)]
pub enum Data {
    Bytes(Bytes),
    Region(Region),
}

/// So many bytes of a file, which a job in the connection's slot names.
#[derive(Debug)]
pub struct Region {
    left: u64,
}

impl Region {
    pub(super) fn new(left: u64) -> Self {
        Self { left }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Region(region) => usize::try_from(region.left).unwrap_or(usize::MAX),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Region(region) => marker(region.left),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Region(region) => region.left = region.left.saturating_sub(count as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_is_the_marker() {
        assert!(is_marker(marker(1)));
        assert!(is_marker(&marker(100)[50..]));
        assert!(!is_marker(marker(0)));
        assert!(!is_marker(&[0; 64]));
        assert!(!is_marker(&vec![0; MOST]));
    }

    #[test]
    fn a_region_shows_all_that_is_left_and_at_most_the_marker() {
        let mut data = Data::Region(Region::new(5 * MOST as u64 + 3));
        assert_eq!((data.remaining(), data.chunk().len()), (5 * MOST + 3, MOST));
        data.advance(5 * MOST);
        assert_eq!((data.remaining(), data.chunk().len()), (3, 3));
        data.advance(3);
        assert!(!data.has_remaining());
    }
}
