//! Step one of the parameter language: adapts the tokens of core's SQL scanner to a language in which braces, brackets
//! and colons have additional meanings.
//!
//! The concatenated tokens are the text, byte for byte. A string literal, quoted identifier, comment or dollar quote is
//! a single token whose content is never inspected. The grammar of parameters does not belong here.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::sql::{self, Scanner};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Space,
    /// An identifier or a keyword.
    Word,
    Number,
    /// `$1`: a placeholder for an argument in a snippet's text.
    Placeholder,
    /// One character of code, or `/*!`, which starts code that only MySQL reads.
    Punct,
    /// A string literal with its quotes, and with its prefix if that changes how it is read.
    Text,
    QuotedName,
    LineComment,
    BlockComment,
}

impl Kind {
    /// Whether a database ignores it.
    pub const fn is_blank(self) -> bool {
        matches!(self, Kind::Space | Kind::LineComment | Kind::BlockComment)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub at: usize,
}

impl Token<'_> {
    pub fn is(&self, punct: &str) -> bool {
        self.kind == Kind::Punct && self.text == punct
    }
}

/// Whether the text can be the name of a variable, selector, transformation or snippet.
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
    // The last token that is not whitespace was `{`: a parameter's bracket may follow.
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

/// The kind of a scanner token here, and where it ends: earlier if it becomes several tokens.
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
                // A placeholder for a snippet's argument, whatever it means to a database.
                _ if digits > 0 => (Kind::Placeholder, token.start + 1 + digits),
                sql::Kind::Word => (Kind::Word, token.end),
                // Braces and their content are read character by character: `{column:day}` has no parameter `:day`.
                _ => (Kind::Punct, token.start + 1),
            };
        }
    };
    (kind, token.end)
}

/// SQLite also quotes identifiers in square brackets, inside which quotes have no meaning. Anything that looks like a
/// snippet, and the bracket of a parameter, is left to the parser.
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
        // Searching to the end for each of many unclosed brackets would take quadratic time.
        if after_brace || is_snippet || self.last_close.is_none_or(|last| last < at) {
            return open;
        }
        rest.find(']').map_or(open, |close| (Kind::QuotedName, at + 1 + close + 1))
    }
}
