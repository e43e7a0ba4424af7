//! Reads Java's `.properties` files, the form in which an environment's values are kept (spec 2.1).

use std::collections::BTreeMap;

/// Maximum size of a file.
pub const MAX_BYTES: usize = 32 * 1_024 * 1_024;

/// Names and values. A value that is given twice is the last one, as Java reads it.
pub type Properties = BTreeMap<String, String>;

/// The text of a file: UTF-8 with or without a byte order mark, otherwise ISO-8859-1, which every file is.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Reads a file. An escape `\u` without four hexadecimal digits is an error, which names its line.
pub fn read(bytes: &[u8]) -> Result<Properties, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("the properties are larger than {} MiB", MAX_BYTES >> 20));
    }
    let text = text(bytes);
    let mut found = Properties::new();
    let mut lines = text.split(['\n', '\r']).zip(1_u32..);
    while let Some((line, number)) = lines.next() {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            // A CRLF ends one line, not two.
            let next = lines.find(|(line, _)| !(text_is_crlf(&text) && line.is_empty()));
            let Some((next, _)) = next else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (name, value) = split(&logical);
        let read = |part: &str| {
            unescaped(part).ok_or_else(|| format!("line {number}: \\u needs four hexadecimal digits"))
        };
        found.insert(read(name)?, read(value)?);
    }
    Ok(found)
}

fn text_is_crlf(text: &str) -> bool {
    text.contains("\r\n")
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// An odd number of backslashes at the end continues the line.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The name ends at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, char)| {
        let ends = !escaped && matches!(char, '=' | ':' | ' ' | '\t' | '\u{c}');
        escaped = !escaped && *char == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(BLANK))
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    // Characters outside the basic plane are written as two escapes.
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let plain = match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    if digits.len() != 4 {
                        return None;
                    }
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            (other, false) => other,
        };
        out.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        out.push(plain);
    }
    out.push_str(&String::from_utf16_lossy(&units));
    Some(out)
}

/// Writes properties so that `read`, and Java, read the same.
pub fn write(properties: &Properties) -> String {
    let mut out = String::new();
    for (name, value) in properties {
        escape(name, true, &mut out);
        out.push('=');
        escape(value, false, &mut out);
        out.push('\n');
    }
    out
}

fn escape(text: &str, name: bool, out: &mut String) {
    for (at, char) in text.chars().enumerate() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            ' ' if name || at == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' if name => {
                out.push('\\');
                out.push(char);
            }
            '\u{feff}' => out.push_str("\\ufeff"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let file = "\u{feff}# REQUIRES-PROPERTIES-FILE - # Do not remove this comment!\n\
             ! another comment\n\n\
             databases.sales.datasources.jdbc.ds_erp.DATABASEURI=jdbc\\:postgresql\\://h\\:5432/erp\n\
             a.folder.ds.views.custom.ds_dummy.File\\ location.ROUTE.LOCAL.PATH = /data/a\\#b.csv\n\
             colon: value\n\
             \tblank   value with  blanks  \n\
             empty\n\
             empty.too=\n\
             two.lines = one \\\n      two\n\
             backslash = \\\\\n\
             unicode = \\u00e4\\ud83d\\ude00\n\
             twice = 1\n\
             twice = 2";
        let read = read(file.as_bytes()).unwrap();
        let expected = [
            ("databases.sales.datasources.jdbc.ds_erp.DATABASEURI", "jdbc:postgresql://h:5432/erp"),
            ("a.folder.ds.views.custom.ds_dummy.File location.ROUTE.LOCAL.PATH", "/data/a#b.csv"),
            ("colon", "value"),
            ("blank", "value with  blanks  "),
            ("empty", ""),
            ("empty.too", ""),
            ("two.lines", "one two"),
            ("backslash", "\\"),
            ("unicode", "ä😀"),
            ("twice", "2"),
        ];
        assert_eq!(read.len(), expected.len(), "{read:?}");
        for (name, value) in expected {
            assert_eq!(read[name], value, "{name}");
        }
    }

    #[test]
    fn lines_may_end_as_on_windows_and_bytes_may_be_latin_1() {
        let read_file = read(b"a = 1 \\\r\n  2\r\nb = \xe4\r\n").unwrap();
        assert_eq!((read_file["a"].as_str(), read_file["b"].as_str()), ("1 2", "ä"));
        assert_eq!(read(b"ok = 1\nbad = \\u12").unwrap_err(), "line 2: \\u needs four hexadecimal digits");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in prop::collection::btree_map(".*", ".*", 0..6)) {
            prop_assert_eq!(read(write(&pairs).as_bytes()).unwrap(), pairs);
        }
    }
}
