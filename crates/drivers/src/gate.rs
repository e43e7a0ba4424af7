//! The lexer that lets one reading statement through and names what it refuses.
//!
//! It is the outer wall only: behind it stand the prepared protocol (one statement), the read-only transaction and the
//! rights of the database's user. So it is made to fail closed: text it reads otherwise than the database does may be
//! refused, never let through as something else. What must not enter: a connection, or knowledge of tables.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::{SourceError, SourceErrorKind};

/// A statement that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// Without the semicolon at its end.
    pub text: &'a str,
    /// Its first word gives rows of an expression the server can wrap in a subquery.
    pub is_query: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// A string, a quoted identifier or a dollar quote.
    Quoted,
    Symbol(u8),
}

/// Words that may begin a statement inside `WITH` or after `EXPLAIN ANALYZE` and write.
const WRITERS: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"];

pub(crate) fn check(sql: &str, dialect: SqlDialect) -> Result<Statement<'_>, SourceError> {
    let mut lexer = Lexer { sql, bytes: sql.as_bytes(), at: 0, dialect };
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut end = sql.len();
    let mut closed = false;
    while let Some((start, token)) = lexer.next()? {
        match token {
            Token::Symbol(b';') if tokens.is_empty() => {
                return Err(refuse("the statement is empty before its first semicolon"));
            }
            Token::Symbol(b';') => {
                if !closed {
                    end = start;
                }
                closed = true;
            }
            _ if closed => return Err(refuse("there are several statements; send one at a time")),
            token => tokens.push(token),
        }
    }
    let is_query = check_tokens(&tokens, dialect)?;
    Ok(Statement { text: sql.get(..end).unwrap_or(sql), is_query })
}

fn refuse(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::NotReadOnly, message)
}

fn refuse_word(word: &str) -> SourceError {
    refuse(format!(
        "{word} is not allowed here: only statements that read (SELECT, WITH, VALUES, TABLE, SHOW, EXPLAIN, DESCRIBE)"
    ))
}

/// `true` when the statement is an expression that gives rows (and not SHOW, EXPLAIN, ...).
fn check_tokens(tokens: &[Token<'_>], dialect: SqlDialect) -> Result<bool, SourceError> {
    let first = first_word(tokens)?;
    let is_query = match first.as_str() {
        "SELECT" | "VALUES" | "TABLE" => true,
        "WITH" => {
            check_with(tokens)?;
            true
        }
        "EXPLAIN" | "DESCRIBE" | "DESC" => {
            check_explain(tokens)?;
            false
        }
        "SHOW" => false,
        "PRAGMA" if dialect == SqlDialect::Sqlite => false,
        other => return Err(refuse_word(other)),
    };
    check_into(tokens)?;
    Ok(is_query)
}

/// Opening parentheses may stand before a query.
fn first_word(tokens: &[Token<'_>]) -> Result<String, SourceError> {
    match tokens.iter().find(|token| **token != Token::Symbol(b'(')) {
        Some(Token::Word(word)) => Ok(word.to_ascii_uppercase()),
        Some(_) => Err(refuse("the statement does not begin with a keyword such as SELECT")),
        None => Err(refuse("the statement is empty")),
    }
}

/// Writing inside a common table expression, or as the statement that follows them.
fn check_with(tokens: &[Token<'_>]) -> Result<(), SourceError> {
    for (index, window) in tokens.windows(2).enumerate() {
        let [before, Token::Word(word)] = window else { continue };
        // A function of that name (MySQL's INSERT and REPLACE) is followed by its arguments.
        let is_call = tokens.get(index + 2) == Some(&Token::Symbol(b'('));
        let begins = matches!(before, Token::Symbol(b'(' | b')'));
        if begins && !is_call && WRITERS.iter().any(|writer| word.eq_ignore_ascii_case(writer)) {
            return Err(refuse(format!(
                "{} inside WITH writes, and only reading is allowed",
                word.to_ascii_uppercase()
            )));
        }
    }
    Ok(())
}

/// `EXPLAIN ANALYZE` runs what it explains.
fn check_explain(tokens: &[Token<'_>]) -> Result<(), SourceError> {
    let word_is =
        |token: &Token<'_>, name: &str| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(name));
    if !tokens.iter().any(|token| word_is(token, "ANALYZE") || word_is(token, "ANALYSE")) {
        return Ok(());
    }
    const OPTIONS: [&str; 20] = [
        "EXPLAIN",
        "DESCRIBE",
        "DESC",
        "ANALYZE",
        "ANALYSE",
        "VERBOSE",
        "COSTS",
        "SETTINGS",
        "BUFFERS",
        "WAL",
        "TIMING",
        "SUMMARY",
        "FORMAT",
        "TRUE",
        "FALSE",
        "ON",
        "OFF",
        "JSON",
        "TREE",
        "GENERIC_PLAN",
    ];
    const NAMES: [&str; 5] = ["TEXT", "XML", "YAML", "TRADITIONAL", "MEMORY"];
    let explained = tokens.iter().find_map(|token| match token {
        Token::Word(word) => {
            let word = word.to_ascii_uppercase();
            (!OPTIONS.contains(&word.as_str()) && !NAMES.contains(&word.as_str())).then_some(word)
        }
        _ => None,
    });
    match explained.as_deref() {
        Some("SELECT" | "VALUES" | "TABLE") => Ok(()),
        Some("WITH") => check_with(tokens),
        Some(other) => {
            Err(refuse(format!("EXPLAIN ANALYZE runs its statement, and {other} is not one that reads")))
        }
        None => Err(refuse("EXPLAIN ANALYZE needs a SELECT")),
    }
}

/// `SELECT … INTO` writes a table, a file or a variable. The word is reserved in every dialect: it can only be a name
/// as a column's label or after a dot.
fn check_into(tokens: &[Token<'_>]) -> Result<(), SourceError> {
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        if !word.eq_ignore_ascii_case("INTO") {
            continue;
        }
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let is_name = match before {
            Some(Token::Word(word)) => word.eq_ignore_ascii_case("AS"),
            Some(Token::Symbol(b'.')) => true,
            _ => false,
        };
        if !is_name {
            let what = match tokens.get(index + 1) {
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("OUTFILE") => "INTO OUTFILE",
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("DUMPFILE") => "INTO DUMPFILE",
                Some(Token::Symbol(b'@')) => "INTO a variable",
                _ => "INTO",
            };
            return Err(refuse(format!("{what} writes, and only reading is allowed")));
        }
    }
    Ok(())
}

struct Lexer<'a> {
    sql: &'a str,
    bytes: &'a [u8],
    at: usize,
    dialect: SqlDialect,
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn is_mysql(&self) -> bool {
        self.dialect == SqlDialect::MySql
    }

    fn is_postgres(&self) -> bool {
        matches!(self.dialect, SqlDialect::Postgres | SqlDialect::Redshift | SqlDialect::CrateDb)
    }

    fn next(&mut self) -> Result<Option<(usize, Token<'a>)>, SourceError> {
        self.skip_blank()?;
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else { return Ok(None) };
        let token = match byte {
            0 => return Err(refuse("the statement holds a NUL character")),
            b'\'' => self.quoted(b'\'', self.is_mysql(), "string")?,
            b'"' => {
                self.quoted(b'"', self.is_mysql(), if self.is_mysql() { "string" } else { "quoted name" })?
            }
            b'`' if !self.is_postgres() => self.quoted(b'`', false, "quoted name")?,
            b'[' if self.dialect == SqlDialect::Sqlite => self.bracketed()?,
            b'$' if self.is_postgres() => self.dollar()?,
            b'0'..=b'9' => self.number(),
            _ if starts_word(byte) => self.word()?,
            _ => {
                self.at += 1;
                Token::Symbol(byte)
            }
        };
        Ok(Some((start, token)))
    }

    /// White space and comments.
    fn skip_blank(&mut self) -> Result<(), SourceError> {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' && self.dashes_comment() => self.skip_line(),
                b'#' if self.is_mysql() => self.skip_line(),
                b'/' if self.peek(1) == b'*' => self.skip_block()?,
                _ => return Ok(()),
            }
        }
    }

    /// MySQL takes `--` for a comment only before a blank or at the end: `5--1` is 6 there.
    fn dashes_comment(&self) -> bool {
        !self.is_mysql() || self.at + 2 >= self.bytes.len() || self.peek(2) <= b' '
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            // PostgreSQL ends the comment at a carriage return too.
            if self.is_postgres() && self.peek(0) == b'\r' {
                break;
            }
            self.at += 1;
        }
    }

    fn skip_block(&mut self) -> Result<(), SourceError> {
        if self.is_mysql() && (self.peek(2) == b'!' || (self.peek(2) == b'M' && self.peek(3) == b'!')) {
            return Err(refuse(
                "a comment /*! … */ is run by the database; write its text without the comment",
            ));
        }
        self.at += 2;
        let mut depth = 1_u32;
        while depth > 0 {
            if self.at >= self.bytes.len() {
                return Err(refuse("a comment /* is not closed"));
            }
            if self.peek(0) == b'*' && self.peek(1) == b'/' {
                depth -= 1;
                self.at += 2;
            } else if self.is_postgres() && self.peek(0) == b'/' && self.peek(1) == b'*' {
                depth += 1;
                self.at += 2;
            } else {
                self.at += 1;
            }
        }
        Ok(())
    }

    fn quoted(&mut self, quote: u8, backslash: bool, what: &str) -> Result<Token<'a>, SourceError> {
        self.at += 1;
        loop {
            if self.at >= self.bytes.len() {
                return Err(refuse(format!("a {what} is not closed")));
            }
            let byte = self.peek(0);
            if byte == quote {
                if self.peek(1) == quote {
                    self.at += 2;
                    continue;
                }
                self.at += 1;
                return Ok(Token::Quoted);
            }
            self.at += if backslash && byte == b'\\' { 2 } else { 1 };
        }
    }

    fn bracketed(&mut self) -> Result<Token<'a>, SourceError> {
        while self.at < self.bytes.len() {
            self.at += 1;
            if self.bytes.get(self.at - 1) == Some(&b']') {
                return Ok(Token::Quoted);
            }
        }
        Err(refuse("a quoted name [ is not closed"))
    }

    fn dollar(&mut self) -> Result<Token<'a>, SourceError> {
        let mut end = self.at + 1;
        while let Some(&byte) = self.bytes.get(end) {
            let fits = starts_word(byte) || (byte.is_ascii_digit() && end > self.at + 1);
            if !fits {
                break;
            }
            end += 1;
        }
        if self.bytes.get(end) != Some(&b'$') {
            // A parameter ($1) or a stray sign.
            self.at += 1;
            return Ok(Token::Symbol(b'$'));
        }
        let tag = self.bytes.get(self.at..=end).unwrap_or_default();
        let mut at = end + 1;
        while at < self.bytes.len() {
            if self.bytes.get(at..).is_some_and(|rest| rest.starts_with(tag)) {
                self.at = at + tag.len();
                return Ok(Token::Quoted);
            }
            at += 1;
        }
        Err(refuse("a dollar-quoted string is not closed"))
    }

    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        while matches!(self.peek(0), b'0'..=b'9' | b'.') {
            self.at += 1;
        }
        // In MySQL a name may begin with digits; `1into` is one name there, and refusing it costs nothing.
        Token::Symbol(self.bytes.get(start).copied().unwrap_or(b'0'))
    }

    fn word(&mut self) -> Result<Token<'a>, SourceError> {
        let start = self.at;
        while starts_word(self.peek(0)) || self.peek(0).is_ascii_digit() || self.peek(0) == b'$' {
            self.at += 1;
        }
        let word = self.sql.get(start..self.at).unwrap_or_default();
        if self.is_postgres() && word.eq_ignore_ascii_case("e") && self.peek(0) == b'\'' {
            self.escape_string()?;
            return Ok(Token::Quoted);
        }
        Ok(Token::Word(word))
    }

    /// `E'…'`, and its continuations on later lines, which take backslashes too.
    fn escape_string(&mut self) -> Result<(), SourceError> {
        loop {
            self.quoted(b'\'', true, "string")?;
            let closed = self.at;
            self.skip_blank()?;
            let between = self.bytes.get(closed..self.at).unwrap_or_default();
            if self.peek(0) != b'\'' || !between.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
                self.at = closed;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
