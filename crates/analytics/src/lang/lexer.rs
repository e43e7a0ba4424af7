//! Step one of the parameter language: the tokens of core's SQL scanner, seen by a language that gives braces, brackets
//! and colons meanings of its own.
//!
//! The tokens of a text, put side by side, are that text, byte for byte. String literals, quoted identifiers,
//! comments and dollar quotes are one token each and are never looked into. No grammar of parameters enters here.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::sql::{self, Scanner};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Space,
    /// An identifier or a keyword.
    Word,
    Number,
    /// `$1`: the place of an argument in a snippet's text.
    Placeholder,
    /// One character of code, or `/*!`, which opens code that only MySQL reads.
    Punct,
    /// A string literal with its quotes and, where it changes how the text is read, its prefix.
    Text,
    QuotedName,
    LineComment,
    BlockComment,
}

impl Kind {
    /// Whether a database reads over it.
    pub const fn is_blank(self) -> bool {
        matches!(self, Kind::Space | Kind::LineComment | Kind::BlockComment)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Where it begins, in bytes.
    pub at: usize,
}

impl Token<'_> {
    pub fn is(&self, punct: &str) -> bool {
        self.kind == Kind::Punct && self.text == punct
    }
}

/// Whether a text can be a variable, selector, transformation or snippet.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub fn lex(text: &str, dialect: SqlDialect) -> Vec<Token<'_>> {
    let rules = sql::rules(dialect);
    let mut scanner = Scanner::new(text, rules);
    let brackets = Brackets { sql: text, last_close: text.rfind(']') };
    let mut tokens = Vec::new();
    // The last token that is not blank was `{`: what follows may be a parameter's bracket.
    let mut after_brace = false;
    loop {
        let at = scanner.position();
        let (kind, end) = if rules.bracket_names && text.as_bytes().get(at) == Some(&b'[') {
            brackets.read(at, after_brace)
        } else {
            let Some(token) = scanner.next() else { break };
            read(text, token)
        };
        if scanner.position() != end {
            scanner.resume(end);
        }
        let piece = text.get(at..end).unwrap_or_default();
        if !kind.is_blank() {
            after_brace = kind == Kind::Punct && piece == "{";
        }
        tokens.push(Token { kind, text: piece, at });
    }
    tokens
}

/// What a token of the scanner is here, and where it ends: earlier where it is several.
fn read(text: &str, token: sql::Token) -> (Kind, usize) {
    let kind = match token.kind {
        sql::Kind::Space => Kind::Space,
        sql::Kind::LineComment => Kind::LineComment,
        sql::Kind::BlockComment => Kind::BlockComment,
        sql::Kind::QuotedName => Kind::QuotedName,
        sql::Kind::Text => Kind::Text,
        sql::Kind::Number => Kind::Number,
        sql::Kind::CodeComment | sql::Kind::Symbol => Kind::Punct,
        sql::Kind::Word | sql::Kind::Parameter | sql::Kind::Variable => {
            let piece = text.get(token.start..token.end).unwrap_or_default();
            let digits = piece
                .strip_prefix('$')
                .map_or(0, |rest| rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len()));
            return match token.kind {
                // The place of a snippet's argument, whatever a database makes of it.
                _ if digits > 0 => (Kind::Placeholder, token.start + 1 + digits),
                sql::Kind::Word => (Kind::Word, token.end),
                // Braces and what is in them are read sign by sign: `{column:day}` is no parameter `:day`.
                _ => (Kind::Punct, token.start + 1),
            };
        }
    };
    (kind, token.end)
}

/// SQLite also quotes identifiers in square brackets, and in those a quote means nothing. What looks like a snippet, and
/// the bracket of a parameter, are left to the parser.
struct Brackets<'a> {
    sql: &'a str,
    /// The last `]` of the text.
    last_close: Option<usize>,
}

impl Brackets<'_> {
    fn read(&self, at: usize, after_brace: bool) -> (Kind, usize) {
        let open = (Kind::Punct, at + 1);
        let rest = self.sql.get(at + 1..).unwrap_or_default();
        let name = rest.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_'));
        let name = name.unwrap_or(rest.len());
        let is_snippet = is_name(rest.get(..name).unwrap_or_default())
            && matches!(rest.as_bytes().get(name), Some(b']' | b'('));
        // Looking to the end for each of many brackets that nothing closes would take the square of the text's length.
        if after_brace || is_snippet || self.last_close.is_none_or(|last| last < at) {
            return open;
        }
        rest.find(']').map_or(open, |close| (Kind::QuotedName, at + 1 + close + 1))
    }
}
