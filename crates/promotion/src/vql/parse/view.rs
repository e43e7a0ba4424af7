//! `CREATE TABLE`, `CREATE VIEW` and `CREATE INTERFACE VIEW`

use super::super::ast::{Clause, Definition, Interface, Name, Table, View};
use super::super::cursor::{Cursor, Parsed};
use super::{clauses, columns, wrapper};

pub fn table(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["TABLE"])?;
    let name = clauses::view_name(cursor)?;
    let i18n = if cursor.eat(&["I18N"]) { Some(cursor.name()?) } else { None };
    let mut table = Table {
        i18n,
        columns: columns::columns(cursor)?,
        folder: None,
        description: None,
        primary_key: Vec::new(),
        wrapper: None,
        clauses: Vec::new(),
    };
    while !cursor.is_over() {
        if cursor.eat(&["FOLDER"]) {
            table.folder = clauses::folder(cursor)?;
        } else if cursor.eat(&["DESCRIPTION"]) {
            table.description = clauses::maybe_text(cursor)?;
        } else if cursor.eat(&["PRIMARY"]) {
            table.primary_key = clauses::key(cursor)?;
        } else if cursor.eat(&["ADD", "SEARCHMETHOD"]) {
            search_method(cursor, &mut table)?;
        } else {
            table.clauses.push(clauses::one(cursor)?);
        }
    }
    if let Some(unknown) =
        table.primary_key.iter().find(|key| !table.columns.iter().any(|column| column.name == **key))
    {
        return Err(cursor.fault(format!("the primary key has an unknown column: {unknown}")));
    }
    table.clauses = clauses::sorted(table.clauses);
    Ok((Name::new(name), Definition::Table(table)))
}

/// `ADD SEARCHMETHOD name ( I18N x CONSTRAINTS ( … ) OUTPUTLIST ( … ) WRAPPER (jdbc w) )`. Only the wrapper has an
/// effect: every column can be read and compared.
fn search_method(cursor: &mut Cursor<'_>, table: &mut Table) -> Parsed<()> {
    if table.wrapper.is_some() {
        return Err(cursor.fault("a base view with several search methods is not supported"));
    }
    cursor.name()?;
    cursor.expect_symbol("(")?;
    while !cursor.eat_symbol(")") {
        if cursor.eat(&["WRAPPER"]) {
            cursor.expect_symbol("(")?;
            let kind = wrapper::kind(cursor)?;
            table.wrapper = Some((kind, clauses::qualified(cursor)?));
            cursor.expect_symbol(")")?;
        } else if cursor.eat(&["I18N"]) {
            cursor.name()?;
        } else {
            clauses::one(cursor)?;
        }
    }
    if table.wrapper.is_none() {
        return Err(cursor.fault("a search method needs WRAPPER"));
    }
    Ok(())
}

pub fn view(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["VIEW"])?;
    let name = clauses::view_name(cursor)?;
    let (mut folder, mut description) = (None, None);
    let (mut primary_key, mut kept) = (Vec::new(), Vec::<Clause>::new());
    while !cursor.is(&["AS"]) {
        if cursor.eat(&["FOLDER"]) {
            folder = clauses::folder(cursor)?;
        } else if cursor.eat(&["DESCRIPTION"]) {
            description = clauses::maybe_text(cursor)?;
        } else if cursor.eat(&["PRIMARY"]) {
            primary_key = clauses::key(cursor)?;
        } else {
            kept.push(clauses::one(cursor)?);
        }
    }
    cursor.expect(&["AS"])?;
    if !(cursor.is(&["SELECT"]) || cursor.is(&["WITH"]) || cursor.is_symbol("(")) {
        return Err(cursor.unexpected());
    }
    let select_at = cursor.position();
    let select = select(cursor)?;
    let view = View { folder, description, primary_key, select, select_at, clauses: clauses::sorted(kept) };
    Ok((Name::new(name), Definition::View(view)))
}

/// The SELECT up to the end, without the tails that have no effect: `CONTEXT ( … )`, `TRACE` and
/// `USING PARAMETERS ( … )`, which is refused.
fn select(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let start = cursor.position();
    let mut depth = 0_usize;
    while !cursor.is_over() {
        if depth == 0 {
            if cursor.is(&["USING", "PARAMETERS"]) {
                return Err(cursor.fault("USING PARAMETERS is not supported"));
            }
            let context = cursor.is(&["CONTEXT"]) && cursor.ahead(1) == "(";
            let trace = cursor.is(&["TRACE"]) && cursor.left() == 1;
            if context || trace {
                let text = cursor.slice(start, cursor.end_of_last()).to_owned();
                while cursor.eat(&["CONTEXT"]) || cursor.eat(&["TRACE"]) {
                    if cursor.is_symbol("(") {
                        cursor.group()?;
                    }
                }
                return Ok(text);
            }
        }
        if cursor.is_symbol("(") {
            depth += 1;
        } else if cursor.is_symbol(")") {
            depth = depth.saturating_sub(1);
        }
        cursor.skip()?;
    }
    Ok(cursor.slice(start, cursor.end_of_last()).to_owned())
}

pub fn interface(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["INTERFACE", "VIEW"])?;
    let name = clauses::view_name(cursor)?;
    let mut view = Interface {
        columns: columns::columns(cursor)?,
        folder: None,
        description: None,
        implementation: None,
        clauses: Vec::new(),
    };
    while !cursor.is_over() {
        if cursor.eat(&["FOLDER"]) {
            view.folder = clauses::folder(cursor)?;
        } else if cursor.eat(&["DESCRIPTION"]) {
            view.description = clauses::maybe_text(cursor)?;
        } else if cursor.eat(&["SET", "IMPLEMENTATION"]) {
            view.implementation = Some(clauses::qualified(cursor)?);
            if cursor.is_symbol("(") {
                return Err(cursor.fault(
                    "an implementation with expressions is not supported; create a view with these columns and name it",
                ));
            }
        } else {
            view.clauses.push(clauses::one(cursor)?);
        }
    }
    view.clauses = clauses::sorted(view.clauses);
    Ok((Name::new(name), Definition::Interface(view)))
}
