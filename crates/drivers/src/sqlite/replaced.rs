//! Functions of SQLite that take too long for long arguments, or lose a text that is too long: ours have the same meaning.
//! SQLite cannot be interrupted inside a function.
//!
//! `instr`, `replace` and the `trim` family take time in proportion to the product of their arguments; ours to their sum.
//! `printf` returns NULL for a text over the limit; ours fails. What is rare (numbers and blobs as arguments) is still
//! answered by SQLite, on a connection that has nothing else.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::Context;
use rusqlite::limits::Limit;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result, ffi, params_from_iter};

use super::functions::{PURE, failure};

/// Maximum product of the lengths of two arguments that SQLite compares itself: about a second.
const MAX_PRODUCT: usize = 2_000_000_000;

pub(super) fn register(connection: &Connection, length: i32) -> Result<()> {
    let original = Original::new(length);
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    for name in [c"printf", c"format"] {
        let original = original.clone();
        connection.create_scalar_function(name, -1, PURE, move |context| printf(&original, context))?;
    }
    let own = original.clone();
    connection.create_scalar_function(c"instr", 2, PURE, move |context| {
        match (context.get_raw(0), context.get_raw(1)) {
            (ValueRef::Null, _) | (_, ValueRef::Null) => Ok(Value::Null),
            (ValueRef::Text(text), ValueRef::Text(part)) => Ok(Value::Integer(instr(text, part))),
            _ => own.ask("instr", context),
        }
    })?;
    let own = original.clone();
    connection.create_scalar_function(c"replace", 3, PURE, move |context| {
        let raw = |index| context.get_raw(index);
        match (raw(0), raw(1), raw(2)) {
            (ValueRef::Null, ..) | (_, ValueRef::Null, _) => Ok(Value::Null),
            (ValueRef::Text(text), ValueRef::Text([]), _) => Ok(text_of(text)),
            (ValueRef::Text(_), ValueRef::Text(_), ValueRef::Null) => Ok(Value::Null),
            (ValueRef::Text(text), ValueRef::Text(part), ValueRef::Text(with)) => {
                replace(text, part, with, limit)
            }
            _ => own.ask("replace", context),
        }
    })?;
    for (name, start, end) in [(c"trim", true, true), (c"ltrim", true, false), (c"rtrim", false, true)] {
        let own = original.clone();
        connection.create_scalar_function(name, 2, PURE, move |context| {
            match (context.get_raw(0), context.get_raw(1)) {
                (ValueRef::Null, _) | (_, ValueRef::Null) => Ok(Value::Null),
                (ValueRef::Text(text), ValueRef::Text(set)) => {
                    match (std::str::from_utf8(text), std::str::from_utf8(set)) {
                        (Ok(text), Ok(set)) => Ok(Value::Text(trimmed(text, set, start, end).to_owned())),
                        _ => own.ask(name_of(name), context),
                    }
                }
                _ => own.ask(name_of(name), context),
            }
        })?;
    }
    connection.create_scalar_function(c"unhex", 2, PURE, move |context| original.ask("unhex", context))
}

fn name_of(name: &CStr) -> &str {
    name.to_str().unwrap_or_default()
}

fn text_of(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

fn too_big() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None)
}

/// A connection with nothing but SQLite's own functions, opened when it is needed: most statements never do.
#[derive(Clone)]
struct Original {
    connection: Arc<Mutex<Option<Connection>>>,
    length: i32,
}

impl Original {
    fn new(length: i32) -> Original {
        Original { connection: Arc::default(), length }
    }

    fn call(&self, name: &str, arguments: &[&Value]) -> Result<Value> {
        let marks = vec!["?"; arguments.len()].join(", ");
        let mut opened = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *opened {
            Some(connection) => connection,
            none => {
                let connection = Connection::open_in_memory()?;
                connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, self.length)?;
                none.insert(connection)
            }
        };
        let mut statement = connection.prepare_cached(&format!("SELECT {name}({marks})"))?;
        statement.query_row(params_from_iter(arguments), |row| row.get(0))
    }

    /// The same call, unless SQLite could take too long for it.
    fn ask(&self, name: &str, context: &Context<'_>) -> Result<Value> {
        let size = |index: usize| match context.get_raw(index) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len().max(1),
            _ => 1,
        };
        if size(0).saturating_mul(size(1)) > MAX_PRODUCT {
            return Err(failure(format!("{name} would take too long; use shorter arguments")));
        }
        let values = arguments(context)?;
        self.call(name, &values.iter().collect::<Vec<_>>())
    }
}

fn arguments(context: &Context<'_>) -> Result<Vec<Value>> {
    (0..context.len()).map(|index| context.get(index)).collect()
}

fn printf(original: &Original, context: &Context<'_>) -> Result<Value> {
    let values = arguments(context)?;
    let all: Vec<&Value> = values.iter().collect();
    let [format, rest @ ..] = all.as_slice() else { return original.call("printf", &[]) };
    let text = original.call("printf", &all)?;
    if text != Value::Null || **format == Value::Null {
        return Ok(text);
    }
    // An empty text may be NULL too; with one more character it is not.
    let Value::Text(format) = format else { return Ok(text) };
    let longer = Value::Text(format!("x{format}"));
    let longer: Vec<&Value> = [&longer].into_iter().chain(rest.iter().copied()).collect();
    match original.call("printf", &longer)? {
        Value::Null => Err(too_big()),
        _ => Ok(text),
    }
}

/// The position of a part in characters, from 1; 0 if it is not there.
fn instr(text: &[u8], part: &[u8]) -> i64 {
    let Some(at) = memchr::memmem::find(text, part) else { return 0 };
    let before = text.get(..at).unwrap_or_default();
    // Every byte that does not continue a character begins one.
    let chars = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    i64::try_from(chars + 1).unwrap_or(i64::MAX)
}

fn replace(text: &[u8], part: &[u8], with: &[u8], limit: usize) -> Result<Value> {
    let mut out = Vec::with_capacity(text.len().min(limit));
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, part) {
        out.extend_from_slice(text.get(from..at).unwrap_or_default());
        out.extend_from_slice(with);
        if out.len() > limit {
            return Err(too_big());
        }
        from = at + part.len();
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    if out.len() > limit { Err(too_big()) } else { Ok(text_of(&out)) }
}

/// Without the characters of a set at its ends.
fn trimmed<'a>(text: &'a str, set: &str, start: bool, end: bool) -> &'a str {
    let chars: std::collections::HashSet<char> = set.chars().collect();
    let text = if start { text.trim_start_matches(|char| chars.contains(&char)) } else { text };
    if end { text.trim_end_matches(|char| chars.contains(&char)) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(length: i32) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, length).unwrap();
        register(&connection, length).unwrap();
        connection
    }

    fn ask(connection: &Connection, expression: &str) -> Result<Value> {
        connection.query_row(&format!("SELECT {expression}"), [], |row| row.get(0))
    }

    const VALUES: [&str; 18] = [
        "NULL",
        "''",
        "'a'",
        "'abcabc'",
        "'bc'",
        "'äöüä'",
        "'ü'",
        "'%s'",
        "'%%'",
        "'x%dy'",
        "7",
        "1.5",
        "-0.0",
        "x'6162'",
        "x''",
        "'  a  '",
        "'aäbäa'",
        "1e300",
    ];

    /// The same as SQLite's, for every combination of arguments.
    #[test]
    fn the_meaning_is_that_of_the_original() {
        let (ours, original) = (ours(1_000), Connection::open_in_memory().unwrap());
        let mut calls = Vec::new();
        for one in VALUES {
            calls.extend(["printf", "format"].map(|name| format!("{name}({one})")));
            for two in VALUES {
                let names = ["instr", "trim", "ltrim", "rtrim", "printf", "format", "unhex"];
                calls.extend(names.map(|name| format!("{name}({one}, {two})")));
                calls.extend(VALUES.map(|three| format!("replace({one}, {two}, {three})")));
            }
        }
        for call in calls {
            let expected = ask(&original, &call).map_err(|error| error.to_string());
            assert_eq!(ask(&ours, &call).map_err(|error| error.to_string()), expected, "{call}");
        }
        assert_eq!(ask(&ours, "printf()").unwrap(), ask(&original, "printf()").unwrap());
    }

    #[test]
    fn a_text_over_the_limit_is_an_error_and_never_null() {
        let ours = ours(1_000);
        assert_eq!(ask(&ours, "length(printf('%1000d', 1))").unwrap(), Value::Integer(1_000));
        for expression in [
            "printf('%1001d', 1)",
            "format('%s%s', printf('%600d', 1), printf('%600d', 1))",
            "replace(printf('%500d', 1), ' ', 'abc')",
        ] {
            let error = ask(&ours, expression).unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::TooBig), "{expression}: {error}");
        }
    }

    /// Each took minutes, and could not be interrupted.
    #[test]
    fn long_arguments_take_time_in_proportion() {
        let ours = ours(64 * 1_024 * 1_024);
        let begun = std::time::Instant::now();
        let (text, part) = ("hex(zeroblob(5000000))", "replace(hex(zeroblob(2500000)), '1', '0') || '1'");
        assert_eq!(ask(&ours, &format!("instr({text}, {part})")).unwrap(), Value::Integer(0));
        assert_eq!(
            ask(&ours, &format!("length(replace({text}, {part}, ''))")).unwrap(),
            Value::Integer(10_000_000)
        );
        assert_eq!(ask(&ours, &format!("length(trim({text}, {part}))")).unwrap(), Value::Integer(0));
        assert!(ask(&ours, &format!("unhex({text}, {part})")).unwrap_err().to_string().contains("too long"));
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
