//! The gate: lets a single read-only statement through, and names what it rejects.
//!
//! It is only the first line of defence, before the prepared protocol (one statement), the read-only transaction and
//! the rights of the database user. But it alone prevents a statement from writing files on the database's machine. So
//! it fails closed: it rejects any text that it cannot parse. It reads tokens as the database does (`core::sql`) and
//! follows the grammar only where a statement can write: the first keyword, the bodies and the end of a WITH clause,
//! what EXPLAIN runs, INTO, and locks. Does not belong here: a connection, or knowledge of tables.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::sql::{self, Kind, Scanner};

/// A statement that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// Without the trailing semicolon.
    pub text: &'a str,
    /// It is an expression that returns rows, which the server can wrap in a subquery.
    pub is_query: bool,
}

/// A token that is not whitespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// After a dot, or the label after AS: never a keyword.
    is_name: bool,
}

impl Token<'_> {
    fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && !self.is_name && self.text.eq_ignore_ascii_case(word)
    }

    fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(word))
    }
}

/// The first words of statements that return rows and write nothing themselves.
const QUERIES: [&str; 4] = ["SELECT", "VALUES", "TABLE", "WITH"];

pub(crate) fn check(sql: &str, dialect: SqlDialect) -> Result<Statement<'_>, SourceError> {
    if sql.contains('\0') {
        return Err(refuse("the statement contains a NUL character"));
    }
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut end = sql.len();
    let mut closed = false;
    for token in Scanner::new(sql, sql::rules(dialect)) {
        let text = sql.get(token.start..token.end).unwrap_or_default();
        check_token(token, text)?;
        if token.kind.is_blank() {
            continue;
        }
        if token.kind == Kind::Symbol && text == ";" {
            if tokens.is_empty() {
                return Err(refuse("the statement is empty before its first semicolon"));
            }
            if !closed {
                end = token.start;
            }
            closed = true;
            continue;
        }
        if closed {
            return Err(refuse("several statements are not allowed; send one at a time"));
        }
        tokens.push(Token { kind: token.kind, text, is_name: token.is_name });
    }
    if labels_can_be_keywords(dialect) {
        mark_labels(&mut tokens);
    }
    let gate = Gate { partners: partners(&tokens)?, tokens: &tokens, dialect };
    let is_query = gate.statement()?;
    Ok(Statement { text: sql.get(..end).unwrap_or(sql), is_query })
}

fn refuse(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::NotReadOnly, message)
}

fn refuse_word(word: &str) -> SourceError {
    refuse(format!(
        "{} is not allowed: use a read-only statement (SELECT, WITH, VALUES, TABLE, SHOW, EXPLAIN, DESCRIBE)",
        word.to_ascii_uppercase()
    ))
}

fn check_token(token: sql::Token, text: &str) -> Result<(), SourceError> {
    if token.kind == Kind::CodeComment {
        return Err(refuse(
            "the text in a comment /*! … */ is run by the database; write it without the comment",
        ));
    }
    if token.closed {
        return Ok(());
    }
    let what = match (token.kind, text.as_bytes().first()) {
        (Kind::BlockComment, _) => "a comment /*".to_owned(),
        (Kind::Text, Some(b'$')) => "a dollar-quoted string".to_owned(),
        (Kind::Text | Kind::Variable, _) => "a string".to_owned(),
        (Kind::Number, _) => {
            return Err(refuse(format!("the number {text}e has no digits in its exponent; write {text}")));
        }
        (_, Some(b'[')) => "a quoted name [".to_owned(),
        _ => "a quoted name".to_owned(),
    };
    Err(refuse(format!("{what} is not closed")))
}

/// PostgreSQL accepts any keyword after AS as a label: `select 1 as into` returns a column `into`, and
/// `select 1 as as into t` creates a table. MySQL does not accept reserved words there.
const fn labels_can_be_keywords(dialect: SqlDialect) -> bool {
    !matches!(dialect, SqlDialect::MySql)
}

fn mark_labels(tokens: &mut [Token<'_>]) {
    for at in 1..tokens.len() {
        if let [before, token] = &mut tokens[at - 1..=at]
            && before.is_word("AS")
            && token.kind == Kind::Word
            // `AS MATERIALIZED (` and `AS NOT MATERIALIZED (` of a WITH clause contain no keyword that writes either
            // way.
            && !token.is_any(&["MATERIALIZED", "NOT"])
        {
            token.is_name = true;
        }
    }
}

/// For each opening parenthesis, the position of its closing one.
fn partners(tokens: &[Token<'_>]) -> Result<Vec<usize>, SourceError> {
    let mut partners = vec![usize::MAX; tokens.len()];
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.is("(") {
            open.push(at);
        } else if token.is(")") {
            let opened: usize = open.pop().ok_or_else(|| refuse("unmatched )"))?;
            partners[opened] = at;
        }
    }
    if open.is_empty() { Ok(partners) } else { Err(refuse("unmatched (")) }
}

struct Gate<'t> {
    tokens: &'t [Token<'t>],
    partners: Vec<usize>,
    dialect: SqlDialect,
}

impl<'t> Gate<'t> {
    fn token(&self, at: usize) -> Option<&'t Token<'t>> {
        self.tokens.get(at)
    }

    fn is(&self, at: usize, symbol: &str) -> bool {
        self.token(at).is_some_and(|token| token.is(symbol))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.token(at).is_some_and(|token| token.is_word(word))
    }

    fn is_any(&self, at: usize, words: &[&str]) -> bool {
        self.token(at).is_some_and(|token| token.is_any(words))
    }

    /// `true` if the statement is an expression that returns rows (and not SHOW, EXPLAIN, ...).
    fn statement(&self) -> Result<bool, SourceError> {
        let first = self.first_word(0)?;
        let bare = !self.is(0, "(");
        let is_query = match first.to_ascii_uppercase().as_str() {
            "SELECT" | "VALUES" | "TABLE" | "WITH" => {
                self.runs_query(0)?;
                true
            }
            "EXPLAIN" | "DESCRIBE" | "DESC" if bare => {
                self.explain()?;
                false
            }
            "SHOW" if bare => {
                self.show()?;
                false
            }
            "PRAGMA" if bare && self.dialect == SqlDialect::Sqlite => false,
            _ => return Err(refuse_word(first)),
        };
        // Also in SHOW, whose subqueries run, and in EXPLAIN: planning reads the rows that keys determine.
        if self.dialect == SqlDialect::MySql {
            self.check_locks()?;
        }
        Ok(is_query)
    }

    /// Checks that what is run from here on is a query, and so is everything inside it.
    fn runs_query(&self, from: usize) -> Result<(), SourceError> {
        self.query(from)?;
        // A WITH clause can start a query in any parentheses. In SQLite, WITH can also be a name, but no such query can
        // write.
        if self.dialect != SqlDialect::Sqlite {
            let nested =
                (from + 1..self.tokens.len()).filter(|at| self.is_word(*at, "WITH") && self.is(at - 1, "("));
            for at in nested {
                self.query(at)?;
            }
        }
        self.check_into()
    }

    /// The first word from here on, after any opening parentheses.
    fn first_word(&self, from: usize) -> Result<&'t str, SourceError> {
        let mut rest = self.tokens.iter().skip(from).skip_while(|token| token.is("("));
        match rest.next() {
            Some(token) if token.kind == Kind::Word && !token.is_name => Ok(token.text),
            Some(_) => Err(refuse("the statement does not start with a keyword such as SELECT")),
            None => Err(refuse("the statement is empty")),
        }
    }

    fn begins_query(&self, from: usize) -> Result<(), SourceError> {
        let first = self.first_word(from)?;
        if QUERIES.iter().any(|word| first.eq_ignore_ascii_case(word)) {
            return Ok(());
        }
        let word = first.to_ascii_uppercase();
        Err(refuse(format!(
            "{word} inside WITH or EXPLAIN ANALYZE would be run; only queries are allowed there"
        )))
    }

    /// Checks that a query starts here; if it has a WITH clause, that its tables and what follows it are queries too.
    fn query(&self, from: usize) -> Result<(), SourceError> {
        self.begins_query(from)?;
        let mut at = from;
        while self.is(at, "(") {
            at += 1;
        }
        if !self.is_word(at, "WITH") {
            return Ok(());
        }
        let behind = self.with_clause(at + 1)?;
        if self.is_word(behind, "WITH") {
            return Err(unclear());
        }
        self.begins_query(behind)
    }

    /// Parses the tables of a WITH clause and returns the position after it. `at` is after the word WITH.
    fn with_clause(&self, mut at: usize) -> Result<usize, SourceError> {
        // RECURSIVE can also be the name of the first table.
        if self.is_word(at, "RECURSIVE") && !self.is_word(at + 1, "AS") && self.name(at + 1).is_ok() {
            at += 1;
        }
        loop {
            // Its name, and the names of its columns.
            at = self.name(at)?;
            if self.is(at, "(") {
                at = self.behind(at);
            }
            if !self.is_word(at, "AS") {
                return Err(unclear());
            }
            at += 1;
            if self.is_word(at, "NOT") {
                at += 1;
            }
            if self.is_word(at, "MATERIALIZED") {
                at += 1;
            }
            if !self.is(at, "(") {
                return Err(unclear());
            }
            self.begins_query(at)?;
            at = self.order_of_rows(self.behind(at))?;
            if !self.is(at, ",") {
                return Ok(at);
            }
            at += 1;
        }
    }

    /// The position after the parenthesis that opens here.
    fn behind(&self, at: usize) -> usize {
        self.partners.get(at).map_or(self.tokens.len(), |close| close.saturating_add(1))
    }

    /// The position after the name here.
    fn name(&self, at: usize) -> Result<usize, SourceError> {
        let token = self.token(at).ok_or_else(unclear)?;
        let behind = match token.kind {
            // `U&"d!0061ta" UESCAPE '!'`
            Kind::QuotedName if token.text.starts_with(['u', 'U']) && self.is_word(at + 1, "UESCAPE") => {
                at + 3
            }
            Kind::Word | Kind::QuotedName | Kind::Text => at + 1,
            _ => return Err(unclear()),
        };
        Ok(behind)
    }

    fn names(&self, mut at: usize) -> Result<usize, SourceError> {
        loop {
            at = self.name(at)?;
            if !self.is(at, ",") {
                return Ok(at);
            }
            at += 1;
        }
    }

    /// `SEARCH DEPTH FIRST BY a SET b`, then `CYCLE a SET b [TO x DEFAULT y] USING c`, or MariaDB's `CYCLE a RESTRICT`.
    /// Returns the position after them.
    fn order_of_rows(&self, mut at: usize) -> Result<usize, SourceError> {
        if self.is_word(at, "SEARCH") {
            if !(self.is_any(at + 1, &["DEPTH", "BREADTH"])
                && self.is_word(at + 2, "FIRST")
                && self.is_word(at + 3, "BY"))
            {
                return Err(unclear());
            }
            at = self.names(at + 4)?;
            at = self.word_and_name(at, "SET")?;
        }
        if self.is_word(at, "CYCLE") {
            at = self.names(at + 1)?;
            if self.is_word(at, "RESTRICT") {
                return Ok(at + 1);
            }
            at = self.word_and_name(at, "SET")?;
            if self.is_word(at, "TO") {
                at = self.word_from(at + 2, "DEFAULT")?;
                at = self.word_from(at + 2, "USING")?;
            }
            at = self.word_and_name(at, "USING")?;
        }
        Ok(at)
    }

    fn word_and_name(&self, at: usize, word: &str) -> Result<usize, SourceError> {
        if !self.is_word(at, word) {
            return Err(unclear());
        }
        self.name(at + 1)
    }

    /// The position of a word that follows a constant, such as `'x'`, `f(1) 'x'`, or `interval '1' day`.
    fn word_from(&self, from: usize, word: &str) -> Result<usize, SourceError> {
        const MAX_CONSTANT: usize = 32;
        let mut at = from;
        for _ in 0..MAX_CONSTANT {
            if self.is_word(at, word) {
                return Ok(at);
            }
            at = if self.is(at, "(") { self.behind(at) } else { at + 1 };
        }
        Err(unclear())
    }

    /// InnoDB reads without locks only in SELECT: it locks the rows that a subquery of SHOW reads.
    fn show(&self) -> Result<(), SourceError> {
        let mut next_from = usize::MAX;
        for at in (0..self.tokens.len()).rev().filter(|_| self.dialect == SqlDialect::MySql) {
            if self.is_word(at, "FROM") {
                next_from = at;
            }
            let reads = || self.is_word(at + 1, "TABLE") || next_from < self.behind(at);
            if self.is(at, "(") && self.is_any(at + 1, &QUERIES) && reads() {
                return Err(refuse(
                    "a subquery in SHOW locks rows against writers; select from information_schema instead",
                ));
            }
        }
        self.check_into()
    }

    /// `EXPLAIN ANALYZE` runs what it explains, so that must be a query.
    fn explain(&self) -> Result<(), SourceError> {
        const OPTIONS: [&str; 5] = ["ANALYZE", "ANALYSE", "VERBOSE", "EXTENDED", "PARTITIONS"];
        let runs = |at: usize| self.is_any(at, &["ANALYZE", "ANALYSE"]);
        let mut at = 1;
        let mut is_run = false;
        if self.is(at, "(") && !self.is(at + 1, "(") && !self.is_any(at + 1, &QUERIES) {
            let end = self.behind(at);
            let is_off = |at: usize| {
                self.is_any(at, &["FALSE", "OFF"]) || self.token(at).is_some_and(|token| token.text == "0")
            };
            // A quoted name where an option starts could be any option.
            let is_quoted = |at: usize| {
                self.token(at).is_some_and(|token| token.kind == Kind::QuotedName)
                    && (self.is(at - 1, "(") || self.is(at - 1, ","))
            };
            is_run = (at + 1..end).any(|at| runs(at) && !is_off(at + 1) || is_quoted(at));
            at = end;
        }
        loop {
            if self.is_any(at, &OPTIONS) {
                is_run |= runs(at);
                at += 1;
            } else if self.is_word(at, "FORMAT") && self.is(at + 1, "=")
                || self.is_word(at, "FOR") && self.is_any(at + 1, &["SCHEMA", "DATABASE"])
            {
                at += 3;
            } else {
                break;
            }
        }
        if is_run {
            return self.runs_query(at);
        }
        // The statement is only planned, and can be an INSERT INTO a table. But MySQL can write the plan to a variable;
        // a plan has no use for INTO with a variable or a file.
        let targets = (at..self.tokens.len()).filter(|at| self.is_word(*at, "INTO"));
        for at in targets.filter(|_| self.dialect == SqlDialect::MySql) {
            let is_text = self.token(at + 2).is_some_and(|token| token.kind == Kind::Text);
            match self.token(at + 1) {
                Some(token) if token.kind == Kind::Variable => return Err(self.refuse_into(at)),
                Some(token) if token.is_any(&["OUTFILE", "DUMPFILE"]) && is_text => {
                    return Err(self.refuse_into(at));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `SELECT … INTO` writes a table, a file or a variable. INTO is reserved in every dialect: it is a name only after
    /// a dot, as a label, or in PostgreSQL's `xmlelement(name into)`.
    fn check_into(&self) -> Result<(), SourceError> {
        let is_tag = |at: usize| {
            at >= 3
                && self.is_word(at - 1, "NAME")
                && self.is(at - 2, "(")
                && self.is_any(at - 3, &["XMLELEMENT", "XMLPI"])
        };
        let into = (0..self.tokens.len()).find(|at| self.is_word(*at, "INTO") && !is_tag(*at));
        into.map_or(Ok(()), |at| Err(self.refuse_into(at)))
    }

    fn refuse_into(&self, at: usize) -> SourceError {
        let what = match self.token(at + 1) {
            Some(token) if token.is_word("OUTFILE") => "INTO OUTFILE",
            Some(token) if token.is_word("DUMPFILE") => "INTO DUMPFILE",
            Some(token) if token.kind == Kind::Variable => "INTO a variable",
            _ => "INTO",
        };
        refuse(format!("{what} writes; only reading is allowed"))
    }

    /// Readers must never block writers, and a locking read does. (PostgreSQL rejects it in a read-only transaction.)
    /// FOR and LOCK are reserved, but SHARE is not: `substring(a from 1 for share)` locks nothing.
    fn check_locks(&self) -> Result<(), SourceError> {
        const SUBSTRINGS: [&str; 3] = ["SUBSTRING", "SUBSTR", "MID"];
        // For each open parenthesis, whether it holds the arguments of SUBSTRING.
        let mut arguments = Vec::new();
        for at in 0..self.tokens.len() {
            if self.is(at, "(") {
                arguments.push(at > 0 && self.is_any(at - 1, &SUBSTRINGS));
            } else if self.is(at, ")") {
                arguments.pop();
            }
            let is_length = arguments.last().copied().unwrap_or(false);
            let lock = if self.is_word(at, "FOR") && self.is_word(at + 1, "UPDATE") {
                "FOR UPDATE"
            } else if self.is_word(at, "FOR") && self.is_word(at + 1, "SHARE") && !is_length {
                "FOR SHARE"
            } else if self.is_word(at, "LOCK") && self.is_word(at + 1, "IN") {
                "LOCK IN SHARE MODE"
            } else {
                continue;
            };
            return Err(refuse(format!(
                "{lock} locks rows against writers; leave it out: queries read a consistent snapshot without locks"
            )));
        }
        Ok(())
    }
}

fn unclear() -> SourceError {
    refuse("cannot parse the WITH clause: write WITH name AS (SELECT …), then a SELECT")
}

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
