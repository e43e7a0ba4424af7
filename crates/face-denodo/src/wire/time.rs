//! Formats and parses times in this dialect's formats.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;

/// `2017-11-11T00:15:34.507+0000`, in UTC.
pub fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

/// Parses times in requests: `2017-11-07T16:50:32+0100`, the format of responses, or milliseconds since 1970. A plus
/// sign that was not escaped arrives as a space.
pub fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Timestamp::from_millisecond(millis).ok();
    }
    let text = text.replace(' ', "+");
    let parsed = BrokenDownTime::parse("%Y-%m-%dT%H:%M:%S%.f%z", &text).ok();
    parsed.and_then(|time| time.to_timestamp().ok()).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let expected: Timestamp = "2017-11-07T15:50:32Z".parse().unwrap();
        let forms = [
            "2017-11-07T16:50:32+0100",
            "2017-11-07T16:50:32 0100",
            "2017-11-07T15:50:32.000+0000",
            "2017-11-07T16:50:32+01:00",
            "2017-11-07T15:50:32Z",
            "1510069832000",
        ];
        for form in forms {
            assert_eq!(parse(form), Some(expected), "{form}");
        }
        for form in ["", "yesterday", "2017-11-07", "2017-13-07T16:50:32+0100", "99999999999999999"] {
            assert_eq!(parse(form), None, "{form}");
        }
        assert_eq!(millis(expected), "2017-11-07T15:50:32.000+0000");
    }
}
