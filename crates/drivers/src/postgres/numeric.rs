//! Converts PostgreSQL's binary numerics and intervals to text with every digit, and numerics back. Pure.

use std::io::Write;

fn int16(raw: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(raw.get(at..at + 2)?.try_into().ok()?))
}

/// Base-10000 digits with a weight and a display scale.
pub(super) fn numeric(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digits = usize::try_from(int16(raw, 0)?).ok()?;
    let weight = i32::from(int16(raw, 2)?);
    let sign = int16(raw, 4)? as u16;
    let scale = usize::try_from(int16(raw, 6)?).ok()?;
    match sign {
        0x0000 => (),
        0x4000 => out.push(b'-'),
        0xC000 => {
            out.extend_from_slice(b"NaN");
            return Some(());
        }
        0xD000 => {
            out.extend_from_slice(b"Infinity");
            return Some(());
        }
        0xF000 => {
            out.extend_from_slice(b"-Infinity");
            return Some(());
        }
        _ => return None,
    }
    if raw.len() != 8 + digits * 2 {
        return None;
    }
    let digit = |index: i32| -> u32 {
        let found = usize::try_from(index).ok().filter(|index| *index < digits);
        found.and_then(|index| int16(raw, 8 + index * 2)).map_or(0, |digit| u32::from(digit as u16))
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        let _ = write!(out, "{}", digit(0));
        for index in 1..=weight {
            let _ = write!(out, "{:04}", digit(index));
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut index = weight + 1;
        while out.len() < end {
            let _ = write!(out, "{:04}", digit(index));
            index += 1;
        }
        out.truncate(end);
    }
    Some(())
}

/// The binary form of what `numeric` writes. `None`: it is none.
pub(super) fn encode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    const SPECIAL: [(&str, u16); 3] = [("NaN", 0xC000), ("Infinity", 0xD000), ("-Infinity", 0xF000)];
    if let Some((_, sign)) = SPECIAL.into_iter().find(|(name, _)| *name == text) {
        [0, 0, sign, 0].into_iter().for_each(|half| out.extend(half.to_be_bytes()));
        return Some(());
    }
    let (sign, digits) = text.strip_prefix('-').map_or((0_u16, text), |digits| (0x4000, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0').as_bytes();
    // Digits of base 10000 begin at the point, on both sides.
    let groups = whole.len().div_ceil(4);
    let digit = |group: i32| -> i16 {
        let decimal = |place: i32| {
            let from_point = group * 4 + place;
            let (part, at) = match from_point {
                0.. => (fraction.as_bytes(), from_point),
                _ => (whole, from_point + i32::try_from(whole.len()).unwrap_or(i32::MAX)),
            };
            let found = usize::try_from(at).ok().and_then(|at| part.get(at));
            found.map_or(0, |byte| i16::from(byte - b'0'))
        };
        (0..4).fold(0, |value, place| value * 10 + decimal(place))
    };
    let (first, last) = (-i32::try_from(groups).ok()?, i32::try_from(fraction.len().div_ceil(4)).ok()?);
    let is_zero = |group: &i32| digit(*group) == 0;
    let first = (first..last).take_while(is_zero).count() as i32 + first;
    let last = last - (first..last).rev().take_while(is_zero).count() as i32;
    let count = i16::try_from(last - first).ok()?;
    // A zero has no digits, and neither sign nor weight.
    let (weight, sign) = if count == 0 { (0, 0) } else { (i16::try_from(-first - 1).ok()?, sign) };
    out.extend(count.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(i16::try_from(fraction.len()).ok()?.to_be_bytes());
    (first..last).for_each(|group| out.extend(digit(group).to_be_bytes()));
    Some(())
}

/// Powers of ten, as far as they fit.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The number without its point, with `scale` digits after it. `None` if it has more of them, has more digits than
/// `precision`, or is no number.
pub(super) fn decimal(raw: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let digits = usize::try_from(int16(raw, 0)?).ok()?;
    let weight = i32::from(int16(raw, 2)?);
    let negative = match int16(raw, 4)? as u16 {
        0x0000 => false,
        0x4000 => true,
        _ => return None,
    };
    if raw.len() != 8 + digits * 2 {
        return None;
    }
    let power = |places: i32| POWERS.get(usize::try_from(places).ok()?).copied();
    let mut value = 0_i128;
    for index in 0..digits {
        let digit = i128::from(int16(raw, 8 + index * 2)?);
        // Where its last decimal digit is once the point is gone.
        let places = 4 * (weight - i32::try_from(index).ok()?) + i32::from(scale);
        let part = match places {
            _ if digit == 0 => 0,
            0.. => digit.checked_mul(power(places)?)?,
            _ => {
                let cut = power(-places)?;
                if digit % cut != 0 {
                    return None;
                }
                digit / cut
            }
        };
        value = value.checked_add(part)?;
    }
    let fits = value < *POWERS.get(usize::from(precision))?;
    fits.then_some(if negative { -value } else { value })
}

/// ISO 8601: years and months, days, and time are independent in PostgreSQL, and each part has its own sign.
pub(super) fn interval(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let micros = i64::from_be_bytes(raw.get(0..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(raw.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(raw.get(12..16)?.try_into().ok()?);
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => {
            out.extend_from_slice(b"infinity");
            return Some(());
        }
        (i64::MIN, i32::MIN, i32::MIN) => {
            out.extend_from_slice(b"-infinity");
            return Some(());
        }
        (0, 0, 0) => {
            out.extend_from_slice(b"PT0S");
            return Some(());
        }
        _ => (),
    }
    out.push(b'P');
    for (amount, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if amount != 0 {
            let _ = write!(out, "{amount}{unit}");
        }
    }
    if micros != 0 {
        out.push(b'T');
        let (hours, minutes) = (micros / 3_600_000_000, micros / 60_000_000 % 60);
        for (amount, unit) in [(hours, 'H'), (minutes, 'M')] {
            if amount != 0 {
                let _ = write!(out, "{amount}{unit}");
            }
        }
        let rest = micros % 60_000_000;
        if rest != 0 {
            let sign = if rest < 0 { "-" } else { "" };
            let rest = rest.unsigned_abs();
            let _ = write!(out, "{sign}{}", rest / 1_000_000);
            if rest % 1_000_000 != 0 {
                let _ = write!(out, ".{:06}", rest % 1_000_000);
                while out.last() == Some(&b'0') {
                    out.pop();
                }
            }
            out.push(b'S');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(weight: i16, sign: u16, scale: i16, digits: &[i16]) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend((digits.len() as i16).to_be_bytes());
        raw.extend(weight.to_be_bytes());
        raw.extend(sign.to_be_bytes());
        raw.extend(scale.to_be_bytes());
        for digit in digits {
            raw.extend(digit.to_be_bytes());
        }
        raw
    }

    fn text(raw: &[u8]) -> String {
        let mut out = Vec::new();
        numeric(raw, &mut out).expect("well-formed");
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn numerics_keep_every_digit() {
        assert_eq!(text(&raw(0, 0, 0, &[])), "0");
        assert_eq!(text(&raw(0, 0, 2, &[])), "0.00");
        assert_eq!(text(&raw(1, 0, 4, &[1, 2, 300])), "10002.0300");
        assert_eq!(text(&raw(-2, 0x4000, 9, &[5000])), "-0.000050000");
        assert_eq!(text(&raw(2, 0, 0, &[1])), "100000000");
        assert_eq!(text(&raw(0, 0xC000, 0, &[])), "NaN");
        assert_eq!(text(&raw(0, 0xD000, 0, &[])), "Infinity");
        assert!(numeric(&[0, 1], &mut Vec::new()).is_none());
    }

    #[test]
    fn numerics_come_back_as_they_were() {
        for raw in [
            raw(0, 0, 0, &[]),
            raw(0, 0, 2, &[]),
            raw(1, 0, 4, &[1, 2, 300]),
            raw(-2, 0x4000, 9, &[5000]),
            raw(-1, 0, 1, &[9000]),
            raw(2, 0, 0, &[1]),
            raw(2, 0, 3, &[1]),
            raw(0, 0x4000, 0, &[9999]),
            raw(2, 0, 5, &[12, 0, 7, 1200, 3000]),
            raw(-1, 0, 16_383, &[1]),
            raw(0, 0xC000, 0, &[]),
            raw(0, 0xD000, 0, &[]),
            raw(0, 0xF000, 0, &[]),
        ] {
            let mut encoded = Vec::new();
            assert_eq!(encode(&text(&raw), &mut encoded), Some(()));
            assert_eq!(encoded, raw, "{}", text(&raw));
        }
        for bad in ["", "-", ".5", "1e5", "+1", "1.2.3", "--1", " 1", "infinity"] {
            assert_eq!(encode(bad, &mut Vec::new()), None, "{bad:?}");
        }
    }

    #[test]
    fn decimals_fit_or_are_refused() {
        for (raw, precision, scale, value) in [
            (raw(0, 0, 0, &[]), 5, 2, Some(0)),
            (raw(1, 0, 4, &[1, 2, 300]), 10, 4, Some(100_020_300)),
            (raw(1, 0, 4, &[1, 2, 300]), 10, 2, Some(1_000_203)),
            (raw(1, 0, 4, &[1, 2, 300]), 10, 1, None),
            (raw(0, 0x4000, 2, &[1, 5000]), 4, 2, Some(-150)),
            (raw(-2, 0x4000, 9, &[5000]), 9, 5, Some(-5)),
            (raw(-2, 0x4000, 9, &[5000]), 9, 4, None),
            (raw(2, 0, 0, &[1]), 9, 0, Some(100_000_000)),
            (raw(2, 0, 0, &[1]), 8, 0, None),
            (
                raw(9, 0, 0, &[99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999]),
                38,
                0,
                Some(10_i128.pow(38) - 1),
            ),
            (raw(9, 0, 0, &[100]), 38, 0, None),
            (raw(30, 0, 0, &[1]), 38, 0, None),
            (raw(-30, 0, 120, &[1]), 38, 10, None),
            (raw(0, 0xC000, 0, &[]), 38, 10, None),
            (raw(0, 0xD000, 0, &[]), 38, 10, None),
            (vec![0, 1], 38, 10, None),
        ] {
            assert_eq!(decimal(&raw, precision, scale), value, "{raw:?}");
        }
    }

    #[test]
    fn intervals_are_iso() {
        let interval_text = |micros: i64, days: i32, months: i32| {
            let mut raw = micros.to_be_bytes().to_vec();
            raw.extend(days.to_be_bytes());
            raw.extend(months.to_be_bytes());
            let mut out = Vec::new();
            interval(&raw, &mut out).expect("well-formed");
            String::from_utf8(out).expect("ascii")
        };
        assert_eq!(interval_text(14_706_500_000, 3, 14), "P1Y2M3DT4H5M6.5S");
        assert_eq!(interval_text(0, 0, 0), "PT0S");
        assert_eq!(interval_text(-500_000, 0, -1), "P-1MT-0.5S");
        assert_eq!(interval_text(3_600_000_000 * 30, 0, 0), "PT30H");
    }
}
