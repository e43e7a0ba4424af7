//! Parses one statement. Clauses can be in any order.

mod clauses;
mod columns;
mod drop;
mod kept;
mod source;
mod view;
mod wrapper;

#[cfg(test)]
mod tests;

use super::ast::{Database, Definition, Name, Statement};
use super::cursor::{Cursor, Parsed};
use super::script::Piece;

/// Reads a statement. Everything that this server does not know is an error.
pub fn statement(piece: &Piece) -> Parsed<Statement> {
    let mut cursor = Cursor::new(piece);
    let statement = match cursor.keyword().as_deref() {
        Some("ENTER") => modes(&mut cursor, "ENTER", Statement::EnterSingleUserMode)?,
        Some("EXIT") => modes(&mut cursor, "EXIT", Statement::ExitSingleUserMode)?,
        Some("CONNECT") => connect(&mut cursor)?,
        Some("CLOSE") => {
            cursor.skip()?;
            Statement::Close
        }
        Some("CREATE") => create(&mut cursor)?,
        Some("ALTER") => kept::alter(&mut cursor)?,
        Some("DROP") => drop::drop(&mut cursor)?,
        Some("DESC") => drop::describe(&mut cursor)?,
        Some("SET" | "WEBCONTAINER" | "CHOWN" | "DEPLOY" | "REDEPLOY" | "UNDEPLOY") => {
            kept::other(&mut cursor)?
        }
        _ => return Err(cursor.unexpected()),
    };
    cursor.end()?;
    Ok(statement)
}

fn modes(cursor: &mut Cursor<'_>, word: &str, statement: Statement) -> Parsed<Statement> {
    cursor.expect(&[word, "SINGLE", "USER", "MODE"])?;
    Ok(statement)
}

fn connect(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.expect(&["CONNECT"])?;
    if cursor.is(&["USER"]) {
        return Err(cursor.fault("CONNECT USER is not supported; connect as yourself with CONNECT DATABASE"));
    }
    cursor.expect(&["DATABASE"])?;
    Ok(Statement::Connect { database: cursor.name()? })
}

fn create(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.expect(&["CREATE"])?;
    let replace = cursor.eat(&["OR", "REPLACE"]);
    let (name, definition) = match cursor.keyword().as_deref() {
        Some("DATABASE") => database(cursor)?,
        Some("FOLDER") => folder(cursor)?,
        Some("DATASOURCE") => source::source(cursor)?,
        Some("WRAPPER") => wrapper::wrapper(cursor)?,
        Some("TABLE") => view::table(cursor)?,
        Some("VIEW") => view::view(cursor)?,
        Some("INTERFACE") => view::interface(cursor)?,
        _ => return kept::create(cursor, replace),
    };
    Ok(Statement::Create { replace, name, definition })
}

fn database(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["DATABASE"])?;
    let name = cursor.name()?;
    let description = cursor.maybe_literal();
    let clauses = clauses::kept(cursor)?;
    Ok((Name::new(name), Definition::Database(Database { description, clauses })))
}

fn folder(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["FOLDER"])?;
    let path = clauses::path(cursor)?;
    let mut description = None;
    if cursor.eat(&["DESCRIPTION"]) {
        cursor.eat_symbol("=");
        description = Some(cursor.literal()?);
    }
    Ok((Name::new(path), Definition::Folder { description }))
}
