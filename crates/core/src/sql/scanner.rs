//! The scanner: splits text by the rules into tokens whose spans cover it exactly.

use super::rules::{Dashes, Dollar, EscapeStrings, Numbers, Rules, Variables};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Space,
    LineComment,
    BlockComment,
    /// `/*!` or `/*M!`, which starts code that the database may run. Its `*/` is two symbols.
    CodeComment,
    /// A keyword or a plain name.
    Word,
    QuotedName,
    /// A string with its quotes, and with its prefix if that changes how it is read (`E'…'`).
    Text,
    Number,
    /// A placeholder: `$1`, `?`, `:name`.
    Parameter,
    /// `@name`, `@@setting`.
    Variable,
    /// Any other single character.
    Symbol,
}

impl Kind {
    /// Whether a database ignores it.
    pub const fn is_blank(self) -> bool {
        matches!(self, Kind::Space | Kind::LineComment | Kind::BlockComment)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// In bytes, at character boundaries.
    pub start: usize,
    pub end: usize,
    /// `false` for a string, quoted name or block comment that is still open at the end of the SQL, and for a number
    /// such as `1.e` where names can start with digits: some servers drop it and read the next character by itself, so
    /// that `1.e--` starts no comment.
    pub closed: bool,
    /// A word after a dot: always a name, even if it is a keyword elsewhere.
    pub is_name: bool,
}

/// What comes before the current position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Other,
    /// A plain word or a setting ends here.
    Word,
    /// A dot ends here.
    Point,
    /// A dot, then whitespace.
    PointAndBlank,
}

/// Never fails; takes time proportional to the length of the text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    rules: Rules,
    at: usize,
    before: Before,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn in_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Scanner<'a> {
    pub fn new(sql: &'a str, rules: Rules) -> Scanner<'a> {
        Scanner { bytes: sql.as_bytes(), rules, at: 0, before: Before::Other }
    }

    /// Where the next token starts.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Continues at another position, which must be a character boundary.
    pub fn resume(&mut self, at: usize) {
        self.at = at;
        self.before = Before::Other;
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// The first position at or after `from` whose byte does not satisfy `keep`.
    fn run(&self, from: usize, keep: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        rest.iter().position(|&byte| !keep(byte)).map_or(self.bytes.len(), |length| from + length)
    }

    fn starts_with(&self, at: usize, text: &[u8]) -> bool {
        self.bytes.get(at..).is_some_and(|rest| rest.starts_with(text))
    }

    /// Kind, end, and whether it is closed.
    fn read(&self) -> (Kind, usize, bool) {
        let (at, rules) = (self.at, self.rules);
        let whole = |kind, end| (kind, end, true);
        let quoted = |kind, (end, closed)| (kind, end, closed);
        match self.byte(at) {
            byte if is_space(byte) => whole(Kind::Space, self.run(at, is_space)),
            0xef if rules.mark_is_blank && self.starts_with(at, "\u{feff}".as_bytes()) => {
                whole(Kind::Space, at + 3)
            }
            b'\'' => quoted(Kind::Text, self.quoted(at, rules.backslash)),
            b'"' if rules.double_quoted_texts => quoted(Kind::Text, self.quoted(at, rules.backslash)),
            b'"' => quoted(Kind::QuotedName, self.quoted(at, false)),
            b'`' if rules.backtick_names => quoted(Kind::QuotedName, self.quoted(at, false)),
            b'[' if rules.bracket_names => {
                let end = self.run(at, |byte| byte != b']');
                (Kind::QuotedName, (end + 1).min(self.bytes.len()), end < self.bytes.len())
            }
            b'-' if self.byte(at + 1) == b'-' && self.dashes_comment(at) => {
                whole(Kind::LineComment, self.line_end(at))
            }
            b'#' if rules.hash_comments => whole(Kind::LineComment, self.line_end(at)),
            b'/' if self.byte(at + 1) == b'*' => self.block_comment(at),
            b'$' => self.dollar(at),
            b'@' | b':' | b'?' | b'#' => self.variable(at),
            b'.' if self.byte(at + 1).is_ascii_digit() && !self.point_of_name() => self.number(at),
            byte if byte.is_ascii_digit() => {
                if self.before == Before::Point && rules.names_touch_point {
                    whole(Kind::Word, self.run(at, in_word))
                } else {
                    self.number(at)
                }
            }
            b'e' | b'E' if rules.escape_strings != EscapeStrings::None && self.byte(at + 1) == b'\'' => {
                quoted(Kind::Text, self.escape_string(at + 1))
            }
            b'u' | b'U' if rules.unicode_names && self.starts_with(at + 1, b"&\"") => {
                quoted(Kind::QuotedName, self.quoted(at + 2, false))
            }
            b'\\' if rules.backslash_null && self.byte(at + 1) == b'N' => whole(Kind::Word, at + 2),
            byte if starts_word(byte) => whole(Kind::Word, self.run(at, in_word)),
            _ => whole(Kind::Symbol, at + 1),
        }
    }

    /// `t.5x` is a qualified name where names can start with digits.
    fn point_of_name(&self) -> bool {
        self.rules.names_touch_point && self.before == Before::Word
    }

    /// Where the string that starts at `at` ends.
    fn quoted(&self, at: usize, backslash: bool) -> (usize, bool) {
        let quote = self.byte(at);
        let mut at = at + 1;
        while let Some(&byte) = self.bytes.get(at) {
            if backslash && byte == b'\\' {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if self.byte(at + 1) == quote && at + 1 < self.bytes.len() {
                at += 2;
            } else {
                return (at + 1, true);
            }
        }
        // The last byte may be a backslash.
        (self.bytes.len(), false)
    }

    /// `E'…'` whose quote is at `quote`.
    fn escape_string(&self, quote: usize) -> (usize, bool) {
        let (mut end, mut closed) = self.quoted(quote, true);
        while closed && self.rules.escape_strings == EscapeStrings::Continued {
            let mut next = end;
            let mut line_break = false;
            loop {
                let after = self.run(next, is_space);
                let gap = self.bytes.get(next..after).unwrap_or_default();
                line_break |= gap.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
                next = after;
                if !self.starts_with(next, b"--") {
                    break;
                }
                next = self.line_end(next);
            }
            if !line_break || self.byte(next) != b'\'' {
                break;
            }
            (end, closed) = self.quoted(next, true);
        }
        (end, closed)
    }

    fn dashes_comment(&self, at: usize) -> bool {
        match self.rules.dashes {
            Dashes::Always => true,
            Dashes::BeforeBlank => self.bytes.get(at + 2).is_none_or(|&byte| byte <= b' ' || byte == 0x7f),
        }
    }

    fn line_end(&self, at: usize) -> usize {
        let return_ends = self.rules.return_ends_line;
        self.run(at, |byte| byte != b'\n' && !(return_ends && byte == b'\r'))
    }

    fn block_comment(&self, at: usize) -> (Kind, usize, bool) {
        if self.rules.code_comments {
            for opening in [b"/*!".as_slice(), b"/*M!"] {
                if self.starts_with(at, opening) {
                    return (Kind::CodeComment, at + opening.len(), true);
                }
            }
        }
        let mut depth = 1_usize;
        let mut at = at + 2;
        while let Some(pair) = self.bytes.get(at..at + 2) {
            if pair == b"*/" {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return (Kind::BlockComment, at, true);
                }
            } else if self.rules.nested_comments && pair == b"/*" {
                depth += 1;
                at += 2;
            } else {
                at += 1;
            }
        }
        (Kind::BlockComment, self.bytes.len(), false)
    }

    fn dollar(&self, at: usize) -> (Kind, usize, bool) {
        if self.rules.dollar_quotes
            && let Some(found) = self.dollar_quote(at)
        {
            return found;
        }
        let digits = self.run(at + 1, |byte| byte.is_ascii_digit());
        match self.rules.dollar {
            _ if self.rules.variables == Variables::Bound => self.variable(at),
            Dollar::Word => (Kind::Word, self.run(at, in_word), true),
            Dollar::Number if digits > at + 1 => (Kind::Parameter, digits, true),
            Dollar::NumberOrName if digits > at + 1 || starts_word(self.byte(at + 1)) => {
                (Kind::Parameter, self.run(at + 1, |byte| in_word(byte) && byte != b'$'), true)
            }
            Dollar::Property if self.byte(at + 1) == b'{' => {
                let end = self.run(at + 2, |byte| !matches!(byte, b'{' | b'}'));
                (Kind::Parameter, (end + 1).min(self.bytes.len()), self.byte(end) == b'}')
            }
            Dollar::Number | Dollar::NumberOrName | Dollar::Property => (Kind::Symbol, at + 1, true),
        }
    }

    fn dollar_quote(&self, at: usize) -> Option<(Kind, usize, bool)> {
        let tag = if starts_word(self.byte(at + 1)) {
            self.run(at + 1, |byte| in_word(byte) && byte != b'$')
        } else {
            at + 1
        };
        let delimiter = self.bytes.get(at..=tag).filter(|_| self.byte(tag) == b'$')?;
        let body = tag + 1;
        let rest = self.bytes.get(body..).unwrap_or_default();
        Some(match find(rest, delimiter) {
            Some(length) => (Kind::Text, body + length + delimiter.len(), true),
            None => (Kind::Text, self.bytes.len(), false),
        })
    }

    fn variable(&self, at: usize) -> (Kind, usize, bool) {
        let byte = self.byte(at);
        let symbol = (Kind::Symbol, at + 1, true);
        match (self.rules.variables, byte) {
            (Variables::Session, b'?') => (Kind::Parameter, at + 1, true),
            (Variables::Session, b'@') => self.session_variable(at),
            (Variables::Bound, b'?') => {
                (Kind::Parameter, self.run(at + 1, |byte| byte.is_ascii_digit()), true)
            }
            (Variables::Bound, _) => {
                let end = self.bound_name(at);
                if end > at + 1 { (Kind::Parameter, end, true) } else { symbol }
            }
            _ => symbol,
        }
    }

    /// `@name` with dots in it, `@'…'`, or `@@name`.
    fn session_variable(&self, at: usize) -> (Kind, usize, bool) {
        match self.byte(at + 1) {
            b'@' => (Kind::Variable, self.run(at + 2, in_word), true),
            b'\'' | b'"' => {
                let (end, closed) = self.quoted(at + 1, self.rules.backslash);
                (Kind::Variable, end, closed)
            }
            b'`' => {
                let (end, closed) = self.quoted(at + 1, false);
                (Kind::Variable, end, closed)
            }
            _ => (Kind::Variable, self.run(at + 1, |byte| in_word(byte) || byte == b'.'), true),
        }
    }

    /// The end of a name with its parts (`::b`) and any text in parentheses after it; `at + 1` if there is no name.
    fn bound_name(&self, at: usize) -> usize {
        let mut end = at + 1;
        let mut named = false;
        loop {
            match self.byte(end) {
                byte if in_word(byte) => {
                    named = true;
                    end += 1;
                }
                b'(' if named => {
                    let close = self.run(end, |byte| byte != b')' && byte != 0 && !is_space(byte));
                    return if self.byte(close) == b')' { close + 1 } else { close };
                }
                b':' if self.byte(end + 1) == b':' => end += 2,
                _ => return if named { end } else { at + 1 },
            }
        }
    }

    fn number(&self, at: usize) -> (Kind, usize, bool) {
        let end = match self.rules.numbers {
            Numbers::EndBeforeWord => self.number_end(at),
            Numbers::TakeWord => self.run(self.number_end(at), in_word),
            Numbers::CanBeginNames => return self.number_or_name(at),
        };
        (Kind::Number, end, true)
    }

    /// `0x1f`, `1_000`, `1.5e-3`, `.5`
    fn number_end(&self, at: usize) -> usize {
        if self.byte(at) == b'0' {
            let radix = match self.byte(at + 1) {
                b'x' | b'X' => 16,
                b'o' | b'O' => 8,
                b'b' | b'B' => 2,
                _ => 0,
            };
            let fits = |byte: u8| byte == b'_' || char::from(byte).is_digit(radix);
            if radix > 0 && fits(self.byte(at + 2)) {
                return self.run(at + 2, fits);
            }
        }
        let mut end = self.digits(at);
        // `1..2` is two numbers.
        if self.byte(end) == b'.' && self.byte(end + 1) != b'.' {
            end = self.digits(end + 1);
        }
        self.exponent(end).unwrap_or(end)
    }

    fn digits(&self, at: usize) -> usize {
        let mut end = self.run(at, |byte| byte.is_ascii_digit());
        while end > at && self.byte(end) == b'_' && self.byte(end + 1).is_ascii_digit() {
            end = self.run(end + 1, |byte| byte.is_ascii_digit());
        }
        end
    }

    /// The end of `e5`, `E-5` at this position.
    fn exponent(&self, at: usize) -> Option<usize> {
        if !matches!(self.byte(at), b'e' | b'E') {
            return None;
        }
        let digits = at + 1 + usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
        let end = self.run(digits, |byte| byte.is_ascii_digit());
        (end > digits).then_some(end)
    }

    /// A number or a name, where names can start with digits.
    fn number_or_name(&self, at: usize) -> (Kind, usize, bool) {
        let number = |end| (Kind::Number, end, true);
        let name = || (Kind::Word, self.run(at, in_word), true);
        if self.byte(at) == b'0' && matches!(self.byte(at + 1), b'x' | b'b') {
            let radix = if self.byte(at + 1) == b'x' { 16 } else { 2 };
            let end = self.run(at + 2, |byte| char::from(byte).is_digit(radix));
            return if end > at + 2 && !in_word(self.byte(end)) { number(end) } else { name() };
        }
        let whole = self.run(at, |byte| byte.is_ascii_digit());
        if self.byte(whole) == b'.' {
            let end = self.run(whole + 1, |byte| byte.is_ascii_digit());
            return match self.exponent(end) {
                Some(end) => number(end),
                None => (Kind::Number, end, !matches!(self.byte(end), b'e' | b'E')),
            };
        }
        match self.exponent(whole) {
            Some(end) => number(end),
            None if in_word(self.byte(whole)) => name(),
            None => number(whole),
        }
    }
}

/// The position of a needle in a haystack. A delimiter starts and ends with a character that is not inside it, so this
/// looks at each byte a bounded number of times.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = haystack.get(from..)?.iter().position(|byte| *byte == b'$') {
        let at = from + found;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

impl Iterator for Scanner<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        if start >= self.bytes.len() {
            return None;
        }
        let (kind, end, closed) = self.read();
        let touches = self.rules.names_touch_point;
        let is_name = kind == Kind::Word
            && match self.before {
                Before::Point => true,
                Before::PointAndBlank => !touches,
                Before::Other | Before::Word => false,
            };
        self.before = match (kind, self.before) {
            (Kind::Symbol, _) if self.byte(start) == b'.' => Before::Point,
            (Kind::Word, _) => Before::Word,
            (Kind::Variable, _) if self.byte(start + 1) == b'@' => Before::Word,
            (kind, Before::Point | Before::PointAndBlank) if kind.is_blank() => Before::PointAndBlank,
            _ => Before::Other,
        };
        self.at = end;
        Some(Token { kind, start, end, closed, is_name })
    }
}
