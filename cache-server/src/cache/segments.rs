//! Which parts of a growing file are there: sorted ranges that don't touch. Pure.

use std::ops::Range;

/// A set of byte positions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    ranges: Vec<Range<u64>>,
}

impl Segments {
    /// Adds a range; it may overlap with what is there.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let to = self
            .ranges
            .partition_point(|known| known.start <= range.end);
        let touched = &self.ranges[from..to];
        let merged = touched
            .first()
            .map_or(range.start, |known| known.start.min(range.start))
            ..touched
                .last()
                .map_or(range.end, |known| known.end.max(range.end));
        self.ranges.splice(from..to, [merged]);
    }

    /// End of what is there without a gap from `position` on; `position` itself if it is missing.
    pub fn end_from(&self, position: u64) -> u64 {
        let index = self.ranges.partition_point(|known| known.end <= position);
        match self.ranges.get(index) {
            Some(known) if known.start <= position => known.end,
            _ => position,
        }
    }

    /// Whether all of the range is there.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.end_from(range.start) >= range.end
    }

    /// The gaps below `end`, in order.
    pub fn missing(&self, end: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut position = 0;
        for known in self.ranges.iter().take_while(|known| known.start < end) {
            if position < known.start {
                gaps.push(position..known.start);
            }
            position = known.end;
        }
        if position < end {
            gaps.push(position..end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one() {
        let mut segments = Segments::default();
        segments.insert(0..4);
        segments.insert(8..12);
        assert_eq!(segments.missing(16), [4..8, 12..16]);
        segments.insert(4..8);
        assert!(segments.missing(12).is_empty());
        assert_eq!(segments.end_from(3), 12);
        assert_eq!(segments.end_from(12), 12);
        assert!(segments.covers(&(0..12)) && !segments.covers(&(0..13)));
    }

    proptest! {
        #[test]
        fn segments_are_a_set_of_positions(inserts in proptest::collection::vec((0u64..64, 0u64..16), 0..24)) {
            let mut segments = Segments::default();
            let mut model = [false; 96];
            for (start, length) in inserts {
                segments.insert(start..start + length);
                for position in start..start + length {
                    model[usize::try_from(position).unwrap()] = true;
                }
                for pair in segments.ranges.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
            }
            for position in 0..80u64 {
                let expected = (position..96)
                    .find(|at| !model[usize::try_from(*at).unwrap()])
                    .unwrap();
                prop_assert_eq!(segments.end_from(position), expected);
            }
            let missing: u64 = segments.missing(80).iter().map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(missing, model[..80].iter().filter(|there| !**there).count() as u64);
        }
    }
}
