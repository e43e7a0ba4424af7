//! Step one of the parameter language: SQL as tokens, so that nobody after this has to know what a literal is.
//!
//! The tokens of a text, put side by side, are that text, byte for byte. String literals, quoted identifiers,
//! comments and dollar quotes are one token each and are never looked into. No grammar of parameters enters here.

use landreeve_core::datasource::SqlDialect;

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

pub fn lex(sql: &str, dialect: SqlDialect) -> Vec<Token<'_>> {
    let mut lexer =
        Lexer { sql, bytes: sql.as_bytes(), dialect, at: 0, after_brace: false, last_close: sql.rfind(']') };
    let mut tokens = Vec::new();
    while lexer.at < lexer.bytes.len() {
        let at = lexer.at;
        let (kind, end) = lexer.next();
        let text = sql.get(at..end).unwrap_or_default();
        if !kind.is_blank() {
            lexer.after_brace = kind == Kind::Punct && text == "{";
        }
        tokens.push(Token { kind, text, at });
        lexer.at = end;
    }
    tokens
}

/// How quotes are written inside a quoted text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Doubled,
    DoubledAndBackslash,
}

struct Lexer<'a> {
    sql: &'a str,
    bytes: &'a [u8],
    dialect: SqlDialect,
    at: usize,
    /// The last token that is not blank was `{`: what follows may be a parameter's bracket.
    after_brace: bool,
    /// The last `]` of the text.
    last_close: Option<usize>,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The first place from `from` on whose byte does not satisfy `keep`.
    fn run(&self, from: usize, keep: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        rest.iter().position(|&byte| !keep(byte)).map_or(self.bytes.len(), |length| from + length)
    }

    const fn is_mysql(&self) -> bool {
        matches!(self.dialect, SqlDialect::MySql)
    }

    const fn is_sqlite(&self) -> bool {
        matches!(self.dialect, SqlDialect::Sqlite)
    }

    /// Redshift keeps the backslash of the PostgreSQL it descends from.
    const fn plain_escapes(&self) -> Escapes {
        match self.dialect {
            SqlDialect::MySql | SqlDialect::Redshift => Escapes::DoubledAndBackslash,
            SqlDialect::Postgres | SqlDialect::Engine | SqlDialect::CrateDb | SqlDialect::Sqlite => {
                Escapes::Doubled
            }
        }
    }

    /// The kind of the token that begins here, and where it ends: always further on, at a character boundary.
    fn next(&self) -> (Kind, usize) {
        let at = self.at;
        let postgres_like = !self.is_mysql() && !self.is_sqlite();
        match self.peek(0) {
            byte if is_space(byte) => (Kind::Space, self.run(at, is_space)),
            b'\'' => (Kind::Text, self.quoted(at, b'\'', self.plain_escapes())),
            b'"' if self.is_mysql() => (Kind::Text, self.quoted(at, b'"', Escapes::DoubledAndBackslash)),
            b'"' => (Kind::QuotedName, self.quoted(at, b'"', Escapes::Doubled)),
            b'`' if self.is_mysql() || self.is_sqlite() => {
                (Kind::QuotedName, self.quoted(at, b'`', Escapes::Doubled))
            }
            b'-' if self.peek(1) == b'-' && self.dashes_comment() => (Kind::LineComment, self.line_end()),
            b'#' if self.is_mysql() => (Kind::LineComment, self.line_end()),
            b'/' if self.peek(1) == b'*' => self.block_comment(),
            b'$' => self.dollar(postgres_like),
            b'[' if self.is_sqlite() => self.sqlite_bracket(),
            byte if byte.is_ascii_digit() => (Kind::Number, self.run(at, is_word)),
            b'e' | b'E' if postgres_like && self.peek(1) == b'\'' => (Kind::Text, self.escape_string(at + 1)),
            byte if is_word_start(byte) => (Kind::Word, self.run(at, is_word)),
            _ => (Kind::Punct, at + 1),
        }
    }

    /// The end of a quoted text whose opening quote is at `at`. An unterminated one reaches to the end.
    fn quoted(&self, at: usize, quote: u8, escapes: Escapes) -> usize {
        let mut at = at + 1;
        while let Some(&byte) = self.bytes.get(at) {
            if byte == b'\\' && escapes == Escapes::DoubledAndBackslash {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if self.bytes.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return at + 1;
            }
        }
        // A backslash may stand before the first byte of a longer character at the end, or before nothing.
        self.bytes.len()
    }

    /// PostgreSQL goes on reading `E'…'` in a quote that follows after a line break, with its backslashes.
    fn escape_string(&self, quote: usize) -> usize {
        let mut end = self.quoted(quote, b'\'', Escapes::DoubledAndBackslash);
        loop {
            let mut next = end;
            let mut line_break = false;
            loop {
                let after = self.run(next, is_space);
                line_break |= self
                    .bytes
                    .get(next..after)
                    .is_some_and(|gap| gap.iter().any(|b| matches!(b, b'\n' | b'\r')));
                next = after;
                if self.sql.get(next..).is_some_and(|rest| rest.starts_with("--")) {
                    next = self.run(next, |byte| !matches!(byte, b'\n' | b'\r'));
                } else {
                    break;
                }
            }
            if !line_break || self.bytes.get(next) != Some(&b'\'') {
                return end;
            }
            end = self.quoted(next, b'\'', Escapes::DoubledAndBackslash);
        }
    }

    /// To MySQL two dashes are a comment only before a blank, a control character or the end.
    fn dashes_comment(&self) -> bool {
        !self.is_mysql() || self.bytes.get(self.at + 2).is_none_or(|&byte| byte <= b' ' || byte == 0x7f)
    }

    fn line_end(&self) -> usize {
        let carriage_return_ends = !self.is_mysql() && !self.is_sqlite();
        self.run(self.at, |byte| byte != b'\n' && !(carriage_return_ends && byte == b'\r'))
    }

    fn block_comment(&self) -> (Kind, usize) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        if self.is_mysql() {
            for opening in ["/*!", "/*M!"] {
                if rest.starts_with(opening) {
                    return (Kind::Punct, self.at + opening.len());
                }
            }
        }
        let nested = !self.is_mysql() && !self.is_sqlite();
        let mut depth = 1_usize;
        let mut at = self.at + 2;
        while let Some(pair) = self.bytes.get(at..at + 2) {
            if pair == b"*/" {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return (Kind::BlockComment, at);
                }
            } else if nested && pair == b"/*" {
                depth += 1;
                at += 2;
            } else {
                at += 1;
            }
        }
        (Kind::BlockComment, self.bytes.len())
    }

    fn dollar(&self, quotes: bool) -> (Kind, usize) {
        let at = self.at;
        if quotes {
            let tag = if is_word_start(self.peek(1)) {
                self.run(at + 1, |byte| is_word(byte) && byte != b'$')
            } else {
                at + 1
            };
            if self.bytes.get(tag) == Some(&b'$') {
                let body = tag + 1;
                let delimiter = self.sql.get(at..body).unwrap_or_default();
                let found = self.sql.get(body..).and_then(|rest| rest.find(delimiter));
                return (
                    Kind::Text,
                    found.map_or(self.bytes.len(), |length| body + length + delimiter.len()),
                );
            }
        }
        if self.peek(1).is_ascii_digit() {
            return (Kind::Placeholder, self.run(at + 1, |byte| byte.is_ascii_digit()));
        }
        if self.is_mysql() { (Kind::Word, self.run(at, is_word)) } else { (Kind::Punct, at + 1) }
    }

    /// SQLite also quotes identifiers in square brackets, and in those a quote means nothing. What looks like a
    /// snippet, and the bracket of a parameter, are left to the parser.
    fn sqlite_bracket(&self) -> (Kind, usize) {
        let open = (Kind::Punct, self.at + 1);
        if self.after_brace {
            return open;
        }
        let name_end = self.run(self.at + 1, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name(self.sql.get(self.at + 1..name_end).unwrap_or_default())
            && matches!(self.bytes.get(name_end), Some(b']' | b'('))
        {
            return open;
        }
        // Looking to the end for each of many brackets that nothing closes would take the square of the text's length.
        if self.last_close.is_none_or(|last| last < self.at) {
            return open;
        }
        let close = self.run(self.at, |byte| byte != b']');
        if close < self.bytes.len() { (Kind::QuotedName, close + 1) } else { open }
    }
}
