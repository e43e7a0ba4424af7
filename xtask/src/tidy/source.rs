//! A rough parser for Rust source: it finds comments, literals and unit tests.

use super::TextFile;

/// A source file with parts blanked out; all versions have the same lines as the original.
pub struct Source {
    /// Without comments and without the content of string and character literals.
    pub code: String,
    /// Without comments.
    pub uncommented: String,
    /// For each line, whether it belongs to an item under `#[cfg(test)]`.
    pub is_test: Vec<bool>,
}

impl Source {
    pub fn read(file: &TextFile) -> Self {
        let (code, uncommented) = blank(&file.text);
        let is_test = if file.is_test() || code.contains("#![cfg(test)]") {
            vec![true; file.text.lines().count()]
        } else {
            test_lines(&code)
        };
        Self { code, uncommented, is_test }
    }

    /// Whether a line, counted from 1, is test code.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_test.get(line - 1).copied().unwrap_or(false)
    }
}

/// Returns the text without comments and literals, and the text without comments.
pub fn blank(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut uncommented) = (String::new(), String::new());
    let mut at = 0;
    let mut after_word = false;
    while at < chars.len() {
        let end;
        let (mut hide_in_code, mut hide_in_both) = (false, false);
        if let Some(comment) = comment_end(&chars, at) {
            (end, hide_in_both) = (comment, true);
        } else if let Some(literal) = (!after_word).then(|| literal_end(&chars, at)).flatten() {
            (end, hide_in_code) = (literal, true);
        } else if chars[at] == '\'' || chars[at] == '"' {
            // No word precedes the opening quote of a literal, except a prefix that we have already seen.
            (end, hide_in_code) = match literal_end(&chars, at) {
                Some(literal) => (literal, true),
                None => (at + 1, false),
            };
        } else {
            end = at + 1;
        }
        for &c in &chars[at..end] {
            let blanked = if c == '\n' { '\n' } else { ' ' };
            code.push(if hide_in_code || hide_in_both { blanked } else { c });
            uncommented.push(if hide_in_both { blanked } else { c });
        }
        let last = chars[end - 1];
        after_word = !hide_in_code && !hide_in_both && (last.is_alphanumeric() || last == '_');
        at = end;
    }
    (code, uncommented)
}

fn comment_end(chars: &[char], start: usize) -> Option<usize> {
    match (chars[start], chars.get(start + 1)) {
        ('/', Some('/')) => {
            Some(chars[start..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| start + length))
        }
        ('/', Some('*')) => {
            let (mut depth, mut at) = (0usize, start);
            while at < chars.len() {
                match (chars[at], chars.get(at + 1)) {
                    ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
                    ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
            Some(at)
        }
        _ => None,
    }
}

/// The end of the string or character literal that starts at `start`, including a prefix (`r#`, `b`, `br`, `c`).
fn literal_end(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    while at < start + 2 && matches!(chars.get(at), Some('b' | 'c' | 'r')) {
        at += 1;
    }
    let raw = at > start && chars[at - 1] == 'r';
    let hashes = chars[at..].iter().take_while(|c| raw && **c == '#').count();
    at += hashes;
    match chars.get(at)? {
        '"' if raw => {
            let closes = |from: usize| {
                chars[from] == '"'
                    && chars[from + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
            };
            let close = (at + 1..chars.len()).find(|from| closes(*from))?;
            Some(close + 1 + hashes)
        }
        '"' => escaped_end(chars, at + 1, '"'),
        // A character; otherwise it is the tick of a lifetime or label.
        '\'' if !raw && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) => {
            escaped_end(chars, at + 1, '\'')
        }
        _ => None,
    }
}

fn escaped_end(chars: &[char], mut at: usize, quote: char) -> Option<usize> {
    while let Some(c) = chars.get(at) {
        match *c {
            '\\' => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Marks the lines of every item under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    const MARK: &str = "#[cfg(test)]";
    let mut marked = vec![false; code.lines().count()];
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code, start + MARK.len());
        let (first, last) = (line_of(code, start), line_of(code, end));
        for line in marked.iter_mut().take(last).skip(first - 1) {
            *line = true;
        }
        from = end;
    }
    marked
}

/// The end of the item that starts at `start`: its closing brace or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    match body_start(code, start) {
        Some(open) => closing_brace(code, open),
        None => code[start..].find(';').map_or(code.len(), |length| start + length),
    }
}

/// Where the `{` of an item's body is, unless a `;` ends the item before.
pub fn body_start(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The position of the brace that closes the one at `open`.
pub fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

/// The line, counted from 1, of a byte position.
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The positions at which `word` occurs in `text` with no letter, digit or underscore next to it.
pub fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let open_end = !word.ends_with(is_part) || !after.is_some_and(is_part);
        open_end && !before.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code with runs of spaces collapsed.
    fn squeezed(text: &str) -> String {
        let (code, uncommented) = blank(text);
        assert_eq!(code.chars().count(), text.chars().count());
        assert_eq!(uncommented.chars().count(), text.chars().count());
        code.lines()
            .map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn blanks_comments_and_literals() {
        assert_eq!(squeezed("a // b\nc"), "a\nc");
        assert_eq!(squeezed("a /* { /* } */ \n { */ b"), "a\nb");
        assert_eq!(squeezed(r#"f("{ \" }", 'x')"#), "f( , )");
        assert_eq!(squeezed("f(r#\"a \" {\"#) g"), "f( ) g");
        assert_eq!(squeezed("x(b'{', br\"}\")"), "x( , )");
        assert_eq!(squeezed("for<'a> fn(&'a str) '\\'' '{'"), "for<'a> fn(&'a str)");
        assert_eq!(squeezed("'label: loop { break 'label }"), "'label: loop { break 'label }");
        assert_eq!(squeezed("bar(\"q\") r#type"), "bar( ) r#type");
        assert_eq!(blank("a(\"//\") // \"b\"").1.trim_end(), "a(\"//\")");
    }

    #[test]
    fn items_under_cfg_test_are_test_lines() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod t {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nuse x;\nfn d() {}\n";
        let expected = [false, true, true, true, true, false, true, true, false];
        assert_eq!(test_lines(&blank(text).0), expected);
    }

    #[test]
    fn finds_whole_words_only() {
        assert_eq!(find_word("sqlx my_sqlx sqlx_core x.sqlx", "sqlx").collect::<Vec<_>>(), [0, 25]);
        assert_eq!(find_word("landreeve_http::a http::b", "http::").collect::<Vec<_>>(), [18]);
    }
}
