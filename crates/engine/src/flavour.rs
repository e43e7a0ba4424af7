//! The SQL flavour of a statement: how it is parsed, and which parts of the syntax tree have a different meaning than
//! in the engine. `reading` checks that the statement only reads.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Statement, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use landreeve_core::source::SourceError;

use crate::dialect::Postgres;
use crate::error::{not_read_only, query, translate};
use crate::walk;

/// One value per flavour.
pub struct Flavour {
    dialect: &'static (dyn Dialect + Send + Sync),
    /// Gives an expression the meaning it has in this flavour. Its parts have already been rewritten.
    rewrite: fn(&mut Expr),
}

/// The flavour of queries on the delivery data, and of views.
pub const POSTGRESQL: Flavour = Flavour { dialect: &Postgres, rewrite: as_in_postgresql };

/// Maximum nesting of parentheses, brackets and CASE in a statement: its parser is recursive.
const MAX_LEVELS: usize = 50;
/// Maximum recursion of the parser, which is several for a level. The levels are counted before: where the parser stops at
/// its own limit, it tries every alternative at each level above.
const DEPTH: usize = 600;

/// Maximum number of tokens in a statement, not counting values and the names in lists: recursive functions walk the
/// plan that is built from it.
const MAX_TOKENS: usize = 5_000;

fn check_length(sql: &str, dialect: &dyn Dialect) -> Result<(), SourceError> {
    // If it cannot be tokenized, the parser reports that.
    let Ok(tokens) = Tokenizer::new(dialect, sql).tokenize() else { return Ok(()) };
    let counts = |token: &&Token| {
        !matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Period
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::LParen
                | Token::RParen
        )
    };
    check_levels(&tokens, MAX_LEVELS)?;
    if tokens.iter().filter(counts).count() > MAX_TOKENS {
        let message = format!("the statement has more than {MAX_TOKENS} tokens; make it shorter");
        return Err(query("too_long", message));
    }
    Ok(())
}

/// Refuses a statement in which more tokens than this open something inside one another.
pub fn check_levels<'a>(tokens: impl IntoIterator<Item = &'a Token>, most: usize) -> Result<(), SourceError> {
    let mut depth = 0_usize;
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::CASE => depth += 1,
            Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::END => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if depth > most {
            let message = format!(
                "the statement has more than {most} levels of parentheses and CASE; use WITH or views"
            );
            return Err(query("too_deep", message));
        }
    }
    Ok(())
}

impl Flavour {
    /// Parses exactly one statement.
    pub fn parse(&self, sql: &str) -> Result<Statement, SourceError> {
        check_length(sql, self.dialect)?;
        let parsed = DFParserBuilder::new(sql)
            .with_dialect(self.dialect)
            .with_recursion_limit(DEPTH)
            .build()
            .and_then(|mut parser| parser.parse_statements());
        let mut statements = parsed.map_err(|error| translate(&error))?;
        match (statements.pop_front(), statements.is_empty()) {
            (Some(DfStatement::Statement(statement)), true) => Ok(*statement),
            (Some(_), true) => Err(not_read_only("only SELECT statements are allowed")),
            _ => Err(not_read_only("write exactly one SELECT statement")),
        }
    }

    /// Rewrites the statement so that it means the same in the engine.
    pub fn translate(&self, statement: &mut Statement) {
        let _ = walk::visit_mut(statement, &mut Rewriting(self.rewrite));
    }
}

struct Rewriting(fn(&mut Expr));

impl VisitorMut for Rewriting {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        (self.0)(expr);
        ControlFlow::Continue(())
    }
}

fn as_in_postgresql(expr: &mut Expr) {
    match expr {
        // In PostgreSQL `AT TIME ZONE` drops the zone; the engine's own does not.
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = call(crate::functions::AT_TIME_ZONE, timestamp, time_zone);
        }
        // The engine's own operator returns a union type, which cannot be compared with anything.
        Expr::BinaryOp { left, op: BinaryOperator::Arrow, right } => {
            *expr = call("json_get_json", left, right);
        }
        _ => {}
    }
}

fn call(function: &str, left: &Expr, right: &Expr) -> Expr {
    let argument = |expr: &Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument(left), argument(right)],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use landreeve_core::datasource::SqlDialect;
    use landreeve_core::sql::{Kind, Scanner, rules};
    use proptest::prelude::*;

    use super::*;

    /// How many comma-separated strings core's scanner sees; `None` if it sees anything else.
    fn listed(sql: &str) -> Option<usize> {
        let mut count = 0;
        let mut text_is_next = true;
        for token in Scanner::new(sql, rules(SqlDialect::Engine)) {
            match token.kind {
                kind if kind.is_blank() && token.closed => continue,
                Kind::Text if text_is_next && token.closed => count += 1,
                Kind::Symbol if !text_is_next && sql.get(token.start..token.end) == Some(",") => {}
                _ => return None,
            }
            text_is_next = !text_is_next;
        }
        (!text_is_next).then_some(count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// The scanner's rules for our own SQL match the parser that reads it.
        #[test]
        fn literals_end_where_the_parser_says(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "'", "'", "''", "\\", "\\'", "\"", "--", "-- ", "/*", "*/", "#", "\n", "\r", "$$", "$a$", "E'", "a",
                    " ", "`", ",", ", ", "', '", "',\n'", "/* ' */", "-- '\n", "/* /* */ */",
                ]),
                1..12,
            ),
        ) {
            let sql = format!("'{}", pieces.concat());
            let Some(count) = listed(&sql) else { return Ok(()) };
            let tokens = Tokenizer::new(POSTGRESQL.dialect, &sql).tokenize();
            let tokens = tokens.unwrap_or_else(|error| panic!("{error}: {sql:?}"));
            let code: Vec<_> = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
            let texts = |token: &&&Token| {
                matches!(
                    token,
                    Token::SingleQuotedString(_)
                        | Token::EscapedStringLiteral(_)
                        | Token::DollarQuotedString(_)
                )
            };
            prop_assert_eq!(code.iter().filter(texts).count(), count, "{:?}", &sql);
            prop_assert_eq!(code.len(), 2 * count - 1, "{:?}", &sql);
        }
    }
}
