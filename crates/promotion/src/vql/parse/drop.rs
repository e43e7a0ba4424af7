//! `DROP` and `DESC VQL`

use super::super::ast::{
    Describe, Described, Drop, Element, KeptKind, Name, Options, SourceKind, Statement, Target,
};
use super::super::cursor::{Cursor, Parsed};
use super::{clauses, wrapper};

pub fn drop(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.expect(&["DROP"])?;
    let mut prefix = String::new();
    let target = match cursor.keyword().as_deref() {
        Some("DATABASE") => Target::Database,
        Some("FOLDER") => Target::Folder,
        Some("DATASOURCE") => Target::Source(SourceKind::Jdbc),
        Some("WRAPPER") => Target::Wrapper(SourceKind::Jdbc),
        Some("VIEW" | "TABLE") => Target::View,
        Some("INTERFACE") => {
            cursor.skip()?;
            Target::View
        }
        Some("TYPE") => Target::Kept(KeptKind::Type),
        Some("MAP") => Target::Kept(KeptKind::Map),
        Some("JAR") => Target::Kept(KeptKind::Jar),
        Some("ASSOCIATION") => Target::Kept(KeptKind::Association),
        Some("USER") => Target::Kept(KeptKind::User),
        Some("ROLE") => Target::Kept(KeptKind::Role),
        Some("TAG") => Target::Kept(KeptKind::Tag),
        Some("GLOBAL_SECURITY_POLICY" | "POLICY") => Target::Kept(KeptKind::Policy),
        Some("VIEWSTATSUMMARY") => Target::Kept(KeptKind::Statistics),
        Some("REST" | "SOAP") => {
            prefix = cursor.ahead(0).to_lowercase();
            cursor.skip()?;
            if !cursor.is(&["WEBSERVICE"]) {
                return Err(cursor.unexpected());
            }
            Target::Kept(KeptKind::WebService)
        }
        Some("PROCEDURE") => return Err(cursor.fault("DROP PROCEDURE is not supported")),
        _ => return Err(cursor.unexpected()),
    };
    cursor.skip()?;
    let target = match target {
        Target::Source(_) => Target::Source(wrapper::kind(cursor)?),
        Target::Wrapper(_) => Target::Wrapper(wrapper::kind(cursor)?),
        other => other,
    };
    let mut if_exists = cursor.eat(&["IF", "EXISTS"]);
    if target == Target::Kept(KeptKind::Map) {
        prefix = cursor.name()?;
    }
    let mut name = match target {
        Target::Folder => Name::new(clauses::path(cursor)?),
        _ => clauses::qualified(cursor)?,
    };
    if !prefix.is_empty() {
        name.name = format!("{prefix} {}", name.name);
    }
    if_exists |= cursor.eat(&["IF", "EXISTS"]);
    let cascade = cursor.eat(&["CASCADE"]);
    Ok(Statement::Drop(Drop { target, name, if_exists, cascade }))
}

pub fn describe(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.expect(&["DESC", "VQL"])?;
    let what = if cursor.eat(&["DATABASE"]) {
        Described::Database(cursor.name()?)
    } else if cursor.eat(&["LIST"]) {
        cursor.expect_symbol("(")?;
        let mut elements = vec![element(cursor)?];
        while cursor.eat_symbol(",") {
            elements.push(element(cursor)?);
        }
        cursor.expect_symbol(")")?;
        Described::Elements(elements)
    } else {
        Described::Elements(vec![element(cursor)?])
    };
    let options = if cursor.is_symbol("(") { options(cursor)? } else { Options::default() };
    Ok(Statement::Describe(Describe { what, options }))
}

fn element(cursor: &mut Cursor<'_>) -> Parsed<Element> {
    if cursor.eat(&["VIEW"]) || cursor.eat(&["TABLE"]) || cursor.eat(&["INTERFACE", "VIEW"]) {
        return Ok(Element::View(clauses::qualified(cursor)?));
    }
    cursor.expect(&["DATASOURCE"])?;
    let kind = wrapper::kind(cursor)?;
    Ok(Element::Source(kind, clauses::qualified(cursor)?))
}

/// `( 'dropElements' = 'yes', 'includeProperties' = 'no' )`
fn options(cursor: &mut Cursor<'_>) -> Parsed<Options> {
    let mut options = Options::default();
    cursor.expect_symbol("(")?;
    loop {
        let at = cursor.position();
        let name = match cursor.maybe_literal() {
            Some(name) => name.to_lowercase(),
            None => cursor.name()?.to_lowercase(),
        };
        cursor.expect_symbol("=")?;
        let value = cursor.flag()?;
        match name.as_str() {
            "dropelements" => options.drop_elements = value,
            "replaceexistingelements" => options.replace_existing = value,
            "includeproperties" => options.include_properties = value,
            "includedependencies" => options.include_dependencies = value,
            _ => {
                return Err(cursor.fault_at(
                    at,
                    "the options of DESC VQL are dropElements, replaceExistingElements, includeProperties and \
                     includeDependencies",
                ));
            }
        }
        if !cursor.eat_symbol(",") {
            break;
        }
    }
    cursor.expect_symbol(")")?;
    Ok(options)
}
