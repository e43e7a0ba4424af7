//! `CREATE WRAPPER`

use super::super::ast::{Definition, Name, Output, Relation, SourceKind, Wrapper};
use super::super::cursor::{Cursor, Parsed};
use super::clauses;

/// Maximum number of fields.
const MAX_OUTPUTS: usize = 2_000;

pub fn wrapper(cursor: &mut Cursor<'_>) -> Parsed<(Name, Definition)> {
    cursor.expect(&["WRAPPER"])?;
    let kind = kind(cursor)?;
    let name = cursor.name()?;
    let end = cursor.position();
    let (mut source, mut table, mut sentence) = (None, Table::default(), None);
    let (mut outputs, mut folder, mut kept) = (Vec::new(), None, Vec::new());
    while !cursor.is_over() {
        if cursor.eat(&["DATASOURCENAME"]) {
            cursor.eat_symbol("=");
            source = Some(cursor.name()?);
        } else if cursor.eat(&["FOLDER"]) {
            folder = clauses::folder(cursor)?;
        } else if cursor.eat(&["OUTPUTSCHEMA"]) {
            outputs = fields(cursor)?;
        } else if cursor.is(&["PROCEDURENAME"]) {
            return Err(cursor.fault("PROCEDURENAME is not supported; use RELATIONNAME or SQLSENTENCE"));
        } else if kind == SourceKind::Jdbc && cursor.eat(&["RELATIONNAME"]) {
            table.name = clauses::maybe_text(cursor)?;
        } else if kind == SourceKind::Jdbc && cursor.eat(&["CATALOGNAME"]) {
            table.catalog = clauses::maybe_text(cursor)?;
        } else if kind == SourceKind::Jdbc && cursor.eat(&["SCHEMANAME"]) {
            table.schema = clauses::maybe_text(cursor)?;
        } else if kind == SourceKind::Jdbc && cursor.eat(&["SQLSENTENCE"]) {
            sentence = clauses::maybe_text(cursor)?;
        } else if cursor.is(&["CONSTRAINT"]) || cursor.is(&["INDEX"]) {
            let mut clause = clauses::one(cursor)?;
            while !cursor.is_over() && !clause.text.ends_with(')') {
                clause.text.push(' ');
                clause.text.push_str(&cursor.group()?);
            }
            kept.push(clause);
        } else {
            kept.push(clauses::one(cursor)?);
        }
    }
    let fault = |message: &str| cursor.fault_at(end, message);
    let source = source.ok_or_else(|| fault("a wrapper needs DATASOURCENAME"))?;
    let relation = match (kind, table.name, sentence) {
        (SourceKind::Jdbc, Some(name), None) => {
            Relation::Table { catalog: table.catalog, schema: table.schema, name }
        }
        (SourceKind::Jdbc, None, Some(sentence)) => Relation::Sentence(sentence),
        (SourceKind::Jdbc, ..) => {
            return Err(fault("a JDBC wrapper needs either RELATIONNAME or SQLSENTENCE"));
        }
        (SourceKind::Df | SourceKind::Json, ..) => Relation::File,
    };
    let wrapper = Wrapper { kind, source, relation, outputs, folder, clauses: clauses::sorted(kept) };
    Ok((Name::new(name), Definition::Wrapper(wrapper)))
}

#[derive(Default)]
struct Table {
    catalog: Option<String>,
    schema: Option<String>,
    name: Option<String>,
}

pub fn kind(cursor: &mut Cursor<'_>) -> Parsed<SourceKind> {
    let Some(word) = cursor.keyword() else { return Err(cursor.unexpected()) };
    let found = SourceKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(&word));
    let Some(found) = found else {
        return Err(cursor.fault(format!("the type {word} is not supported; use JDBC, DF or JSON")));
    };
    cursor.skip()?;
    Ok(found)
}

/// `( id = 'ID' :'java.lang.Long' (OPT) (sourcetypeid='-5') NOT NULL SORTABLE, … )`. JSON nests records in arrays:
/// the fields are those of the innermost record.
fn fields(cursor: &mut Cursor<'_>) -> Parsed<Vec<Output>> {
    cursor.expect_symbol("(")?;
    let mut outputs: Vec<Output> = Vec::new();
    loop {
        let at = cursor.position();
        let name = cursor.name()?;
        cursor.expect_symbol("=")?;
        let column = cursor.literal()?;
        cursor.expect_symbol(":")?;
        if cursor.is(&["ARRAY", "OF"]) || cursor.is(&["REGISTER", "OF"]) {
            outputs = nested(cursor, &outputs)?;
        } else {
            let output = output(cursor, name, column)?;
            if outputs.iter().any(|known| known.name == output.name) {
                return Err(
                    cursor.fault_at(at, format!("Duplicate object identifier: field {}", output.name))
                );
            }
            outputs.push(output);
        }
        if outputs.len() > MAX_OUTPUTS {
            return Err(cursor.fault_at(at, format!("a wrapper has at most {MAX_OUTPUTS} fields")));
        }
        if !cursor.eat_symbol(",") {
            break;
        }
    }
    cursor.expect_symbol(")")?;
    Ok(outputs)
}

/// A record or an array that is the only field around it.
fn nested(cursor: &mut Cursor<'_>, before: &[Output]) -> Parsed<Vec<Output>> {
    if !before.is_empty() {
        return Err(cursor.fault("records and arrays inside rows are not supported"));
    }
    cursor.skip()?;
    cursor.skip()?;
    // `ARRAY OF ( ( fields ) )` has one more pair.
    let doubled = cursor.ahead(0) == "(" && cursor.ahead(1) == "(";
    if doubled {
        cursor.skip()?;
    }
    let found = fields(cursor)?;
    if doubled {
        cursor.expect_symbol(")")?;
    }
    flags(cursor)?;
    if cursor.is_symbol(",") {
        return Err(cursor.fault("records and arrays inside rows are not supported"));
    }
    Ok(found)
}

fn output(cursor: &mut Cursor<'_>, name: String, column: String) -> Parsed<Output> {
    let class = cursor.literal()?;
    let mut output =
        Output { name, column, class, properties: Vec::new(), not_null: false, flags: Vec::new() };
    loop {
        if cursor.eat(&["NOT", "NULL"]) {
            output.not_null = true;
        } else if cursor.eat_symbol("(") {
            group(cursor, &mut output)?;
        } else if cursor.keyword().is_some() {
            output.flags.push(cursor.group()?.to_ascii_uppercase());
        } else {
            return Ok(output);
        }
    }
}

/// What is in parentheses after a field: `OPT`, or properties.
fn group(cursor: &mut Cursor<'_>, output: &mut Output) -> Parsed<()> {
    while !cursor.eat_symbol(")") {
        let word = cursor.name()?;
        if cursor.eat_symbol("=") {
            output.properties.push((word, cursor.literal()?));
        } else {
            output.flags.push(format!("({})", word.to_ascii_uppercase()));
        }
        cursor.eat_symbol(",");
    }
    Ok(())
}

fn flags(cursor: &mut Cursor<'_>) -> Parsed<()> {
    while cursor.is_symbol("(") || cursor.keyword().is_some() {
        cursor.group()?;
    }
    Ok(())
}
