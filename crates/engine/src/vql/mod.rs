//! The SQL of virtual databases: statements on them, and the SELECTs of their views.
//!
//! `tokens` reads the text, `strict` refuses what VQL lacks here, `rewrite` gives the rest VQL's meaning with the
//! functions in `functions`; `textual` does so where types decide. `session` is what such a statement can use, `planner`
//! plans views without running them, `stars` replaces `*` in their text. Does not belong here: statements other than
//! SELECT, and where views are stored.

pub mod columns;
pub mod functions;
pub mod planner;
mod rewrite;
pub mod rows;
pub mod session;
mod stars;
pub mod strict;
mod textual;
mod tokens;

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use landreeve_core::source::SourceError;
use landreeve_core::table::Variable;

use crate::error::{not_read_only, query, translate};
use crate::flavour::check_levels;
use crate::{reading, variables};

/// Who wrote a text, which decides what it can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A statement on a virtual database. It can also contain what the parameter language writes.
    Caller,
    View,
}

/// Maximum recursion of the parser; a level of queries takes several. `strict` and `reading` have limits of their own.
const DEPTH: usize = 600;
/// Maximum nesting of parentheses and CASE. A query in parentheses counts too, and `strict` allows 64 of them.
const MAX_LEVELS: usize = 130;
/// Maximum number of tokens in a caller's statement, not counting values and the names in lists.
const MAX_TOKENS: usize = 5_000;

/// How the parser reads VQL. The tokens come from `tokens`.
#[derive(Debug)]
pub struct Vql;

impl Dialect for Vql {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || matches!(ch, '_' | '$')
    }

    /// `CAST(x AS long)`
    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }
}

/// One statement with the meaning it has in VQL, ready for the planner.
pub fn prepare(sql: &str, writer: Writer, values: &[(String, Variable)]) -> Result<Statement, SourceError> {
    let mut statement = parse(sql, writer)?;
    variables::fill(&mut statement, values)?;
    rewrite::apply(&mut statement);
    Ok(statement)
}

/// The syntax tree of a text that only reads and contains only what is supported.
fn parse(sql: &str, writer: Writer) -> Result<Statement, SourceError> {
    let tokens = tokens::read(sql)?;
    check_levels(tokens.iter().map(|token| &token.token), MAX_LEVELS)?;
    if writer == Writer::Caller && tokens::weight(&tokens) > MAX_TOKENS {
        let message = format!("the statement has more than {MAX_TOKENS} tokens; make it shorter");
        return Err(query("too_long", message));
    }
    reading::check_chain(tokens::set_operations(&tokens))?;
    let mut parser = Parser::new(&Vql).with_recursion_limit(DEPTH).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|error| parse_error(sql, &error))?;
    let rest = parser.peek_token();
    if let Some(offset) = tokens::start_of(rest.span) {
        return Err(tokens::syntax_error(sql, offset, "expected the end of the statement"));
    }
    match statement {
        Statement::Query(_) => {}
        Statement::Explain { .. } => {
            return Err(not_read_only("EXPLAIN must be the first word of a statement on a virtual database"));
        }
        _ => return Err(not_read_only("only SELECT statements are allowed")),
    }
    reading::check(&statement)?;
    strict::check(&statement, writer, sql)?;
    Ok(statement)
}

/// The parser writes the position into its message.
fn parse_error(sql: &str, error: &ParserError) -> SourceError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => {
            return query("too_deep", "the statement is nested too deeply; use views");
        }
    };
    let (message, column) = match message.rsplit_once(" at Line: 1, Column: ") {
        Some((message, column)) => (message, column.trim().parse::<usize>().ok()),
        None => (message, None),
    };
    let offset = column.map_or(sql.len(), |column| column.saturating_sub(1));
    let mut message = message.replace("EOF", "end of text");
    if let Some(first) = message.get(..1).map(str::to_lowercase) {
        message.replace_range(..1, &first);
    }
    tokens::syntax_error(sql, offset, &message)
}

/// A planner's error with the position in the text, if it is known.
pub fn located(sql: &str, error: &DataFusionError) -> SourceError {
    let column = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start.column);
    let offset =
        column.and_then(|column| usize::try_from(column).ok()).and_then(|column| column.checked_sub(1));
    tokens::at(sql, offset, translate(error))
}
