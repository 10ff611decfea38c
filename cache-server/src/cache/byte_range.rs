//! One range of bytes as a client asks for it, and what it is of content of a known size. Pure.

use std::ops::Range;

/// `Range: bytes=…` with a single range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteRange {
    /// No range: the whole.
    #[default]
    Whole,
    /// `first-`
    From(u64),
    /// `first-last`; nothing if the last comes before the first
    Between(u64, u64),
    /// `-length`
    Last(u64),
}

/// The range lies outside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsatisfiable;

impl ByteRange {
    /// `None`: the whole is asked for.
    pub fn resolve(self, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
        let range = match self {
            Self::Whole => return Ok(None),
            Self::From(first) => first..size,
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        if range.start < range.end {
            Ok(Some(range))
        } else {
            Err(Unsatisfiable)
        }
    }

    /// The value of a Range header for the upstream; `None` for the whole.
    pub fn header(self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::From(first) => Some(format!("bytes={first}-")),
            Self::Between(first, last) => Some(format!("bytes={first}-{last}")),
            Self::Last(length) => Some(format!("bytes=-{length}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_end_with_the_content() {
        assert_eq!(ByteRange::Whole.resolve(0), Ok(None));
        assert_eq!(ByteRange::From(3).resolve(10), Ok(Some(3..10)));
        assert_eq!(ByteRange::Between(3, 99).resolve(10), Ok(Some(3..10)));
        assert_eq!(ByteRange::Last(99).resolve(10), Ok(Some(0..10)));
    }

    #[test]
    fn ranges_outside_are_unsatisfiable() {
        for range in [
            ByteRange::From(10),
            ByteRange::Between(10, 12),
            ByteRange::Between(5, 3),
            ByteRange::Last(0),
        ] {
            assert_eq!(range.resolve(10), Err(Unsatisfiable), "{range:?}");
        }
        assert_eq!(ByteRange::From(0).resolve(0), Err(Unsatisfiable));
    }

    proptest! {
        #[test]
        fn what_is_resolved_lies_inside(first: u64, last: u64, size: u64) {
            for range in [ByteRange::From(first), ByteRange::Between(first, last), ByteRange::Last(last)] {
                if let Ok(Some(range)) = range.resolve(size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
