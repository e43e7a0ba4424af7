//! Content negotiation by the `Accept` header.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// More ranges than any client sends; further ones are ignored.
const MAX_RANGES: usize = 64;

/// One entry of an `Accept` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// `type/subtype` in lower case; either can be `*`.
    pub essence: String,
    /// Names are in lower case; `q` is left out.
    pub parameters: Vec<(String, String)>,
    /// In thousandths.
    pub quality: u16,
}

/// The ranges of a request in order. Empty: no header, or no valid range.
pub fn accepted(headers: &HeaderMap) -> Vec<Range> {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| split_outside_quotes(line, ',')).filter_map(range).take(MAX_RANGES).collect()
}

/// The index of the best of `offered` (essences in lower case, in the server's order of preference), or `None` if the
/// client accepts none of them. Without an `Accept` header everything is accepted.
pub fn choose(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let ranges = accepted(headers);
    if ranges.is_empty() {
        return (!offered.is_empty()).then_some(0);
    }
    let mut best = None;
    for (index, offer) in offered.iter().enumerate() {
        let quality = quality(&ranges, offer);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((index, quality));
        }
    }
    best.map(|(index, _)| index)
}

/// The quality of a type, from the most specific range that matches it.
fn quality(ranges: &[Range], offer: &str) -> u16 {
    let main = offer.split_once('/').map_or(offer, |(main, _)| main);
    let specificity = |range: &Range| match range.essence.split_once('/') {
        _ if range.essence == offer => 3,
        Some((kind, "*")) if kind == main => 2,
        Some(("*", "*")) => 1,
        _ => 0,
    };
    let matching = ranges.iter().filter(|range| specificity(range) > 0);
    matching.max_by_key(|range| (specificity(range), range.quality)).map_or(0, |range| range.quality)
}

fn range(text: &str) -> Option<Range> {
    let mut parts = split_outside_quotes(text, ';');
    let essence = parts.next()?.trim().to_ascii_lowercase();
    // Java's old client sends a single `*`.
    let essence = if essence == "*" { "*/*".to_owned() } else { essence };
    if !essence.contains('/') {
        return None;
    }
    let mut range = Range { essence, parameters: Vec::new(), quality: 1_000 };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        if name == "q" {
            let quality = value.parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            range.quality = (quality * 1_000.0).round() as u16;
        } else if !name.is_empty() {
            range.parameters.push((name, value.to_owned()));
        }
    }
    Some(range)
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// `type/subtype` of a media type, in lower case and without parameters.
pub fn essence(media_type: &str) -> String {
    let essence = media_type.split_once(';').map_or(media_type, |(essence, _)| essence);
    essence.trim().to_ascii_lowercase()
}

/// The essence of the request's `Content-Type`; `None` if it is missing or empty.
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(essence(value)).filter(|essence| !essence.is_empty())
}

/// Whether a type is JSON, by name or by suffix (`application/vnd.api+json`).
pub fn is_json(essence: &str) -> bool {
    matches!(essence, "application/json" | "text/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn chosen(accept: &'static str, offered: &[&str]) -> Option<usize> {
        choose(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]), offered)
    }

    #[test]
    fn prefers_quality_over_the_servers_order() {
        let offered = ["application/json", "text/csv", "application/vnd.apache.parquet"];
        assert_eq!(choose(&HeaderMap::new(), &offered), Some(0));
        assert_eq!(chosen("", &offered), Some(0));
        assert_eq!(chosen("*/*", &offered), Some(0));
        assert_eq!(chosen("*", &offered), Some(0));
        assert_eq!(chosen("text/csv", &offered), Some(1));
        assert_eq!(chosen("Text/CSV; charset=utf-8", &offered), Some(1));
        assert_eq!(chosen("text/*;q=0.5, application/json;q=0.4", &offered), Some(1));
        assert_eq!(chosen("application/json;q=0, */*;q=0.1", &offered), Some(1));
        assert_eq!(chosen("text/html", &offered), None);
        assert_eq!(chosen("text/csv;q=2, application/json", &offered), Some(0));
        assert_eq!(chosen("text/csv;q=0", &offered), None);
    }

    #[test]
    fn keeps_parameters_and_unusual_names() {
        let headers = HeaderMap::from_iter([(
            ACCEPT,
            HeaderValue::from_static("application/api.x=v1+json;a=\"1,2;3\";q=0.25, text/plain"),
        )]);
        let ranges = accepted(&headers);
        assert_eq!(ranges.len(), 2);
        assert_eq!(ranges[0].essence, "application/api.x=v1+json");
        assert_eq!(ranges[0].parameters, [("a".to_owned(), "1,2;3".to_owned())]);
        assert_eq!(ranges[0].quality, 250);
        assert!(is_json(&ranges[0].essence));
    }

    #[test]
    fn reads_content_types() {
        let headers = |value| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        assert_eq!(
            content_type(&headers("Application/JSON ; charset=x")).as_deref(),
            Some("application/json")
        );
        assert_eq!(content_type(&headers("")), None);
    }
}
