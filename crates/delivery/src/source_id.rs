//! Ids of teams and people in the form the Data Cloud uses in its tables (`source_id`) and its API: base64 of the
//! decimal number, without padding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

pub fn encode(id: i64) -> String {
    STANDARD_NO_PAD.encode(id.to_string())
}

pub fn decode(text: &str) -> Option<i64> {
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    let id: i64 = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
    // Accept only the form that `encode` produces.
    (id > 0 && encode(id) == text.trim_end_matches('=')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_documented_form() {
        assert_eq!(encode(50_877), "NTA4Nzc");
        assert_eq!(decode("NTA4Nzc"), Some(50_877));
        assert_eq!(encode(-1), "LTE");
        for text in ["", "LTE", "%00", "NTA4Nzc0000000000000000000", "MDE"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
