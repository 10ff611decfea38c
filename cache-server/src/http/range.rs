//! Reads the Range header (RFC 9110 §14). Pure.

use crate::cache::ByteRange;

/// The range asked for. Several ranges, other units and nonsense count as none, as the RFC allows. One that ends before it
/// begins is kept: no content has it, and the conformance suite wants to hear that.
pub fn parse(header: &str) -> ByteRange {
    single(header).unwrap_or(ByteRange::Whole)
}

fn single(header: &str) -> Option<ByteRange> {
    let (unit, range) = header.trim().split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", length) => number(length).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => Some(ByteRange::Between(number(first)?, number(last)?)),
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number that is too large lies behind any content.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(parse("bytes=0-"), ByteRange::From(0));
        assert_eq!(parse("bytes=5-9"), ByteRange::Between(5, 9));
        assert_eq!(parse("bytes=9-5"), ByteRange::Between(9, 5));
        assert_eq!(parse("Bytes = -7"), ByteRange::Last(7));
        assert_eq!(
            parse("bytes=99999999999999999999-"),
            ByteRange::From(u64::MAX)
        );
    }

    #[test]
    fn everything_else_asks_for_the_whole() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=--1",
        ] {
            assert_eq!(parse(header), ByteRange::Whole, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in "\\PC*") {
            let _ = parse(&header);
        }

        #[test]
        fn ranges_read_back(first: u64, length: u32) {
            let last = first.saturating_add(u64::from(length));
            prop_assert_eq!(parse(&format!("bytes={first}-{last}")), ByteRange::Between(first, last));
        }
    }
}
