//! `CREATE DATASOURCE`

use landreeve_core::Secret;

use super::super::ast::{Access, Charset, Clause, Definition, Name, Source, TextFile};
use super::super::cursor::{Cursor, Parsed};
use super::clauses;

/// What every source can have.
#[derive(Default)]
struct Common {
    folder: Option<String>,
    description: Option<String>,
    clauses: Vec<Clause>,
}

impl Common {
    /// Reads one clause that is not of this kind of source.
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Parsed<()> {
        if cursor.eat(&["FOLDER"]) {
            self.folder = clauses::folder(cursor)?;
        } else if cursor.eat(&["DESCRIPTION"]) {
            self.description = clauses::maybe_text(cursor)?;
        } else {
            self.clauses.push(clauses::one(cursor)?);
        }
        Ok(())
    }

    fn source(self, access: Access) -> Source {
        let clauses = clauses::sorted(self.clauses);
        Source { access, folder: self.folder, description: self.description, clauses }
    }
}

pub fn source(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["DATASOURCE"])?;
    let kind = cursor.keyword();
    let read = match kind.as_deref() {
        Some("JDBC") => jdbc,
        Some("DF") => text,
        Some("JSON") => json,
        Some(other) => {
            return Err(
                cursor.fault(format!("datasources of type {other} are not supported; use JDBC, DF or JSON"))
            );
        }
        None => return Err(cursor.unexpected()),
    };
    cursor.skip()?;
    let name = cursor.name()?;
    let source = read(cursor)?;
    Ok((Name::new(name), Definition::Source(source)))
}

fn jdbc(cursor: &mut Cursor<'_>) -> Parsed<Source> {
    let (mut common, mut uri, mut user, mut password) = (Common::default(), None, None, None);
    let end = cursor.position();
    while !cursor.is_over() {
        if cursor.eat(&["DATABASEURI"]) {
            uri = Some(clauses::text(cursor)?);
        } else if cursor.eat(&["USERNAME"]) {
            user = clauses::maybe_text(cursor)?;
        } else if cursor.eat(&["USERPASSWORD"]) {
            cursor.eat_symbol("=");
            let at = cursor.position();
            // The usual message would show it.
            let Some(text) = cursor.maybe_literal() else {
                return Err(cursor.fault_at(at, "a password must be a text in single quotes"));
            };
            password = Some(text).filter(|text| !text.is_empty()).map(Secret::new);
            let at = cursor.position();
            if cursor.eat(&["ENCRYPTED"]) && password.is_some() {
                return Err(cursor.fault_at(
                    at,
                    "passwords that another server encrypted cannot be read; give the password itself, and an empty \
                     value for the property that ends with ENCRYPTED",
                ));
            }
        } else {
            common.read(cursor)?;
        }
    }
    let uri = uri.ok_or_else(|| cursor.fault_at(end, "a JDBC datasource needs DATABASEURI"))?;
    Ok(common.source(Access::Jdbc { uri, user, password }))
}

/// `ROUTE LOCAL 'LocalConnection' 'path'`; the first literal is Denodo's name for the kind of connection.
fn route(cursor: &mut Cursor<'_>) -> Parsed<String> {
    if !cursor.is(&["LOCAL"]) {
        let route = cursor.keyword().unwrap_or_default();
        return Err(cursor.fault(format!("ROUTE {route} is not supported; use ROUTE LOCAL")));
    }
    cursor.skip()?;
    let first = cursor.literal()?;
    Ok(cursor.maybe_literal().unwrap_or(first))
}

fn text(cursor: &mut Cursor<'_>) -> Parsed<Source> {
    let mut common = Common::default();
    let mut file = TextFile {
        path: String::new(),
        charset: Charset::Utf8,
        delimiter: ",".to_owned(),
        end_of_line: "\n".to_owned(),
        header: false,
        ignore_errors: false,
    };
    let end = cursor.position();
    while !cursor.is_over() {
        if cursor.eat(&["ROUTE"]) {
            file.path = route(cursor)?;
        } else if cursor.eat(&["CHARSET"]) {
            file.charset = charset(cursor)?;
        } else if cursor.eat(&["COLUMNDELIMITER"]) {
            file.delimiter = one_byte(cursor)?;
        } else if cursor.eat(&["ENDOFLINEDELIMITER"]) {
            file.end_of_line = line_end(cursor)?;
        } else if cursor.eat(&["HEADER"]) {
            file.header = clauses::flag(cursor)?;
        } else if cursor.eat(&["IGNOREMATCHINGERRORS"]) {
            file.ignore_errors = clauses::flag(cursor)?;
        } else {
            common.read(cursor)?;
        }
    }
    if file.path.is_empty() {
        return Err(cursor.fault_at(end, "a DF datasource needs ROUTE LOCAL with a path"));
    }
    Ok(common.source(Access::Text(file)))
}

fn json(cursor: &mut Cursor<'_>) -> Parsed<Source> {
    let (mut common, mut path) = (Common::default(), String::new());
    let end = cursor.position();
    while !cursor.is_over() {
        if cursor.eat(&["ROUTE"]) {
            path = route(cursor)?;
        } else if cursor.eat(&["CHARSET"]) {
            let at = cursor.position();
            if charset(cursor)? != Charset::Utf8 {
                return Err(cursor.fault_at(at, "JSON is UTF-8"));
            }
        } else {
            common.read(cursor)?;
        }
    }
    if path.is_empty() {
        return Err(cursor.fault_at(end, "a JSON datasource needs ROUTE LOCAL with a path"));
    }
    Ok(common.source(Access::Json { path }))
}

fn charset(cursor: &mut Cursor<'_>) -> Parsed<Charset> {
    let at = cursor.position();
    let name = clauses::text(cursor)?;
    match name.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => Ok(Charset::Utf8),
        "ISO-8859-1" | "ISO8859_1" | "LATIN1" => Ok(Charset::Latin1),
        _ => {
            Err(cursor.fault_at(at, format!("the charset {name} is not supported; use UTF-8 or ISO-8859-1")))
        }
    }
}

/// Escapes that stand for control characters in delimiters.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\r", "\r").replace("\\n", "\n")
}

fn one_byte(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let at = cursor.position();
    let text = unescaped(&clauses::text(cursor)?);
    let valid = text.len() == 1 && !text.starts_with(['"', '\n', '\r', '\0']);
    if valid {
        Ok(text)
    } else {
        Err(cursor.fault_at(at, "the delimiter of columns must be one ASCII character"))
    }
}

fn line_end(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let at = cursor.position();
    let text = unescaped(&clauses::text(cursor)?);
    if ["\n", "\r\n", "\r"].contains(&text.as_str()) {
        return Ok(text);
    }
    Err(cursor.fault_at(at, "the delimiter of lines must be '\\n', '\\r\\n' or '\\r'"))
}
