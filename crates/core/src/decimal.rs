//! Decimals as integers with a scale.

/// The digits of a number that is written as text, moved by the scale: `1.5` at scale 2 is 150. `None` if it is no number,
/// has more digits than the precision, or would lose digits.
pub fn parse(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if (whole.is_empty() && fraction.is_empty()) || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Zeros at the end count for nothing, however many there are.
    let fraction = fraction.trim_end_matches('0');
    let mut value = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    // How many places the point still moves to the right.
    let mut places =
        i32::from(scale).checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(exponent)?;
    while places > 0 && value != 0 {
        value = value.checked_mul(10)?;
        places -= 1;
    }
    while places < 0 && value != 0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        places += 1;
    }
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

/// The number as SQL writes it: 150 at scale 2 is `1.50`. `None` if the scale is negative.
pub fn text(unscaled: i128, scale: i8) -> Option<String> {
    let places = usize::try_from(scale).ok()?;
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let point = if places == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_digit_or_fails() {
        for (text, precision, scale, value) in [
            ("1.5", 10, 2, Some(150)),
            ("-0.05", 10, 2, Some(-5)),
            ("+7", 10, 0, Some(7)),
            (" 7 ", 10, 0, Some(7)),
            ("1.50000", 10, 2, Some(150)),
            ("1.505", 10, 2, None),
            ("1e3", 10, 0, Some(1_000)),
            ("1.2E-2", 10, 3, Some(12)),
            ("1e2147483647", 10, 3, None),
            ("0e2147483647", 10, 0, Some(0)),
            ("99999999.99", 10, 2, Some(9_999_999_999)),
            ("100000000", 10, 2, None),
            ("0.00000000000000000000000000000000000000000000", 10, 2, Some(0)),
            ("NaN", 10, 2, None),
            ("", 10, 2, None),
            (".", 10, 2, None),
            ("1 2", 10, 2, None),
            ("-.5", 10, 1, Some(-5)),
            (
                "12345678901234567890123456789012345678",
                38,
                0,
                Some(12_345_678_901_234_567_890_123_456_789_012_345_678),
            ),
            ("123456789012345678901234567890123456789", 38, 0, None),
        ] {
            assert_eq!(parse(text, precision, scale), value, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for (unscaled, scale, written) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (150, 2, "1.50"),
            (-5, 2, "-0.05"),
            (-7, 0, "-7"),
            (10_i128.pow(38) - 1, 38, "0.99999999999999999999999999999999999999"),
        ] {
            assert_eq!(text(unscaled, scale).as_deref(), Some(written));
            assert_eq!(parse(written, 38, scale), Some(unscaled));
        }
        assert_eq!(text(1, -2), None);
    }
}
