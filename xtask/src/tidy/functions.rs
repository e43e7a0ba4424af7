//! Functions must be short enough to read in one go.

use super::source::{Source, body_start, closing_brace, find_word, line_of};
use super::{Report, TextFile};

/// Counted like clippy: lines of the body that contain code.
const LIMIT: usize = 120;

struct Function<'a> {
    name: &'a str,
    line: usize,
    length: usize,
}

pub fn check(file: &TextFile, source: &Source, report: &mut Report) {
    for function in functions(source) {
        if function.length > LIMIT && !source.is_test_line(function.line) {
            let Function { name, line, length } = function;
            report.add_at(
                &file.path,
                line,
                format!("`{name}` has {length} lines; split it ({LIMIT} at most)"),
            );
        }
    }
}

fn functions(source: &Source) -> Vec<Function<'_>> {
    let code = &source.code;
    // Counted on the text with strings, because a line of a long string is a line too.
    let offsets_agree = code.lines().count() == source.uncommented.lines().count();
    debug_assert!(offsets_agree, "blanking must keep the lines");
    let lines: Vec<&str> = source.uncommented.lines().collect();
    let mut found = Vec::new();
    for at in find_word(code, "fn") {
        let after = code[at + 2..].trim_start();
        let name_length = after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len());
        if name_length == 0 {
            continue; // a function pointer's type
        }
        let Some(open) = body_start(code, at) else { continue };
        let (first, last) = (line_of(code, open), line_of(code, closing_brace(code, open)));
        let body = lines.get(first..last.saturating_sub(1)).unwrap_or_default();
        let length = body.iter().filter(|line| !line.trim().is_empty()).count();
        found.push(Function { name: &after[..name_length], line: line_of(code, at), length });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Vec<(String, usize, usize)> {
        let file = TextFile { path: "crates/core/src/a.rs".to_owned(), text: text.to_owned() };
        let source = Source::read(&file);
        functions(&source).into_iter().map(|f| (f.name.to_owned(), f.line, f.length)).collect()
    }

    #[test]
    fn counts_lines_of_code() {
        let text = "fn one() {\n    a();\n\n    // {\n    b(\"}\", '{');\n}\n\npub async fn two(x: [u8; 4]) -> u8\nwhere\n    A: B,\n{\n    1\n}\n";
        assert_eq!(lengths(text), [("one".to_owned(), 1, 2), ("two".to_owned(), 8, 1)]);
    }

    #[test]
    fn declarations_and_pointers_have_no_body() {
        let text =
            "trait T {\n    fn a(&self);\n    fn b(&self, f: fn(u8) -> u8) {\n        f(1);\n    }\n}\n";
        assert_eq!(lengths(text), [("b".to_owned(), 3, 1)]);
    }

    #[test]
    fn nested_functions_count_for_both() {
        let text = "fn outer() {\n    fn inner() {\n        x();\n    }\n    inner();\n}\n";
        assert_eq!(lengths(text), [("outer".to_owned(), 1, 4), ("inner".to_owned(), 2, 1)]);
    }

    #[test]
    fn strings_over_several_lines_count() {
        assert_eq!(lengths("fn s() {\n    \"\n    }}\n    \";\n}\n"), [("s".to_owned(), 1, 3)]);
    }

    #[test]
    fn reports_only_long_functions_outside_tests() {
        let long = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(LIMIT + 1));
        let text = format!("{long}#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let file = TextFile { path: "crates/core/src/a.rs".to_owned(), text };
        let mut report = Report::default();
        check(&file, &Source::read(&file), &mut report);
        assert_eq!(report.0.len(), 1, "{:?}", report.0);
        assert!(report.0[0].starts_with("crates/core/src/a.rs:1: `long` has 121 lines"), "{:?}", report.0);
    }
}
