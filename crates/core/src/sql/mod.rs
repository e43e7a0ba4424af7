//! SQL as tokens, the way each database's own lexer reads it. Code that inspects SQL without a parser for its dialect
//! uses this scanner: the drivers' gate, the parameter language, scripts of several statements.
//!
//! `rules` has one entry per dialect; a new dialect is a new entry. `scanner` knows only rules, not dialects. Does not
//! belong here: the grammar of any statement, or what its words mean.

mod rules;
mod scanner;

use std::ops::Range;

pub use rules::{Dashes, Dollar, EscapeStrings, Numbers, Rules, VQL, Variables, rules};
pub use scanner::{Kind, Scanner, Token};

/// The statements of a script, without their semicolons and surrounding whitespace. A piece that is only whitespace and
/// comments is not a statement. Every semicolon outside literals, quoted names and comments ends a statement, so a body
/// that contains semicolons must be quoted.
pub fn statements(sql: &str, rules: Rules) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current: Option<Range<usize>> = None;
    for token in Scanner::new(sql, rules) {
        if token.kind == Kind::Symbol && sql.get(token.start..token.end) == Some(";") {
            found.extend(current.take());
        } else if !token.kind.is_blank() {
            current = Some(current.map_or(token.start, |current| current.start)..token.end);
        }
    }
    found.extend(current);
    found
}

#[cfg(test)]
mod tests;
