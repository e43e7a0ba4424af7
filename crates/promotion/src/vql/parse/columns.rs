//! The columns of base views and interface views.

use super::super::ast::{Column, ColumnType};
use super::super::cursor::{Cursor, Parsed};
use super::super::place::Fault;

/// Maximum number of columns.
const MAX_COLUMNS: usize = 2_000;

/// `( id:long (notnull, description = 'key'), total:decimal )`
pub fn columns(cursor: &mut Cursor<'_>) -> Parsed<Vec<Column>> {
    cursor.expect_symbol("(")?;
    let mut columns: Vec<Column> = Vec::new();
    loop {
        let at = cursor.position();
        let column = column(cursor)?;
        if columns.iter().any(|known| known.name == column.name) {
            return Err(cursor.fault_at(at, format!("Duplicate object identifier: column {}", column.name)));
        }
        columns.push(column);
        if columns.len() > MAX_COLUMNS {
            return Err(cursor.fault_at(at, format!("a view has at most {MAX_COLUMNS} columns")));
        }
        if !cursor.eat_symbol(",") {
            break;
        }
    }
    cursor.expect_symbol(")")?;
    Ok(columns)
}

fn column(cursor: &mut Cursor<'_>) -> Parsed<Column> {
    let name = cursor.name()?;
    cursor.expect_symbol(":")?;
    let column_type = column_type(cursor)?;
    let mut column = Column { name, column_type, not_null: false, description: None, properties: Vec::new() };
    if cursor.eat_symbol("(") {
        while !cursor.eat_symbol(")") {
            property(cursor, &mut column)?;
            cursor.eat_symbol(",");
        }
    }
    Ok(column)
}

fn property(cursor: &mut Cursor<'_>, column: &mut Column) -> Parsed<()> {
    let word = cursor.name()?;
    if word == "notnull" && !cursor.is_symbol("=") {
        column.not_null = true;
        return Ok(());
    }
    if !cursor.eat_symbol("=") {
        column.properties.push((word, String::new()));
        return Ok(());
    }
    let value = cursor.literal()?;
    if word == "description" {
        column.description = Some(value);
    } else {
        column.properties.push((word, value));
    }
    Ok(())
}

fn column_type(cursor: &mut Cursor<'_>) -> Parsed<ColumnType> {
    let unknown = |cursor: &Cursor<'_>, word: &str| -> Fault {
        let known: Vec<&str> = ColumnType::ALL.iter().map(|known| known.as_str()).collect();
        cursor.fault(format!("the type {word} is not supported; use {}", known.join(", ")))
    };
    let Some(word) = cursor.keyword() else { return Err(cursor.unexpected()) };
    let word = word.to_ascii_lowercase();
    let Some(found) = ColumnType::find(&word) else { return Err(unknown(cursor, &word)) };
    cursor.skip()?;
    Ok(found)
}
