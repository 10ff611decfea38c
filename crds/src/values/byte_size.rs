//! Amounts of bytes as people write them: `512`, `500M`, `50Gi`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, as_text};

/// A whole number of bytes. Units: `k`, `M`, `G`, `T` (powers of 1000) and `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("type" = ["string", "integer"], "pattern" = "^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$", "minimum" = 0))
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize {
    bytes: u64,
}

/// From large to small, so that the first that divides an amount writes it shortest.
const UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
];

as_text!(ByteSize);

impl ByteSize {
    /// That many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || {
            InvalidValue::new(
                "size",
                text,
                "write a whole number of bytes, with a unit if it is large, like 500M or 50Gi",
            )
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit {
            "" => 1,
            unit => {
                UNITS
                    .iter()
                    .find(|(name, _)| *name == unit)
                    .ok_or_else(invalid)?
                    .1
            }
        };
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let bytes = number.checked_mul(factor).ok_or_else(invalid)?;
        Ok(Self { bytes })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, factor)| self.bytes > 0 && self.bytes.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", self.bytes / factor),
            None => write!(f, "{}", self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_powers_of_1000_and_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("3k", 3_000),
            ("3Ki", 3_072),
            ("500M", 500_000_000),
            ("50Gi", 50 << 30),
            ("2T", 2_000_000_000_000),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize::from_bytes(bytes)));
            assert_eq!(ByteSize::from_bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "Gi",
            "-1",
            "1.5Gi",
            "1 Gi",
            "1gi",
            "1K",
            "90%",
            "99999999Ti",
            "99999999999999999999",
        ] {
            assert!(ByteSize::parse(text).is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn text_form_reads_back(bytes: u64) {
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Ok(size));
        }
    }
}
