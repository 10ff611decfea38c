//! What may be done with an old answer about a tag. Pure.

use std::time::Duration;

use crate::clock::Moment;

/// How good a stored answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As good as the upstream's.
    Fresh,
    /// To be checked; good enough if the upstream does not answer.
    Stale,
    /// Worth nothing without the upstream.
    Expired,
}

/// The times of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub refresh_after: Duration,
    pub serve_stale_for: Duration,
    /// The tag never moves.
    pub immutable: bool,
}

impl Lifetime {
    /// Judges an answer that was checked at `checked`.
    pub fn judge(&self, checked: Moment, now: Moment) -> Freshness {
        if self.immutable {
            return Freshness::Fresh;
        }
        match now.since(checked) {
            // The clock went back. Nothing may stay fresh for ever because of it.
            None => Freshness::Stale,
            Some(age) if age < self.refresh_after => Freshness::Fresh,
            Some(age) if age <= self.serve_stale_for => Freshness::Stale,
            Some(_) => Freshness::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime {
        refresh_after: Duration::from_secs(10),
        serve_stale_for: Duration::from_secs(100),
        immutable: false,
    };

    #[test]
    fn answers_age() {
        let judge = |seconds: i64| LIFETIME.judge(Moment(1000), Moment(1000 + seconds * 1000));
        assert_eq!(judge(0), Freshness::Fresh);
        assert_eq!(judge(9), Freshness::Fresh);
        assert_eq!(judge(10), Freshness::Stale);
        assert_eq!(judge(100), Freshness::Stale);
        assert_eq!(judge(101), Freshness::Expired);
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_fresh() {
        assert_eq!(LIFETIME.judge(Moment(5000), Moment(1000)), Freshness::Stale);
    }

    #[test]
    fn immutable_tags_are_always_fresh() {
        let lifetime = Lifetime {
            immutable: true,
            ..LIFETIME
        };
        assert_eq!(
            lifetime.judge(Moment(0), Moment(i64::MAX)),
            Freshness::Fresh
        );
    }
}
