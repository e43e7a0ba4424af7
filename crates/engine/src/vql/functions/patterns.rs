//! Java's patterns of dates and times, as far as VQL uses them: `y M d H h m s S a Z`, texts in quotes, and any other
//! character that is not a letter.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Field { letter: char, count: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Maximum length of a pattern, in bytes.
const MAX_BYTES: usize = 1_024;

impl Pattern {
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the pattern is longer than {MAX_BYTES} bytes"));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    literal(&mut parts, '\'');
                }
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.peek() == Some(&'\'') => {
                            chars.next();
                            literal(&mut parts, '\'');
                        }
                        Some('\'') => break,
                        Some(char) => literal(&mut parts, char),
                        None => return Err(format!("a quote in the pattern {text:?} is not closed")),
                    }
                },
                'y' | 'M' | 'd' | 'H' | 'h' | 'm' | 's' | 'S' | 'a' | 'Z' => {
                    let mut count = 1;
                    while chars.next_if_eq(&char).is_some() {
                        count += 1;
                    }
                    if count > 9 {
                        return Err(format!("the pattern {text:?} repeats {char} more than 9 times"));
                    }
                    parts.push(Part::Field { letter: char, count });
                }
                char if char.is_ascii_alphabetic() => {
                    return Err(format!("the letter {char} in the pattern {text:?} is not supported"));
                }
                char => literal(&mut parts, char),
            }
        }
        Ok(Pattern { text: text.to_owned(), parts })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// In UTC.
    pub fn format(&self, at: DateTime) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field { letter, count } => text.push_str(&field(*letter, *count, at)),
            }
        }
        text
    }

    /// A time that the text does not contain is 1970-01-01 00:00. The result is in UTC: an offset is subtracted.
    pub fn parse(&self, text: &str) -> Result<DateTime, String> {
        let mismatch = || {
            let shown: String = text.chars().take(60).collect();
            format!("the text {shown:?} does not match the pattern {:?}", self.text)
        };
        let mut found = Found::default();
        let mut rest = text;
        for (index, part) in self.parts.iter().enumerate() {
            rest = match part {
                Part::Literal(literal) => rest.strip_prefix(literal.as_str()).ok_or_else(mismatch)?,
                Part::Field { letter, count } => {
                    let next = self.parts.get(index + 1);
                    found.read(rest, *letter, *count, next.is_some_and(is_digits)).ok_or_else(mismatch)?
                }
            };
        }
        if !rest.is_empty() {
            return Err(mismatch());
        }
        found.time().ok_or_else(mismatch)
    }
}

fn literal(parts: &mut Vec<Part>, char: char) {
    match parts.last_mut() {
        Some(Part::Literal(text)) => text.push(char),
        _ => parts.push(Part::Literal(char.to_string())),
    }
}

/// Whether a part begins with a digit in a text.
fn is_digits(part: &Part) -> bool {
    match part {
        Part::Field { letter: 'M', count } => *count < 3,
        Part::Field { letter, .. } => !matches!(letter, 'a' | 'Z'),
        Part::Literal(text) => text.starts_with(|char: char| char.is_ascii_digit()),
    }
}

fn field(letter: char, count: usize, at: DateTime) -> String {
    let padded = |value: i64| format!("{value:0count$}");
    match letter {
        'y' if count == 2 => format!("{:02}", at.year().rem_euclid(100)),
        'y' => padded(i64::from(at.year())),
        'M' if count < 3 => padded(i64::from(at.month())),
        'M' => {
            let name = usize::try_from(at.month() - 1).ok().and_then(|month| MONTHS.get(month));
            let name = name.copied().unwrap_or_default();
            if count == 3 { name.chars().take(3).collect() } else { name.to_owned() }
        }
        'd' => padded(i64::from(at.day())),
        'H' => padded(i64::from(at.hour())),
        'h' => padded(i64::from((at.hour() + 11).rem_euclid(12) + 1)),
        'm' => padded(i64::from(at.minute())),
        's' => padded(i64::from(at.second())),
        'S' => format!("{:09}", at.subsec_nanosecond()).chars().take(count).collect(),
        'a' => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        _ => "+0000".to_owned(),
    }
}

/// The fields of a text.
#[derive(Default)]
struct Found {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: Option<i8>,
    half_hour: Option<i8>,
    minute: Option<i8>,
    second: Option<i8>,
    nanosecond: Option<i32>,
    afternoon: Option<bool>,
    offset_minutes: Option<i32>,
}

/// Between so many digits at the start of a text, and the rest.
fn number(text: &str, min: usize, max: usize) -> Option<(i32, &str)> {
    let end = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if end < min {
        return None;
    }
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl Found {
    /// Reads a field; returns the rest of the text.
    fn read<'a>(&mut self, text: &'a str, letter: char, count: usize, adjacent: bool) -> Option<&'a str> {
        // Java reads a field of one letter with any number of digits, others with exactly theirs.
        let two = if count == 1 && !adjacent { (1, 2) } else { (count, count) };
        let small = |text: &'a str| {
            let (value, rest) = number(text, two.0, two.1)?;
            Some((i8::try_from(value).ok()?, rest))
        };
        match letter {
            'y' => {
                let (min, max) = match count {
                    2 => (2, 2),
                    _ if adjacent => (count, count),
                    _ => (count, 9),
                };
                let (year, rest) = number(text, min, max)?;
                self.year = Some(i16::try_from(if count == 2 { year + 2_000 } else { year }).ok()?);
                Some(rest)
            }
            'M' if count >= 3 => {
                let is_name = |name: &str| {
                    let name = if count == 3 { name.get(..3).unwrap_or_default() } else { name };
                    text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                };
                let month = MONTHS.iter().position(|name| is_name(name))?;
                self.month = i8::try_from(month + 1).ok();
                text.get(if count == 3 { 3 } else { MONTHS.get(month)?.len() }..)
            }
            'S' => {
                let (value, rest) = number(text, count, count)?;
                let power = u32::try_from(9_usize.saturating_sub(count)).ok()?;
                self.nanosecond = Some(value.checked_mul(10_i32.checked_pow(power)?)?);
                Some(rest)
            }
            'a' => {
                let half = text.get(..2)?;
                self.afternoon = Some(match half {
                    half if half.eq_ignore_ascii_case("am") => false,
                    half if half.eq_ignore_ascii_case("pm") => true,
                    _ => return None,
                });
                text.get(2..)
            }
            'Z' => {
                let (offset, rest) = number(text.strip_prefix(['+', '-'])?, 4, 4)?;
                let minutes = offset / 100 * 60 + offset % 100;
                if minutes > 18 * 60 || offset % 100 >= 60 {
                    return None;
                }
                self.offset_minutes = Some(if text.starts_with('-') { -minutes } else { minutes });
                Some(rest)
            }
            _ => {
                let (value, rest) = small(text)?;
                let field = match letter {
                    'M' => &mut self.month,
                    'd' => &mut self.day,
                    'H' => &mut self.hour,
                    'h' => &mut self.half_hour,
                    'm' => &mut self.minute,
                    _ => &mut self.second,
                };
                *field = Some(value);
                Some(rest)
            }
        }
    }

    fn time(&self) -> Option<DateTime> {
        let date =
            Date::new(self.year.unwrap_or(1970), self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()?;
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) if (1..=12).contains(&hour) => {
                hour % 12 + if self.afternoon == Some(true) { 12 } else { 0 }
            }
            (None, Some(_)) => return None,
            (None, None) => 0,
        };
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        let time = Time::new(hour, minute, second, self.nanosecond.unwrap_or(0)).ok()?;
        let offset = SignedDuration::from_mins(self.offset_minutes.unwrap_or(0).into());
        date.to_datetime(time).checked_sub(offset).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_format_as_in_java() {
        let afternoon = at("2024-03-05T14:07:09.012345678");
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-03-05 14:07:09"),
            ("yy/M/d", "24/3/5"),
            ("dd MMM yyyy", "05 Mar 2024"),
            ("MMMM d, y", "March 5, 2024"),
            ("h:mm a", "2:07 PM"),
            ("HH:mm:ss.SSS Z", "14:07:09.012 +0000"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSSSS", "2024-03-05T14:07:09.012345"),
            ("h 'o''clock' ''a", "2 o'clock 'PM"),
            ("yyyyy", "02024"),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().format(afternoon), expected, "{pattern}");
        }
        assert_eq!(Pattern::new("hh a").unwrap().format(at("2024-01-01T00:30")), "12 AM");
        for wrong in ["'", "yyyy 'x", "EEE", "yyyyyyyyyyyy", "w"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn texts_are_read_by_patterns() {
        for (pattern, text, expected) in [
            ("yyyy-MM-dd", "2024-02-29", "2024-02-29T00:00"),
            ("yyyyMMddHHmmss", "20240305140709", "2024-03-05T14:07:09"),
            ("d/M/yy", "5/3/24", "2024-03-05T00:00"),
            ("dd MMM yyyy", "05 mar 2024", "2024-03-05T00:00"),
            ("MMMM d, yyyy h:mm a", "March 5, 2024 2:07 pm", "2024-03-05T14:07"),
            ("h a", "12 AM", "1970-01-01T00:00"),
            ("HH:mm:ss.SSS", "14:07:09.012", "1970-01-01T14:07:09.012"),
            ("yyyy-MM-dd'T'HHZ", "2024-03-05T14+0200", "2024-03-05T12:00"),
            ("yyyy-MM-dd HH:mm Z", "2024-02-29 23:30 -0130", "2024-03-01T01:00"),
            ("yyyy-MM-dd Z", "2024-03-05 +0000", "2024-03-05T00:00"),
            ("yyyy-MM-dd Z", "2024-03-05 -1800", "2024-03-05T18:00"),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().parse(text).unwrap(), at(expected), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("yyyy-MM-dd", "2024-02-30"),
            ("yyyy-MM-dd", "2024-2-3"),
            ("yyyy-MM-dd", "2024-02-03 "),
            ("yyyy-MM-dd", ""),
            ("HH", "24"),
            ("hh a", "13 AM"),
            ("MMM", "Mä"),
            ("a", "x"),
            ("Z", "+9999"),
            ("Z", "+1801"),
            ("Z", "+0060"),
            ("yyyy HH Z", "-9999 00 +0100"),
            ("yyyy", "99999"),
        ] {
            assert!(Pattern::new(pattern).unwrap().parse(text).is_err(), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn patterns_never_panic(pattern in "[yMdHhmsSaZ' :é-]{0,12}", text in "[0-9A-Za-zé :+-]{0,20}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _ = pattern.parse(&text);
                pattern.format(DateTime::MIN);
                pattern.format(DateTime::MAX);
            }
        }
    }
}
