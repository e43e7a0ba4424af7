//! Small pieces of SQL text: quoting, and what is changed in statements that the server wrote.

use std::ops::Range;

/// An identifier, quoted.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text, quoted for a session in which backslashes escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// What follows the first occurrence of a part.
pub(super) fn behind<'t>(text: &'t [u8], part: &[u8]) -> Option<&'t [u8]> {
    let at = text.windows(part.len()).position(|some| some == part)?;
    text.get(at + part.len()..)
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|some| some == part)
}

/// Where a statement that the server wrote says who defined its object, with the space behind it.
pub(super) fn definer(sql: &[u8]) -> Option<Range<usize>> {
    const WORD: &[u8] = b"DEFINER=";
    /// After one of these comes the name, and then whatever a user wrote.
    const NAMED: [&str; 7] = ["TABLE", "VIEW", "PROCEDURE", "FUNCTION", "PACKAGE", "TRIGGER", "EVENT"];
    let mut lexer = Lexer { text: sql, at: 0 };
    while let Some(token) = lexer.next() {
        match token {
            Token::Word(word) if sql.get(word.start..)?.starts_with(WORD) => {
                let mut end = quoted_end(sql, word.start + WORD.len())?;
                if sql.get(end) == Some(&b'@') {
                    end = quoted_end(sql, end + 1)?;
                }
                end += usize::from(sql.get(end) == Some(&b' '));
                return Some(word.start..end);
            }
            Token::Word(word) if is_one_of(sql, &word, &NAMED) => {
                return None;
            }
            _ => {}
        }
    }
    None
}

/// The same without it.
pub(super) fn without_definer(sql: &[u8]) -> Vec<u8> {
    match definer(sql) {
        Some(Range { start, end }) => [&sql[..start], &sql[end..]].concat(),
        None => sql.to_owned(),
    }
}

/// What a trigger does: its statement behind FOR EACH ROW, and behind the trigger that it follows or precedes.
pub(super) fn trigger_body(sql: &[u8]) -> Option<&[u8]> {
    let mut wanted = ["FOR", "EACH", "ROW"].as_slice();
    let mut lexer = Lexer { text: sql, at: 0 };
    while let [next, rest @ ..] = wanted {
        match lexer.next()? {
            Token::Word(word) if is_one_of(sql, &word, &[next]) => wanted = rest,
            _ => wanted = &["FOR", "EACH", "ROW"],
        }
    }
    let body = lexer.at;
    if let Some(Token::Word(word)) = lexer.next()
        && is_one_of(sql, &word, &["FOLLOWS", "PRECEDES"])
    {
        lexer.next()?;
        return sql.get(lexer.at..);
    }
    sql.get(body..)
}

/// A statement that the server wrote, without the name of its own database in front of sequences and functions: it works in
/// a database of another name. The server itself leaves that name out before tables.
pub(super) fn unqualified(sql: &[u8], database: &str) -> Vec<u8> {
    let own = identifier(database);
    let mut out = Vec::with_capacity(sql.len());
    let mut copied = 0;
    let mut lexer = Lexer { text: sql, at: 0 };
    while let Some(token) = lexer.next() {
        let Token::Quoted(first) = token else { continue };
        if sql.get(first.clone()) != Some(own.as_bytes()) || sql.get(first.end) != Some(&b'.') {
            continue;
        }
        let Some(end) = quoted_end(sql, first.end + 1) else { continue };
        let is_sequence = ["nextval(", "lastval(", "setval("].iter().any(|word| {
            let before = first.start.checked_sub(word.len()).and_then(|start| sql.get(start..first.start));
            before.is_some_and(|before| before.eq_ignore_ascii_case(word.as_bytes()))
        });
        if is_sequence || sql.get(end) == Some(&b'(') {
            out.extend(&sql[copied..first.start]);
            copied = first.end + 1;
        }
        lexer.at = end;
    }
    out.extend(&sql[copied..]);
    out
}

/// The definition of a table without the next value of its AUTO_INCREMENT column, which every row changes.
pub(super) fn without_counter(sql: &[u8]) -> Vec<u8> {
    const WORD: &[u8] = b" AUTO_INCREMENT=";
    // Lines of columns and keys begin with spaces.
    let options = find(sql, b"\n) ").and_then(|start| {
        let at = start + find(sql.get(start..)?, WORD)?;
        let line = find(sql.get(start + 1..)?, b"\n").map_or(sql.len(), |end| start + 1 + end);
        // A comment comes later.
        let comment = find(sql.get(start..line)?, b" COMMENT=").map_or(line, |comment| start + comment);
        (at < comment).then_some(at)
    });
    let Some(at) = options else { return sql.to_owned() };
    let digits = sql[at + WORD.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    [&sql[..at], &sql[at + WORD.len() + digits..]].concat()
}

/// The members of an ENUM or SET, as the server writes its type: `enum('a','b''c')`.
pub(super) fn members(column_type: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut letters = column_type.chars().skip_while(|letter| *letter != '(').skip(1).peekable();
    while letters.next() == Some('\'') {
        let mut member = String::new();
        while let Some(letter) = letters.next() {
            if letter == '\'' && letters.next_if_eq(&'\'').is_none() {
                break;
            }
            member.push(letter);
        }
        found.push(member);
        letters.next_if_eq(&',');
    }
    found
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

fn is_one_of(sql: &[u8], word: &Range<usize>, wanted: &[&str]) -> bool {
    let word = sql.get(word.clone()).unwrap_or_default();
    wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Behind the quoted name that begins here.
fn quoted_end(sql: &[u8], start: usize) -> Option<usize> {
    match (Lexer { text: sql, at: start }).next()? {
        Token::Quoted(range) if range.start == start => Some(range.end),
        _ => None,
    }
}

/// Parts of a statement. Spaces and comments are between them.
enum Token {
    /// Without quotes: up to the next space, quote, comment or bracket.
    Word(Range<usize>),
    /// A name or a text, with its quotes.
    Quoted(Range<usize>),
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = *rest.first()?;
            if rest.starts_with(b"/*") {
                self.at += find(rest, b"*/").map_or(rest.len(), |end| end + 2);
            } else if first == b'#' || rest.starts_with(b"-- ") || rest.starts_with(b"--\n") {
                self.at += find(rest, b"\n").unwrap_or(rest.len());
            } else if first.is_ascii_whitespace() || matches!(first, b'(' | b')' | b',' | b'.' | b';') {
                self.at += 1;
            } else {
                break;
            }
        }
        let start = self.at;
        let quote = *self.text.get(start)?;
        if matches!(quote, b'\'' | b'"' | b'`') {
            self.at = self.behind(quote, start + 1);
            return Some(Token::Quoted(start..self.at));
        }
        while let Some(byte) = self.text.get(self.at)
            && !byte.is_ascii_whitespace()
            && !matches!(byte, b'\'' | b'"' | b'`' | b'(' | b')' | b',' | b'.' | b';')
            && !self.text[self.at..].starts_with(b"/*")
        {
            self.at += 1;
        }
        Some(Token::Word(start..self.at))
    }

    /// Behind the next quote of this kind that is not doubled.
    fn behind(&self, quote: u8, mut at: usize) -> usize {
        while let Some(byte) = self.text.get(at) {
            if *byte == b'\\' && quote != b'`' {
                at += 2;
            } else if *byte != quote {
                at += 1;
            } else if self.text.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return at + 1;
            }
        }
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_definer_is_left_out() {
        for (sql, wanted) in [
            ("CREATE DEFINER=`a``b c`@`%` PROCEDURE `p`()\nselect 1", "CREATE PROCEDURE `p`()\nselect 1"),
            ("CREATE DEFINER=\"a\"@\"%\" PACKAGE \"p\" as end", "CREATE PACKAGE \"p\" as end"),
            ("CREATE DEFINER=`role` FUNCTION `f`() RETURNS int", "CREATE FUNCTION `f`() RETURNS int"),
            (
                "CREATE ALGORITHM=MERGE DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW `v` AS select 1",
                "CREATE ALGORITHM=MERGE SQL SECURITY DEFINER VIEW `v` AS select 1",
            ),
            (
                "CREATE VIEW `v` AS select ' DEFINER=`a`@`b` '",
                "CREATE VIEW `v` AS select ' DEFINER=`a`@`b` '",
            ),
        ] {
            assert_eq!(text(&without_definer(sql.as_bytes())), wanted);
        }
    }

    #[test]
    fn a_trigger_has_a_body() {
        for (sql, wanted) in [
            (
                "CREATE trigger lrx.tr before insert on lrx.t for each row set new.n = 5",
                Some(" set new.n = 5"),
            ),
            (
                "CREATE TRIGGER `for each row` AFTER UPDATE ON t FOR /* each */ EACH\nROW BEGIN END",
                Some(" BEGIN END"),
            ),
            ("CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW follows `x y` set @a = 1", Some(" set @a = 1")),
            ("CREATE TRIGGER a AFTER UPDATE ON t FOR EACH", None),
        ] {
            assert_eq!(trigger_body(sql.as_bytes()).map(text), wanted, "{sql}");
        }
    }

    #[test]
    fn the_own_database_is_left_out() {
        for (sql, wanted) in [
            ("`a` int DEFAULT nextval(`shop`.`s`)", "`a` int DEFAULT nextval(`s`)"),
            ("select `shop`.`f`(`shop`.`id`), `other`.`f`(1)", "select `f`(`shop`.`id`), `other`.`f`(1)"),
            (
                "COMMENT 'nextval(`shop`.`s`) \\' '' `shop`.`f`('",
                "COMMENT 'nextval(`shop`.`s`) \\' '' `shop`.`f`('",
            ),
            ("nextval(`shop`.`s`),`shop`.`f`(nextval(`shop`.`s`))", "nextval(`s`),`f`(nextval(`s`))"),
        ] {
            assert_eq!(text(&unqualified(sql.as_bytes(), "shop")), wanted);
        }
        assert_eq!(text(&unqualified(b"select `o``d`.`f`(1)", "o`d")), "select `f`(1)");
    }

    #[test]
    fn only_the_counter_is_left_out() {
        let table = "CREATE TABLE `t` (\n  `a` int COMMENT ') AUTO_INCREMENT=3'\n) ENGINE=InnoDB";
        let rest = " DEFAULT CHARSET=latin1 COMMENT='x AUTO_INCREMENT=5'";
        let with = format!("{table} AUTO_INCREMENT=77{rest}");
        let without = format!("{table}{rest}");
        assert_eq!(text(&without_counter(with.as_bytes())), without);
        assert_eq!(text(&without_counter(without.as_bytes())), without);
    }

    #[test]
    fn members_are_read() {
        assert_eq!(members("enum('','it''s','a,b')"), ["", "it's", "a,b"]);
        assert_eq!(members("set('x')"), ["x"]);
        assert!(members("int(11)").is_empty());
    }
}
