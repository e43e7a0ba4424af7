//! A script as statements with the values of its properties.
//!
//! A script is split into tokens **before** values are filled in, so that a value can never end a literal, start a
//! comment or add a statement: inside a literal or a quoted name it is data of it, elsewhere it is nothing or exactly one
//! name, keyword, number or literal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use landreeve_core::sql::{Kind, Scanner, VQL, statements};

use super::place::{Fault, Lines, Place};
use super::properties::Properties;

/// Maximum size of a script, in bytes.
pub const MAX_SCRIPT: usize = 32 * 1_024 * 1_024;
/// Maximum size of a statement with its values, in bytes.
pub const MAX_STATEMENT: usize = 1_024 * 1_024;
/// Maximum number of statements in a script.
pub const MAX_STATEMENTS: usize = 100_000;
/// Maximum nesting of parentheses.
pub const MAX_DEPTH: usize = 64;

/// One statement of a script.
#[derive(Debug, Clone)]
pub struct Piece {
    /// In the script, starting at 0.
    pub index: usize,
    pub place: Place,
    /// As its author wrote it, with properties in place of their values.
    pub written: String,
    /// With the values.
    pub text: String,
    origins: Vec<Origin>,
    /// Where each line of the script starts, up to the end of this statement: positions and texts of the whole script
    /// are not kept.
    lines: std::sync::Arc<(String, Lines)>,
}

/// From where a part of a statement's text is: up to the next one, it is what is written in the script from a position
/// on, or the value of the property that is written there.
#[derive(Debug, Clone, Copy)]
struct Origin {
    start: usize,
    written: usize,
    is_value: bool,
}

impl Piece {
    /// The place in the script of a byte of `text`.
    pub fn place_of(&self, at: usize) -> Place {
        let known = self.origins.partition_point(|origin| origin.start <= at).saturating_sub(1);
        let (text, lines) = &*self.lines;
        let found = self.origins.get(known).map_or(0, |origin| match origin.is_value {
            true => origin.written,
            false => origin.written + (at - origin.start.min(at)),
        });
        lines.place(text, found)
    }

    pub fn fault(&self, at: usize, message: impl Into<String>) -> Fault {
        Fault { place: self.place_of(at), message: message.into() }
    }
}

/// The statements of a script, with the values of these properties.
pub fn pieces(script: &str, properties: &Properties) -> Result<Vec<Piece>, Vec<Fault>> {
    let first = Place { line: 1, column: 1 };
    if script.len() > MAX_SCRIPT {
        let message = format!("the script is larger than {} MiB", MAX_SCRIPT >> 20);
        return Err(vec![Fault { place: first, message }]);
    }
    let lines = std::sync::Arc::new((script.to_owned(), Lines::of(script)));
    let (mut found, mut faults, mut missing) = (Vec::new(), Vec::new(), BTreeMap::new());
    let ranges = statements(script, VQL);
    if ranges.len() > MAX_STATEMENTS {
        let message = format!("the script has more than {MAX_STATEMENTS} statements");
        return Err(vec![Fault { place: first, message }]);
    }
    let end = ranges.last().map_or(0, |range| range.end);
    // Statements report what is not closed in them; after the last, only a comment can be open.
    if let Some(open) = Scanner::new(script, VQL).find(|token| !token.closed && token.start >= end) {
        let place = lines.1.place(script, open.start);
        faults.push(Fault { place, message: format!("{} is not closed", what(open.kind)) });
    }
    for (index, range) in ranges.into_iter().enumerate() {
        let mut filling =
            Filling { script, properties, lines: &lines.1, missing: &mut missing, faults: &mut faults };
        let (text, origins) = filling.fill(range.clone());
        let place = lines.1.place(script, range.start);
        if text.len() > MAX_STATEMENT {
            let message = format!("the statement is larger than {} MiB", MAX_STATEMENT >> 20);
            faults.push(Fault { place, message });
            continue;
        }
        let written = script.get(range).unwrap_or_default().to_owned();
        found.push(Piece { index, place, written, text, origins, lines: std::sync::Arc::clone(&lines) });
    }
    if let Some(at) = missing.values().min() {
        let place = lines.1.place(script, *at);
        let names: Vec<&str> = missing.keys().map(String::as_str).collect();
        faults.insert(0, Fault { place, message: format!("missing properties: {}", names.join(", ")) });
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// Statements that were stored: their values are filled in, and what they contain is data.
pub fn stored_pieces(text: &str) -> Vec<Piece> {
    let lines = std::sync::Arc::new((text.to_owned(), Lines::of(text)));
    let piece = |(index, range): (usize, Range<usize>)| {
        let written = text.get(range.clone()).unwrap_or_default().to_owned();
        let origins = vec![Origin { start: 0, written: range.start, is_value: false }];
        let place = lines.1.place(text, range.start);
        Piece { index, place, text: written.clone(), written, origins, lines: std::sync::Arc::clone(&lines) }
    };
    statements(text, VQL).into_iter().enumerate().map(piece).collect()
}

/// The names of all properties that a script uses.
pub fn property_names(script: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for token in Scanner::new(script, VQL) {
        let text = script.get(token.start..token.end).unwrap_or_default();
        if !token.kind.is_blank() {
            names.extend(properties_in(text).map(|(_, name)| name.to_owned()));
        }
    }
    names
}

/// Each `${name}` in a text: its range and its name.
pub(crate) fn properties_in(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + text.get(from..)?.find("${")?;
            let name = text.get(start + 2..)?;
            let end = name.find(['{', '}', '\n'])?;
            from = start + 2;
            if name.get(end..)?.starts_with('}') {
                let range = start..start + 2 + end + 1;
                from = range.end;
                return Some((range, name.get(..end)?));
            }
        }
    })
}

struct Filling<'a> {
    script: &'a str,
    properties: &'a Properties,
    lines: &'a Lines,
    /// Where each property without a value is first.
    missing: &'a mut BTreeMap<String, usize>,
    faults: &'a mut Vec<Fault>,
}

impl Filling<'_> {
    fn fill(&mut self, range: Range<usize>) -> (String, Vec<Origin>) {
        let script = self.script.get(range.clone()).unwrap_or_default();
        let mut out = String::with_capacity(script.len());
        let mut origins = vec![Origin { start: 0, written: range.start, is_value: false }];
        let mut depth = 0_usize;
        for token in Scanner::new(script, VQL) {
            let text = script.get(token.start..token.end).unwrap_or_default();
            let at = range.start + token.start;
            if !token.closed {
                self.fault(at, format!("{} is not closed", what(token.kind)));
            }
            match token.kind {
                Kind::Parameter => {
                    out.push(' ');
                    origins.push(Origin { start: out.len(), written: at, is_value: true });
                    self.alone(text, at, &mut out);
                    let written = range.start + token.end;
                    origins.push(Origin { start: out.len(), written, is_value: false });
                }
                Kind::Text => self.inside(text, at, '\'', &mut out, &mut origins),
                Kind::QuotedName if text.starts_with('`') => {
                    self.inside(text, at, '`', &mut out, &mut origins)
                }
                Kind::QuotedName => self.inside(text, at, '"', &mut out, &mut origins),
                kind => {
                    match text {
                        "(" if kind == Kind::Symbol => depth += 1,
                        ")" if kind == Kind::Symbol => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    if depth == MAX_DEPTH + 1 && text == "(" {
                        self.fault(at, format!("more than {MAX_DEPTH} levels of parentheses"));
                    }
                    out.push_str(text);
                }
            }
        }
        (out, origins)
    }

    fn fault(&mut self, at: usize, message: impl Into<String>) {
        self.faults.push(Fault { place: self.lines.place(self.script, at), message: message.into() });
    }

    fn value(&mut self, name: &str, at: usize) -> Option<&str> {
        let value = self.properties.get(name);
        if value.is_none() {
            self.missing.entry(name.to_owned()).or_insert(at);
        }
        value.map(String::as_str)
    }

    /// A property that is a token of its own. Blanks keep its value apart from what is around it.
    fn alone(&mut self, text: &str, at: usize, out: &mut String) {
        let Some((_, name)) = properties_in(text).next() else { return };
        let Some(value) = self.value(name, at) else { return };
        let value = value.trim();
        let mut tokens = Scanner::new(value, VQL).filter(|token| !token.kind.is_blank());
        let one = match (tokens.next(), tokens.next()) {
            (None, _) => value.is_empty(),
            (Some(token), None) => {
                let kinds = [Kind::Word, Kind::QuotedName, Kind::Text, Kind::Number];
                token.closed && kinds.contains(&token.kind) && token.start == 0 && token.end == value.len()
            }
            (Some(_), Some(_)) => false,
        };
        if one {
            out.push_str(value);
            out.push(' ');
        } else {
            let message = format!(
                "the value of the property {name} must be empty or one name, keyword, number or literal here"
            );
            self.fault(at, message);
        }
    }

    /// Properties in a literal or a quoted name.
    fn inside(&mut self, text: &str, at: usize, quote: char, out: &mut String, origins: &mut Vec<Origin>) {
        let mut done = 0;
        for (range, name) in properties_in(text) {
            out.push_str(text.get(done..range.start).unwrap_or_default());
            origins.push(Origin { start: out.len(), written: at + range.start, is_value: true });
            if let Some(value) = self.value(name, at + range.start) {
                for char in value.chars() {
                    out.push(char);
                    if char == quote {
                        out.push(char);
                    }
                }
            }
            done = range.end;
            origins.push(Origin { start: out.len(), written: at + done, is_value: false });
        }
        out.push_str(text.get(done..).unwrap_or_default());
    }
}

const fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a literal",
        Kind::QuotedName => "a quoted name",
        Kind::BlockComment => "a comment",
        _ => "a property",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn texts(script: &str, pairs: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        match pieces(script, &given(pairs)) {
            Ok(found) => Ok(found.into_iter().map(|piece| piece.text).collect()),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_script_is_split_at_semicolons_outside_literals_and_comments() {
        let script =
            "\u{feff}# a; b\nENTER SINGLE USER MODE;\n-- c;\nCREATE DATABASE \"a;b\" 'x;''y'; /* ; */ ;CLOSE";
        assert_eq!(
            texts(script, &[]).unwrap(),
            ["ENTER SINGLE USER MODE", "CREATE DATABASE \"a;b\" 'x;''y'", "CLOSE"]
        );
        let found = pieces(script, &given(&[])).unwrap();
        let places: Vec<_> = found.iter().map(|piece| (piece.place.line, piece.place.column)).collect();
        assert_eq!(places, [(2, 1), (4, 1), (4, 41)]);
    }

    #[test]
    fn values_are_data_of_a_literal_or_one_token() {
        let script = "SET '${a}' ${b};";
        assert_eq!(texts(script, &[("a", "it's"), ("b", "")]).unwrap(), ["SET 'it''s'   "]);
        assert_eq!(
            texts(script, &[("a", "\\'; drop"), ("b", "ENCRYPTED")]).unwrap(),
            ["SET '\\''; drop'  ENCRYPTED "]
        );
        assert_eq!(texts("A \"${n}\" `${n}`", &[("n", "x\"`y")]).unwrap(), ["A \"x\"\"`y\" `x\"``y`"]);
        for value in
            ["a b", "a;", ";", "'a", "'a' 'b'", "a -- b", "/* */", "--", "#", "(", "a.b", "${x}", "*"]
        {
            let faults = texts("SET 'x' ${b}", &[("b", value)]).unwrap_err();
            assert_eq!(
                faults,
                [
                    "line 1, column 9: the value of the property b must be empty or one name, keyword, number or literal here"
                ],
                "{value}"
            );
        }
        for value in ["a", "\"a b\"", "'a'", "12.5", " x ", "ENCRYPTED"] {
            assert!(texts("SET 'x' ${b}", &[("b", value)]).is_ok(), "{value}");
        }
    }

    #[test]
    fn missing_properties_are_reported_together() {
        let script = "SET '${b.c}' '${a}';\n# ${not.this}\nSET ${d} '${a}'";
        assert_eq!(texts(script, &[]).unwrap_err(), ["line 1, column 6: missing properties: a, b.c, d"]);
        assert_eq!(property_names(script), ["a", "b.c", "d"].map(str::to_owned).into());
        assert_eq!(texts("SET '${a' '$' '${}'", &[("", "x")]).unwrap(), ["SET '${a' '$' 'x'"]);
    }

    #[test]
    fn what_is_not_closed_is_a_fault() {
        assert_eq!(texts("A;\nB 'x", &[]).unwrap_err(), ["line 2, column 3: a literal is not closed"]);
        assert_eq!(texts("B \"x", &[]).unwrap_err(), ["line 1, column 3: a quoted name is not closed"]);
        assert_eq!(texts("B ${x", &[]).unwrap_err(), ["line 1, column 3: a property is not closed"]);
        for (script, place) in [
            ("A; /* B; C", "line 1, column 4"),
            ("/* A", "line 1, column 1"),
            ("A\n/* B", "line 2, column 1"),
        ] {
            assert_eq!(
                texts(script, &[]).unwrap_err(),
                [format!("{place}: a comment is not closed")],
                "{script}"
            );
        }
    }

    #[test]
    fn scripts_have_limits() {
        let long = format!("SET '{}'", "x".repeat(MAX_STATEMENT));
        assert_eq!(texts(&long, &[]).unwrap_err(), ["line 1, column 1: the statement is larger than 1 MiB"]);
        let by_value = "x".repeat(MAX_STATEMENT);
        assert_eq!(
            texts("A;SET '${v}'", &[("v", &by_value)]).unwrap_err(),
            ["line 1, column 3: the statement is larger than 1 MiB"]
        );
        let script = " ".repeat(MAX_SCRIPT + 1);
        assert_eq!(texts(&script, &[]).unwrap_err(), ["line 1, column 1: the script is larger than 32 MiB"]);
        let deep = format!("A {}{}", "(".repeat(65), ")".repeat(65));
        assert_eq!(texts(&deep, &[]).unwrap_err(), ["line 1, column 67: more than 64 levels of parentheses"]);
    }

    #[test]
    fn places_survive_values() {
        let script = "CREATE x '${a}' y\n  ${b} z '${a}' w";
        let found = pieces(script, &given(&[("a", "a long value\nwith lines"), ("b", "k")])).unwrap();
        let piece = &found[0];
        let place = |part: &str| {
            let Place { line, column } = piece.place_of(piece.text.rfind(part).unwrap());
            (line, column)
        };
        assert_eq!(
            (place("x "), place("y"), place("k"), place(" z"), place("w")),
            ((1, 8), (1, 17), (2, 3), (2, 7), (2, 17))
        );
        assert_eq!(place("with"), (2, 11), "where the property is");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever the values are, the statements stay the same in number and kind of tokens.
        #[test]
        fn values_never_add_statements(
            inside in "[a'\"`;\\\\$\\{\\}#*/ \n-]{0,12}",
            alone in "[a1'\";. #*/-]{0,6}",
        ) {
            let script = "SET '${i}' ${o};# x\nSET \"${i}\" 'a${i}b';CLOSE";
            let Ok(found) = pieces(script, &given(&[("i", &inside), ("o", &alone)])) else { return Ok(()) };
            prop_assert_eq!(found.len(), 3);
            let joined: Vec<&str> = found.iter().map(|piece| piece.text.as_str()).collect();
            prop_assert_eq!(statements(&joined.join(";\n"), VQL).len(), 3);
            let count = |text: &str| Scanner::new(text, VQL).filter(|token| !token.kind.is_blank()).count();
            let outside = usize::from(!alone.trim().is_empty());
            prop_assert_eq!([count(joined[0]), count(joined[1])], [2 + outside, 3]);
        }
    }
}
