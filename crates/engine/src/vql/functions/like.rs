//! Patterns of LIKE.

/// VQL's escape character where ESCAPE names no other.
pub const DEFAULT_ESCAPE: char = '$';

/// The same pattern with a backslash as its escape character. An escape character at the end is itself.
pub fn with_backslash(pattern: &str, escape: char) -> String {
    let mut made = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        let (char, literal) = match char {
            char if char == escape => (chars.next().unwrap_or(escape), true),
            char => (char, false),
        };
        if char == '\\' || (literal && matches!(char, '%' | '_')) {
            made.push('\\');
        }
        made.push(char);
    }
    made
}

#[cfg(test)]
mod tests {
    use arrow_array::{Scalar, StringArray};
    use proptest::prelude::*;

    use super::*;

    /// Whether a text matches a pattern, character by character.
    fn matches(text: &[char], pattern: &[char], escape: char) -> bool {
        match pattern {
            [] => text.is_empty(),
            [first, rest @ ..] if *first == escape => match rest {
                [] => text == [escape],
                [literal, rest @ ..] => text.first() == Some(literal) && matches(&text[1..], rest, escape),
            },
            ['%', rest @ ..] => (0..=text.len()).any(|start| matches(&text[start..], rest, escape)),
            ['_', rest @ ..] => !text.is_empty() && matches(&text[1..], rest, escape),
            [first, rest @ ..] => text.first() == Some(first) && matches(&text[1..], rest, escape),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn patterns_match_as_before(text in "[a%_$\\\\.]{0,5}", pattern in "[a%_$\\\\.]{0,6}", escape in "[$\\\\!%a]") {
            let escape = escape.chars().next().unwrap();
            let with = with_backslash(&pattern, escape);
            let (texts, patterns) = (StringArray::from(vec![text.as_str()]), StringArray::from(vec![with.as_str()]));
            let found = arrow_string::like::like(&texts, &Scalar::new(&patterns)).unwrap();
            let (text, pattern): (Vec<_>, Vec<_>) = (text.chars().collect(), pattern.chars().collect());
            prop_assert_eq!(found.value(0), matches(&text, &pattern, escape), "{:?}", with);
        }
    }
}
