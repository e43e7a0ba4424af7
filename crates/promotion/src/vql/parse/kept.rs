//! Statements that are kept and returned by DESC, but have no effect.

use sha2::{Digest as _, Sha256};

use super::super::ast::{Kept, KeptKind, Name, Statement};
use super::super::cursor::{Cursor, Parsed, append, quoted, written};
use super::super::masked::without_passwords;
use super::clauses;

/// `CREATE [OR REPLACE]` was read.
pub fn create(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    let start = cursor.keyword();
    let (kind, words): (KeptKind, &[&str]) = match start.as_deref() {
        Some("ASSOCIATION") => (KeptKind::Association, &["ASSOCIATION"]),
        Some("VIEWSTATSUMMARY") => return statistics(cursor, replace),
        Some("JAR") => return jar(cursor, replace),
        Some("USER") => return user(cursor, replace),
        Some("ROLE") => (KeptKind::Role, &["ROLE"]),
        Some("TAG") => (KeptKind::Tag, &["TAG"]),
        Some("TYPE") => (KeptKind::Type, &["TYPE"]),
        Some("GLOBAL_SECURITY_POLICY") => (KeptKind::Policy, &["GLOBAL_SECURITY_POLICY"]),
        Some("POLICY") => (KeptKind::Policy, &["POLICY"]),
        Some("REST") => (KeptKind::WebService, &["REST", "WEBSERVICE"]),
        Some("SOAP") => (KeptKind::WebService, &["SOAP", "WEBSERVICE"]),
        Some("MAP") => return map(cursor, replace),
        Some("PROCEDURE") => return Err(cursor.fault("CREATE PROCEDURE is not supported")),
        _ => return Err(cursor.unexpected()),
    };
    cursor.expect(words)?;
    let name = clauses::qualified(cursor)?;
    let rest = if kind == KeptKind::Role { granted(cursor)? } else { cursor.rest() };
    let text = joined([&words.join(" "), &written(&name.name), &rest]);
    let prefix = if kind == KeptKind::WebService { words.first().copied().unwrap_or_default() } else { "" };
    let name = Name { name: joined([&prefix.to_lowercase(), &name.name]), ..name };
    Ok(keep(replace, name, kind, text, None))
}

fn keep(replace: bool, name: Name, kind: KeptKind, text: String, rows: Option<u64>) -> Statement {
    // That of a user is a property already.
    let text = if kind == KeptKind::User { text } else { without_passwords(&text) };
    Statement::Keep { replace, name, kept: Kept { kind, text, rows } }
}

fn joined<'a>(parts: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> String {
    let parts: Vec<&str> = parts.into_iter().map(AsRef::as_ref).filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// The rest of a statement, in which grants must not be limited to columns or rows: they would promise what is not done.
fn granted(cursor: &mut Cursor<'_>) -> Parsed<String> {
    let mut text = String::new();
    let mut granting = false;
    while !cursor.is_over() {
        match cursor.keyword().as_deref() {
            Some("GRANT") => granting = true,
            Some("REVOKE") => granting = false,
            Some("WHEN") if granting => {
                return Err(cursor.fault("a GRANT with WHEN is not supported: rows cannot be restricted"));
            }
            _ if granting && cursor.is_symbol("(") => {
                return Err(
                    cursor.fault("a GRANT on some columns is not supported: columns cannot be restricted")
                );
            }
            _ => {}
        }
        append(&mut text, &cursor.group()?);
    }
    Ok(text)
}

fn statistics(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    cursor.expect(&["VIEWSTATSUMMARY"])?;
    let name = clauses::qualified(cursor)?;
    let mut rest = String::new();
    let mut rows = None;
    while !cursor.is_over() {
        if cursor.is_symbol("(") || cursor.is_symbol(")") {
            append(&mut rest, cursor.ahead(0));
            cursor.skip()?;
        } else if cursor.eat(&["SET", "NUMOFROWS"]) {
            cursor.eat_symbol("=");
            let count = cursor.number()?;
            rows = Some(count);
            append(&mut rest, &format!("SET NUMOFROWS = {count}"));
        } else {
            append(&mut rest, &cursor.group()?);
        }
    }
    let text = joined(["VIEWSTATSUMMARY", &written(&name.name), &rest]);
    Ok(keep(replace, name, KeptKind::Statistics, text, rows))
}

/// A library is not kept, only its hash.
fn jar(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    cursor.expect(&["JAR"])?;
    let name = cursor.name()?;
    let content = cursor.literal()?;
    let hash = match content.strip_prefix(HASH) {
        Some(known) if known.len() == 64 => known.to_owned(),
        _ => hex::encode(Sha256::digest(&content)),
    };
    let text = joined(["JAR", &written(&name), &quoted(&format!("{HASH}{hash}"))]);
    Ok(keep(replace, Name::new(name), KeptKind::Jar, text, None))
}

const HASH: &str = "sha256:";

const NO_TEXT: &str = "a password must be a text in single quotes";

/// The password is not kept: the user of a script is none of this server.
fn user(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    cursor.expect(&["USER"])?;
    let name = cursor.name()?;
    let mut property = String::new();
    if cursor.ahead(0).starts_with(['"', '`']) {
        return Err(cursor.fault(NO_TEXT));
    }
    if cursor.maybe_literal().is_some() {
        property = quoted(&format!("${{users.{name}.PASSWORD}}"));
        cursor.eat(&["ENCRYPTED"]);
        if cursor.eat(&["ALGORITHM"]) {
            cursor.eat_symbol("=");
            cursor.group()?;
        }
        if cursor.keyword().is_some_and(|word| word.starts_with("SHA") || word.starts_with("PBKDF")) {
            cursor.skip()?;
        }
    }
    let rest = granted(cursor)?;
    let text = joined(["USER", &written(&name), &property, &rest]);
    Ok(keep(replace, Name::new(name), KeptKind::User, text, None))
}

/// `MAP I18N name ( … )`
fn map(cursor: &mut Cursor<'_>, replace: bool) -> Parsed<Statement> {
    cursor.expect(&["MAP"])?;
    let kind = cursor.name()?;
    let name = clauses::qualified(cursor)?;
    let text = joined(["MAP", &kind.to_uppercase(), &written(&name.name), &cursor.rest()]);
    let name = Name { name: joined([&kind, &name.name]), ..name };
    Ok(keep(replace, name, KeptKind::Map, text, None))
}

pub fn alter(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    cursor.expect(&["ALTER"])?;
    match cursor.keyword().as_deref() {
        Some("DATABASE") => {
            cursor.skip()?;
            let name = cursor.name()?;
            if cursor.is_over() {
                return Err(cursor.unexpected());
            }
            Ok(Statement::AlterDatabase { name, clauses: vec![database_clause(cursor)?] })
        }
        Some("VIEW" | "TABLE") => {
            cursor.skip()?;
            let name = clauses::qualified(cursor)?;
            let option = cursor.keyword().unwrap_or_default();
            if !["LAYOUT", "CACHE"].contains(&option.as_str()) {
                return Err(cursor
                    .fault("ALTER VIEW is only supported with LAYOUT or CACHE; use CREATE OR REPLACE VIEW"));
            }
            let text = joined(["ALTER VIEW", &written(&name.name), &cursor.rest()]);
            let name = Name { name: joined([&name.name, &option.to_lowercase()]), ..name };
            Ok(keep(true, name, KeptKind::ViewOption, text, None))
        }
        Some("USER" | "ROLE") => {
            let kind = cursor.keyword().unwrap_or_default();
            cursor.skip()?;
            let name = cursor.name()?;
            if !cursor.is(&["GRANT"]) && !cursor.is(&["REVOKE"]) {
                return Err(cursor.fault(format!("ALTER {kind} is only supported with GRANT or REVOKE")));
            }
            let text = joined(["ALTER", &kind, &written(&name), &granted(cursor)?]);
            Ok(keep(true, Name::new(text.clone()), KeptKind::Grant, text, None))
        }
        _ => Err(cursor.unexpected()),
    }
}

/// Everything after the name of a database, as one clause: `AUTHENTICATION LOCAL`, `GRANT … TO ROLE …`.
fn database_clause(cursor: &mut Cursor<'_>) -> Parsed<super::super::ast::Clause> {
    let word = cursor.keyword().unwrap_or_default();
    let text = granted(cursor)?;
    let rest = text.get(word.len()..).unwrap_or_default().trim_start().to_owned();
    if word.is_empty() {
        return Err(cursor.unexpected());
    }
    Ok(super::super::ast::Clause { word, text: rest, assigned: false })
}

/// SET, WEBCONTAINER SET, CHOWN and deployments of web services.
pub fn other(cursor: &mut Cursor<'_>) -> Parsed<Statement> {
    let at = cursor.position();
    if cursor.eat(&["SET"]) || cursor.eat(&["WEBCONTAINER", "SET"]) {
        let web = cursor.slice(at, cursor.position()).to_ascii_uppercase().starts_with('W');
        let name = cursor.literal()?;
        cursor.eat_symbol("=");
        let value = cursor.rest();
        let words = if web { "WEBCONTAINER SET" } else { "SET" };
        let kind = if web { KeptKind::WebSetting } else { KeptKind::Setting };
        let text = joined([words, &quoted(&name), "=", &value]);
        return Ok(keep(true, Name::new(name), kind, text, None));
    }
    let kind = if cursor.is(&["CHOWN"]) { KeptKind::Owner } else { KeptKind::Deployment };
    if kind == KeptKind::Deployment
        && !["REST", "SOAP"].contains(&cursor.keyword_ahead(1).unwrap_or_default().as_str())
    {
        return Err(cursor.unexpected());
    }
    let text = cursor.rest();
    Ok(keep(true, Name::new(text.clone()), kind, text, None))
}
