//! Quantities of Kubernetes: whether two are equal (`1000m` and `1`, `1024Mi` and `1Gi`), and how many bytes one is. Pure.

/// Whether both are the same amount.
pub(crate) fn equal(left: &str, right: &str) -> bool {
    left == right || matches!((nanos(left), nanos(right)), (Some(l), Some(r)) if l == r)
}

/// The amount in whole bytes, rounded down. `None`: not a quantity, negative, or beyond all bounds.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    u64::try_from(nanos(text)?.div_euclid(1_000_000_000)).ok()
}

/// An amount of bytes for people: `1.5Gi`, `12Gi`, `640Mi`.
pub(crate) fn rounded(bytes: u64) -> String {
    let (unit, shift) = match bytes {
        0..0x4000_0000 => ("Mi", 20),
        0x4000_0000..0x100_0000_0000 => ("Gi", 30),
        _ => ("Ti", 40),
    };
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    if tenths < 100 && tenths % 10 != 0 {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    } else {
        format!("{}{unit}", (tenths + 5) / 10)
    }
}

/// The amount in billionths. `None`: not a quantity, or beyond all bounds.
fn nanos(text: &str) -> Option<i128> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    let billionths = whole
        .checked_mul(1_000_000_000)?
        .checked_add(fraction)?
        .checked_mul(sign)?;
    let (multiply, divide) = factor(suffix)?;
    let product = billionths.checked_mul(multiply)?;
    (product % divide == 0).then_some(product / divide)
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |exponent: i32| -> Option<(i128, i128)> {
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    };
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some((1 << 10, 1)),
        "Mi" => Some((1 << 20, 1)),
        "Gi" => Some((1 << 30, 1)),
        "Ti" => Some((1 << 40, 1)),
        "Pi" => Some((1 << 50, 1)),
        "Ei" => Some((1 << 60, 1)),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_amount_are_equal() {
        for (left, right) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1e3", "1k"),
            ("1.5Gi", "1536Mi"),
            ("100n", "0.1u"),
        ] {
            assert!(equal(left, right), "{left} and {right}");
        }
    }

    #[test]
    fn amounts_are_whole_bytes() {
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("10G"), Some(10_000_000_000));
        assert_eq!(bytes("1m"), Some(0));
        assert_eq!(bytes("-1"), None);
        assert_eq!(bytes("lots"), None);
    }

    #[test]
    fn amounts_for_people_have_two_digits_at_least() {
        let texts = [
            0,
            500_000,
            5 << 20,
            640 << 20,
            3 << 29,
            12 << 30,
            100 << 30,
            3 << 39,
        ];
        let texts = texts.map(rounded);
        assert_eq!(
            texts,
            [
                "0Mi", "0.5Mi", "5Mi", "640Mi", "1.5Gi", "12Gi", "100Gi", "1.5Ti"
            ]
        );
    }

    #[test]
    fn other_amounts_and_other_texts_differ() {
        for (left, right) in [
            ("1", "2"),
            ("1Gi", "1G"),
            ("a", "b"),
            ("", "0"),
            ("1x", "1"),
        ] {
            assert!(!equal(left, right), "{left} and {right}");
        }
    }
}
