//! A part of a whole.

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// From 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("minimum" = 0, "maximum" = 1))
)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

// What is no number is refused.
impl Eq for Ratio {}

impl Ratio {
    /// The whole.
    pub const ALL: Self = Self(1.0);

    /// From 0 to 1.
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Ratio {
    type Error = InvalidValue;

    fn try_from(number: f64) -> Result<Self, InvalidValue> {
        if (0.0..=1.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(InvalidValue::new(
            "ratio",
            &number.to_string(),
            "write a number from 0 to 1, like 0.1",
        ))
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_part_of_one() {
        for number in [0.0, 0.25, 1.0] {
            assert_eq!(
                Ratio::try_from(number).unwrap().as_f64().to_bits(),
                number.to_bits()
            );
        }
        for number in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Ratio::try_from(number).is_err(), "{number}");
        }
    }
}
