//! Reads the tokens of one statement, one after the other.

use landreeve_core::sql::{Kind, Scanner, Token, VQL};

use super::place::Fault;
use super::script::Piece;

pub type Parsed<T> = Result<T, Fault>;

pub struct Cursor<'a> {
    piece: &'a Piece,
    tokens: Vec<Token>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(piece: &'a Piece) -> Cursor<'a> {
        let tokens = Scanner::new(&piece.text, VQL).filter(|token| !token.kind.is_blank()).collect();
        Cursor { piece, tokens, at: 0 }
    }

    fn token(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn text_of(&self, token: Token) -> &'a str {
        self.piece.text.get(token.start..token.end).unwrap_or_default()
    }

    /// The token at this distance, as written.
    pub fn ahead(&self, distance: usize) -> &'a str {
        self.token(distance).map(|token| self.text_of(token)).unwrap_or_default()
    }

    pub fn is_over(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Where the next token starts in the statement's text.
    pub fn position(&self) -> usize {
        self.token(0).map_or(self.piece.text.len(), |token| token.start)
    }

    /// Whether the next token is one that can be a keyword, and which: in upper case.
    pub fn keyword(&self) -> Option<String> {
        self.keyword_ahead(0)
    }

    pub fn keyword_ahead(&self, distance: usize) -> Option<String> {
        let token = self.token(distance).filter(|token| token.kind == Kind::Word)?;
        Some(self.text_of(token).to_ascii_uppercase())
    }

    /// Whether these keywords are next.
    pub fn is(&self, words: &[&str]) -> bool {
        let mut ahead = 0..;
        words.iter().all(|word| ahead.next().and_then(|at| self.keyword_ahead(at)).as_deref() == Some(word))
    }

    /// Takes these keywords if they are next.
    pub fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.is(words);
        if found {
            self.at += words.len();
        }
        found
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.token(0).is_some_and(|token| token.kind == Kind::Symbol && self.text_of(token) == symbol)
    }

    pub fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, words: &[&str]) -> Parsed<()> {
        if self.eat(words) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub fn expect_symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.eat_symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The next token cannot be here.
    pub fn unexpected(&self) -> Fault {
        let near = match self.token(0) {
            Some(token) if token.kind == Kind::Text => "a literal",
            Some(token) => self.text_of(token),
            None => "the end",
        };
        self.fault(format!("Syntax error: Exception parsing query near '{near}'"))
    }

    /// A fault at the next token.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        self.piece.fault(self.position(), message)
    }

    /// A fault at a position of the statement's text.
    pub fn fault_at(&self, at: usize, message: impl Into<String>) -> Fault {
        self.piece.fault(at, message)
    }

    pub fn end(&self) -> Parsed<()> {
        if self.is_over() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A name: plain names are in lower case, quoted ones as written.
    pub fn name(&mut self) -> Parsed<String> {
        let start = self.position();
        let token = self.token(0).filter(|token| matches!(token.kind, Kind::Word | Kind::QuotedName));
        let Some(token) = token else { return Err(self.unexpected()) };
        if self.is(&["IF", "NOT", "EXISTS"]) {
            return Err(self.fault("IF NOT EXISTS is not VQL; use CREATE OR REPLACE"));
        }
        let text = self.text_of(token);
        let name = match token.kind {
            Kind::QuotedName => unquoted(text),
            _ => text.to_lowercase(),
        };
        if name.is_empty() || name.chars().count() > MAX_NAME {
            return Err(self.fault_at(start, format!("a name must have 1 to {MAX_NAME} characters")));
        }
        if name.chars().any(char::is_control) {
            return Err(self.fault_at(start, "a name must not contain control characters"));
        }
        self.at += 1;
        Ok(name)
    }

    /// The text of a literal.
    pub fn literal(&mut self) -> Parsed<String> {
        self.maybe_literal().ok_or_else(|| self.unexpected())
    }

    pub fn maybe_literal(&mut self) -> Option<String> {
        let token = self.token(0).filter(|token| token.kind == Kind::Text)?;
        self.at += 1;
        Some(unquoted(self.text_of(token)))
    }

    /// A whole number that is not negative.
    pub fn number(&mut self) -> Parsed<u64> {
        let token = self.token(0).filter(|token| token.kind == Kind::Number);
        let number = token.and_then(|token| self.text_of(token).parse().ok());
        let number = number.ok_or_else(|| self.unexpected())?;
        self.at += 1;
        Ok(number)
    }

    /// TRUE, FALSE, ON, OFF, YES or NO, also as a literal.
    pub fn flag(&mut self) -> Parsed<bool> {
        let word = match self.token(0) {
            Some(token) if token.kind == Kind::Text => unquoted(self.text_of(token)).to_ascii_uppercase(),
            _ => self.keyword().ok_or_else(|| self.unexpected())?,
        };
        let value = match word.as_str() {
            "TRUE" | "ON" | "YES" => true,
            "FALSE" | "OFF" | "NO" => false,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(value)
    }

    /// Takes one token.
    pub fn skip(&mut self) -> Parsed<()> {
        if self.is_over() {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    /// Takes one token, or everything from an opening parenthesis to the one that closes it, as canonical text: tokens
    /// with single blanks, so that the same statement always has the same text.
    pub fn group(&mut self) -> Parsed<String> {
        let mut out = String::new();
        let mut depth = 0_usize;
        loop {
            let Some(token) = self.token(0) else { return Err(self.unexpected()) };
            let text = self.text_of(token);
            match text {
                "(" => depth += 1,
                ")" if depth == 0 => return Err(self.unexpected()),
                ")" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            append(&mut out, text);
            if depth == 0 {
                return Ok(out);
            }
        }
    }

    /// The rest of the statement as canonical text.
    pub fn rest(&mut self) -> String {
        let mut out = String::new();
        while let Some(token) = self.token(0) {
            append(&mut out, self.text_of(token));
            self.at += 1;
        }
        out
    }

    /// How many tokens are left.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.at.min(self.tokens.len())
    }

    /// The statement's text between two positions.
    pub fn slice(&self, from: usize, to: usize) -> &'a str {
        self.piece.text.get(from..to).unwrap_or_default()
    }

    /// Where the token before the next one ends.
    pub fn end_of_last(&self) -> usize {
        self.at.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.end)
    }
}

/// Maximum length of a name, in characters.
const MAX_NAME: usize = 100;

/// Adds a token, or text that is canonical already, to canonical text.
pub fn append(out: &mut String, token: &str) {
    let glued = matches!(token, "," | ")" | ".") || out.is_empty() || out.ends_with(['(', '.']);
    if !glued {
        out.push(' ');
    }
    out.push_str(token);
}

/// A literal's or quoted name's text.
fn unquoted(token: &str) -> String {
    let quote = token.chars().next().unwrap_or('\'');
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}

/// Text as a literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as it must be written: plain names only if they are read as they are.
pub fn written(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|char| char.is_ascii_lowercase())
        && chars.all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that are names only between quotes.
pub const RESERVED: [&str; 92] = [
    "add",
    "all",
    "alter",
    "and",
    "any",
    "as",
    "asc",
    "base",
    "between",
    "by",
    "case",
    "cast",
    "close",
    "connect",
    "constraint",
    "context",
    "create",
    "cross",
    "current_date",
    "current_timestamp",
    "database",
    "default",
    "desc",
    "df",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "flatten",
    "folder",
    "from",
    "full",
    "grant",
    "group",
    "hash",
    "having",
    "in",
    "inner",
    "intersect",
    "is",
    "jdbc",
    "join",
    "json",
    "ldap",
    "left",
    "like",
    "limit",
    "merge",
    "minus",
    "my",
    "natural",
    "nested",
    "nos",
    "not",
    "null",
    "obl",
    "off",
    "offset",
    "on",
    "one",
    "opt",
    "or",
    "order",
    "outer",
    "right",
    "row",
    "select",
    "set",
    "substring",
    "swap",
    "table",
    "then",
    "to",
    "trace",
    "trim",
    "true",
    "union",
    "user",
    "using",
    "view",
    "when",
    "where",
    "window",
    "with",
    "wrapper",
    "ws",
    "zero",
];
