//! Clauses that many statements have, and those that are kept without effect.

use super::super::ast::{Clause, Name};
use super::super::cursor::{Cursor, Parsed};
use super::super::masked::{HIDDEN, is_secret, without_passwords};

/// `name` or `database.name`
pub fn qualified(cursor: &mut Cursor<'_>) -> Parsed<Name> {
    let first = cursor.name()?;
    if cursor.eat_symbol(".") {
        return Ok(Name { database: Some(first), name: cursor.name()? });
    }
    Ok(Name::new(first))
}

/// The name of an object to be created: views must not start with an underscore.
pub fn view_name(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let at = cursor.position();
    let name = cursor.name()?;
    if name.starts_with('_') {
        return Err(cursor.fault_at(at, "the name of a view must not start with _"));
    }
    Ok(name)
}

/// The path of a folder: `/a/b`, in lower case, without a slash at its end.
pub fn path(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let at = cursor.position();
    let path = cursor.literal()?.to_lowercase();
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let valid = path.starts_with('/')
        && parts.iter().all(|part| !part.trim().is_empty() && !part.chars().any(char::is_control))
        && parts.len() <= 32
        && path.chars().count() <= 1_000;
    if valid {
        Ok(path.to_owned())
    } else {
        Err(cursor.fault_at(at, "the path of a folder looks like '/a/b'"))
    }
}

/// The value of `FOLDER = '/a'`; `/` is no folder.
pub fn folder(cursor: &mut Cursor<'_>) -> Parsed<Option<String>> {
    cursor.eat_symbol("=");
    if cursor.ahead(0) == "'/'" {
        cursor.skip()?;
        return Ok(None);
    }
    path(cursor).map(Some)
}

/// The literal after an optional `=`.
pub fn text(cursor: &mut Cursor<'_>) -> Parsed<String> {
    cursor.eat_symbol("=");
    cursor.literal()
}

/// An empty text counts as none.
pub fn maybe_text(cursor: &mut Cursor<'_>) -> Parsed<Option<String>> {
    Ok(Some(text(cursor)?).filter(|text| !text.is_empty()))
}

pub fn flag(cursor: &mut Cursor<'_>) -> Parsed<bool> {
    cursor.eat_symbol("=");
    cursor.flag()
}

/// `PRIMARY KEY ( 'a', 'b' )`, without the first word.
pub fn key(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    cursor.expect(&["KEY"])?;
    cursor.expect_symbol("(")?;
    let mut columns = Vec::new();
    loop {
        let column = match cursor.maybe_literal() {
            Some(column) => column,
            None => cursor.name()?,
        };
        columns.push(column);
        if !cursor.eat_symbol(",") {
            break;
        }
    }
    cursor.expect_symbol(")")?;
    Ok(columns)
}

/// One clause that has no effect: a word, its value or group, or nothing.
pub fn one(cursor: &mut Cursor<'_>) -> Parsed<Clause> {
    let Some(word) = cursor.keyword() else { return Err(cursor.unexpected()) };
    cursor.skip()?;
    let assigned = cursor.eat_symbol("=");
    let next = cursor.ahead(0);
    let value = assigned
        || next.starts_with(['\'', '"', '(', '-', '+'])
        || next.starts_with(|char: char| char.is_ascii_digit())
        || cursor.keyword().is_some_and(|word| VALUES.contains(&word.as_str()));
    let mut text = String::new();
    if value {
        if cursor.is_symbol("-") || cursor.is_symbol("+") {
            text.push_str(&cursor.group()?);
        }
        text.push_str(&cursor.group()?);
    }
    let text = match is_secret(&word) && !text.is_empty() {
        true => HIDDEN.to_owned(),
        false => without_passwords(&text),
    };
    Ok(Clause { word, text, assigned })
}

/// Words that are a value, and never a clause.
const VALUES: [&str; 9] = ["TRUE", "FALSE", "ON", "OFF", "DEFAULT", "YES", "NO", "NULL", "NONE"];

/// Every clause up to the end of the statement, none with an effect.
pub fn kept(cursor: &mut Cursor<'_>) -> Parsed<Vec<Clause>> {
    let mut clauses = Vec::new();
    while !cursor.is_over() {
        clauses.push(one(cursor)?);
    }
    Ok(sorted(clauses))
}

/// In the order in which they are written: by word, because their order means nothing.
pub fn sorted(mut clauses: Vec<Clause>) -> Vec<Clause> {
    clauses.sort_by(|one, other| one.word.cmp(&other.word));
    clauses
}
