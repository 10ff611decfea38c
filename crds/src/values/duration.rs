//! Durations as people write them: `90s`, `5m`, `1h30m`, `7d`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, as_text};

/// A span of whole seconds, at most ten years. Units: `s`, `m`, `h`, `d`, each at most once and from large to small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "minLength" = 2))
)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    seconds: u64,
}

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
const MAXIMUM_SECONDS: u64 = 10 * 366 * 86_400;

as_text!(Duration);

impl Duration {
    /// A duration of that many seconds, capped at ten years.
    pub const fn from_secs(seconds: u64) -> Self {
        Self {
            seconds: if seconds > MAXIMUM_SECONDS {
                MAXIMUM_SECONDS
            } else {
                seconds
            },
        }
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || {
            InvalidValue::new(
                "duration",
                text,
                "write whole numbers with units, like 90s, 5m, 1h30m or 7d, of ten years at most",
            )
        };
        let mut rest = text;
        let mut seconds: u64 = 0;
        let mut units = UNITS.iter();
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(invalid)?;
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            let unit = rest[digits..].chars().next().ok_or_else(invalid)?;
            let (_, factor) = units
                .by_ref()
                .find(|(name, _)| *name == unit)
                .ok_or_else(invalid)?;
            seconds = number
                .checked_mul(*factor)
                .and_then(|part| seconds.checked_add(part))
                .ok_or_else(invalid)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        if seconds > MAXIMUM_SECONDS {
            return Err(invalid());
        }
        Ok(Self { seconds })
    }
}

impl From<Duration> for std::time::Duration {
    fn from(value: Duration) -> Self {
        Self::from_secs(value.seconds)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.seconds;
        for (unit, factor) in UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_add_up() {
        assert_eq!(Duration::parse("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(Duration::parse("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(Duration::parse("0s"), Ok(Duration::from_secs(0)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 m",
            "5x",
            "1s1s",
            "1m1h",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "4000d",
        ] {
            assert!(Duration::parse(text).is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn text_form_reads_back(seconds in 0..MAXIMUM_SECONDS) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
        }
    }
}
