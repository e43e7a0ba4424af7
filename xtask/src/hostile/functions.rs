//! Hostile calls of every function that a statement over the server's own data can call.
//!
//! The functions and some calls are read from the engine's source and tests, which this program cannot depend on. So the
//! lists cannot differ.

use anyhow::{Context as _, Result};

use super::bombs::{Action, Bomb};
use super::caller::Target;

/// The names of bombs that call one function with various arguments start with this.
pub const PREFIX: &str = "function ";

const ALLOWED: &str = include_str!("../../../crates/engine/src/bounds/allowed.rs");
const TESTS: &str = include_str!("../../../crates/engine/tests/it/bounds.rs");

/// One row with a text of nearly the maximum size, a list of 10,000 texts, and a large number.
const ONE: &str =
    "(select repeat('ab', 4000000) t, string_to_array(repeat('ab,', 10000), ',') l, 1000000000 n)";
/// Many rows of a kilobyte.
const MANY: &str = "(select repeat('ab', 512) || value t, string_to_array(repeat('ab,', 100), ',') l, 1000 + value n \
    from generate_series(1, 5000))";

/// These become calls of others, or need a row of a file.
const NOT_CALLED: [&str; 8] = [
    "cast_to_type",
    "file_row_index",
    "json_union_to_text",
    "list_to_text",
    "narrow_cast",
    "string_concat",
    "text_like",
    "try_cast_to_type",
];

/// A bomb per function, per call with special arguments, and per statement that repeats rows.
pub fn bombs() -> Result<Vec<Bomb>> {
    let calls = calls()?;
    let mut bombs = Vec::new();
    for name in names()? {
        let mut statements: Vec<String> = combinations(&name).iter().map(|call| on(call, ONE)).collect();
        statements.extend(["t", "n", "l"].map(|arg| on(&format!("{name}({arg})"), MANY)));
        let needle = format!("{name}(");
        // So that a bomb shows whether its function ran at all.
        statements.extend(calls.iter().filter(|call| call.contains(&needle)).map(|call| on(call, ONE)));
        let action = Action::Sequence(Target::Delivery, statements);
        bombs.push(Bomb::new(format!("{PREFIX}{name}"), action));
    }
    for call in calls {
        let action = Action::Sequence(Target::Delivery, vec![on(&call, MANY), on(&call, ONE)]);
        bombs.push(Bomb::new(format!("call {call}"), action));
    }
    for sql in list(TESTS, "STATEMENTS")? {
        let name = format!("repeated rows: {sql}");
        bombs.push(Bomb::new(name, Action::Sequence(Target::Delivery, vec![sql])));
    }
    Ok(bombs)
}

/// Whether some statement has to run this function. The others are refused by design.
pub fn can_be_called(name: &str) -> bool {
    !NOT_CALLED.contains(&name)
}

fn on(call: &str, rows: &str) -> String {
    format!("select {call} from {rows}")
}

/// Calls of a function with every combination of up to two arguments.
fn combinations(name: &str) -> Vec<String> {
    let arguments = ["t", "n", "l"];
    let two = arguments.iter().flat_map(|a| arguments.map(|b| format!("{name}({a}, {b})")));
    let one = arguments.iter().map(|a| format!("{name}({a})"));
    std::iter::once(format!("{name}()")).chain(one).chain(two).collect()
}

/// The names of all functions: the words of every text constant.
fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for constant in group(ALLOWED)? {
        let declaration = format!("const {constant}: &str =");
        let (_, rest) = ALLOWED.split_once(&declaration).with_context(|| declaration.clone())?;
        let (text, _) = literal(rest).with_context(|| declaration.clone())?;
        names.extend(text.split_whitespace().map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The constants that the engine's `names()` joins.
fn group(source: &str) -> Result<Vec<&str>> {
    let (_, body) = source.split_once("pub fn names()").context("the engine's `names()`")?;
    let (_, rest) = body.split_once("{\n").context("its body")?;
    let (inside, _) =
        rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')).context("its list")?;
    Ok(inside.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
}

fn calls() -> Result<Vec<String>> {
    list(TESTS, "CALLS")
}

/// The texts of `const NAME: &[&str] = &[…];`.
fn list(source: &str, name: &str) -> Result<Vec<String>> {
    let declaration = format!("const {name}: &[&str] = &[");
    let (_, mut rest) = source.split_once(&declaration).with_context(|| declaration.clone())?;
    let mut texts = Vec::new();
    while !rest.trim_start().starts_with(']') {
        let (text, after) = literal(rest).with_context(|| format!("{declaration}: {:.40}", rest.trim()))?;
        texts.push(text);
        rest = after.trim_start().trim_start_matches(',');
    }
    Ok(texts)
}

/// Reads a string literal; returns its text and what follows.
fn literal(source: &str) -> Option<(String, &str)> {
    let mut rest = source.trim_start().strip_prefix('"')?;
    let mut text = String::new();
    loop {
        let end = rest.find(['"', '\\'])?;
        text.push_str(&rest[..end]);
        if rest[end..].starts_with('"') {
            return Some((text, &rest[end + 1..]));
        }
        let escaped = rest[end + 1..].chars().next()?;
        rest = &rest[end + 1 + escaped.len_utf8()..];
        match escaped {
            '\n' => rest = rest.trim_start(),
            '"' | '\\' => text.push(escaped),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_functions_of_the_engine() {
        let names = names().unwrap();
        assert!(names.len() > 150, "{}", names.len());
        for expected in ["abs", "version", "uuid", "repeat", "array_sort", "lower", "json_get", "to_char"] {
            assert!(names.iter().any(|name| name == expected), "{expected}");
        }
        for excluded in NOT_CALLED {
            assert!(names.iter().any(|name| name == excluded), "{excluded}");
        }
        let odd = names.iter().find(|name| !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        assert_eq!(odd, None);
    }

    #[test]
    fn reads_calls_and_statements_of_the_engine_tests() {
        let calls = calls().unwrap();
        assert!(calls.len() > 50 && calls.contains(&"replace(t, 'a', t)".to_owned()), "{calls:?}");
        let statements = list(TESTS, "STATEMENTS").unwrap();
        assert!(statements.len() > 5 && statements.iter().all(|sql| !sql.contains('\n')), "{statements:?}");
        assert!(list(TESTS, "NOSUCH").is_err());
    }

    #[test]
    fn reads_literals() {
        assert_eq!(literal(r#" "a\"b\\1", x"#), Some((r#"a"b\1"#.to_owned(), ", x")));
        assert_eq!(literal("\"a \\\n    b\";"), Some(("a b".to_owned(), ";")));
        assert_eq!(literal("\"a"), None);
        assert_eq!(literal("\"a\\nb\""), None);
        assert_eq!(list("const A: &[&str] = &[\n \"a\",\n \"b\",\n];", "A").unwrap(), ["a", "b"]);
    }

    #[test]
    fn calls_with_up_to_two_arguments() {
        let calls = combinations("f");
        assert_eq!(calls.len(), 13);
        assert!(calls.contains(&"f()".to_owned()) && calls.contains(&"f(l, n)".to_owned()));
    }
}
