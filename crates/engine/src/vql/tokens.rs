//! VQL as tokens for the parser, each with its position in the author's text. What VQL writes for its own optimizer
//! (join hints, `CONTEXT (…)`, `TRACE`) is dropped here.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use landreeve_core::source::SourceError;
use landreeve_core::sql::{Dashes, Dollar, EscapeStrings, Kind, Numbers, Rules, Scanner, Variables};

use crate::error::{not_read_only, query};

/// Maximum size of a text, in bytes.
const MAX_BYTES: usize = 1_024 * 1_024;
/// Maximum number of operators in a text: the syntax tree can be as deep as that.
const MAX_OPERATORS: usize = 30_000;

const RULES: Rules = Rules {
    backslash: false,
    escape_strings: EscapeStrings::None,
    backslash_null: false,
    double_quoted_texts: false,
    backtick_names: true,
    bracket_names: false,
    unicode_names: false,
    dollar_quotes: false,
    dashes: Dashes::Always,
    hash_comments: true,
    nested_comments: false,
    code_comments: false,
    return_ends_line: true,
    numbers: Numbers::EndBeforeWord,
    dollar: Dollar::NumberOrName,
    variables: Variables::None,
    names_touch_point: false,
    mark_is_blank: true,
};

/// The span of a part of the text. Everything is on line 1, and a column is a byte offset plus one.
fn span(start: usize, end: usize) -> Span {
    Span::new(Location::new(1, start as u64 + 1), Location::new(1, end as u64 + 1))
}

/// The byte offset at which a span starts; `None` if the span is empty.
pub fn start_of(span: Span) -> Option<usize> {
    offset(span.start)
}

pub fn end_of(span: Span) -> Option<usize> {
    offset(span.end)
}

fn offset(location: Location) -> Option<usize> {
    let column = usize::try_from(location.column).ok()?;
    if location.line == 0 { None } else { column.checked_sub(1) }
}

/// The position of a byte offset in characters, starting at 1.
pub fn position(sql: &str, offset: usize) -> u32 {
    let before = sql.char_indices().take_while(|(at, _)| *at < offset).count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

/// The error at a byte offset.
pub fn at(sql: &str, offset: Option<usize>, error: SourceError) -> SourceError {
    SourceError { position: offset.map(|offset| position(sql, offset)), ..error }
}

/// The error of a text that is not VQL; it names the token at the offset.
pub fn syntax_error(sql: &str, offset: usize, message: &str) -> SourceError {
    let mut tokens = Scanner::new(sql, RULES).filter(|token| !token.kind.is_blank() || !token.closed);
    let token = tokens.find(|token| token.end > offset);
    let near = token.and_then(|token| sql.get(token.start..token.end)).unwrap_or("end of text");
    let near: String = near.chars().take(60).collect();
    let message = format!("Exception parsing query near '{near}': {message}");
    at(sql, Some(offset.min(sql.len())), query("syntax_error", message))
}

/// The tokens of one statement, without comments and hints.
pub fn read(sql: &str) -> Result<Vec<TokenWithSpan>, SourceError> {
    if sql.len() > MAX_BYTES {
        return Err(query("too_long", "the statement is longer than 1 MiB"));
    }
    let mut tokens = scan(sql)?;
    while matches!(tokens.last(), Some(last) if last.token == Token::SemiColon) {
        tokens.pop();
    }
    if let Some(inner) = tokens.iter().find(|token| token.token == Token::SemiColon) {
        let error = not_read_only("write exactly one SELECT statement");
        return Err(at(sql, start_of(inner.span), error));
    }
    let mut operators = tokens.iter().filter(|token| is_operator(&token.token));
    if let Some(one) = operators.nth(MAX_OPERATORS) {
        let message = format!("the statement has more than {MAX_OPERATORS} operators; split it into views");
        return Err(at(sql, start_of(one.span), query("too_deep", message)));
    }
    check_groups(sql, &tokens)?;
    drop_tails(&mut tokens);
    Ok(without_hints(tokens))
}

/// The parser tries `((SELECT …` in several ways, each time from the beginning, and does so again for every query within.
fn check_groups(sql: &str, tokens: &[TokenWithSpan]) -> Result<(), SourceError> {
    const MAX_ATTEMPTS: usize = 256;
    // The number of attempts within each open parenthesis.
    let mut attempts = vec![1_usize];
    let mut inside_run = false;
    for (index, token) in tokens.iter().enumerate() {
        let around = attempts.last().copied().unwrap_or(1);
        match token.token {
            Token::LParen if inside_run => attempts.push(around),
            Token::LParen => {
                let rest = tokens.get(index..).unwrap_or_default();
                let run = rest.iter().take_while(|token| token.token == Token::LParen).count();
                let is_query = matches!(word(rest.get(run)), Some("select" | "with"));
                let within = around.saturating_mul(if is_query { run } else { 1 });
                if within > MAX_ATTEMPTS {
                    let error = query("too_deep", "queries in double parentheses are nested too deeply");
                    return Err(at(sql, start_of(token.span), error));
                }
                attempts.push(within);
            }
            Token::RParen => drop(attempts.pop()),
            _ => {}
        }
        inside_run = token.token == Token::LParen;
    }
    Ok(())
}

/// How many tokens of the kinds that make a plan larger.
pub fn weight(tokens: &[TokenWithSpan]) -> usize {
    let counts = |token: &&TokenWithSpan| {
        !matches!(
            token.token,
            Token::Comma
                | Token::Period
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::LParen
                | Token::RParen
        )
    };
    tokens.iter().filter(counts).count()
}

/// The number of words that put two queries together.
pub fn set_operations(tokens: &[TokenWithSpan]) -> usize {
    let is_one = |token: &&TokenWithSpan| {
        matches!(word(Some(token)), Some("union" | "intersect" | "minus" | "except"))
    };
    tokens.iter().filter(is_one).count()
}

fn scan(sql: &str) -> Result<Vec<TokenWithSpan>, SourceError> {
    let mut tokens: Vec<TokenWithSpan> = Vec::new();
    for token in Scanner::new(sql, RULES) {
        let text = sql.get(token.start..token.end).unwrap_or_default();
        let (start, end) = (token.start, token.end);
        if !token.closed {
            return Err(syntax_error(sql, start, "it is not closed"));
        }
        let made = match token.kind {
            kind if kind.is_blank() => continue,
            // A word after a dot is a name.
            Kind::Word if token.is_name => Token::make_word(&text.to_lowercase(), Some('"')),
            Kind::Word => Token::make_word(&text.to_lowercase(), None),
            Kind::QuotedName => {
                let name = unquoted(text);
                if name.is_empty() {
                    return Err(syntax_error(sql, start, "a name cannot be empty"));
                }
                Token::make_word(&name, Some('"'))
            }
            Kind::Text => Token::SingleQuotedString(unquoted(text)),
            Kind::Number if is_number(text) => Token::Number(text.to_owned(), false),
            Kind::Parameter => Token::Placeholder(text.to_owned()),
            Kind::Symbol => {
                if let Some(last) = tokens.last_mut()
                    && end_of(last.span) == Some(start)
                    && let Some(joined) = joined(&last.token, text)
                {
                    let first = start_of(last.span).unwrap_or(start);
                    *last = TokenWithSpan::new(joined, span(first, end));
                    continue;
                }
                symbol(text).ok_or_else(|| syntax_error(sql, start, "unexpected character"))?
            }
            _ => return Err(syntax_error(sql, start, "it is not part of VQL")),
        };
        tokens.push(TokenWithSpan::new(made, span(start, end)));
    }
    let lone =
        |token: &&TokenWithSpan| matches!(token.token, Token::Pipe | Token::Colon | Token::ExclamationMark);
    if let Some(lone) = tokens.iter().find(lone) {
        return Err(syntax_error(sql, start_of(lone.span).unwrap_or(0), "unexpected character"));
    }
    Ok(tokens)
}

/// The contents of a quoted name or text; a doubled quote is one.
fn unquoted(text: &str) -> String {
    let quote = text.get(..1).unwrap_or_default();
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    inner.replace(&quote.repeat(2), quote)
}

/// `1`, `1.5`, `.5`, `1e-3`; no other radix and no separators.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        "," => Token::Comma,
        "(" => Token::LParen,
        ")" => Token::RParen,
        "." => Token::Period,
        ";" => Token::SemiColon,
        "+" => Token::Plus,
        "-" => Token::Minus,
        "*" => Token::Mul,
        "/" => Token::Div,
        "=" => Token::Eq,
        "<" => Token::Lt,
        ">" => Token::Gt,
        // Only as the first half of an operator.
        "!" => Token::ExclamationMark,
        "|" => Token::Pipe,
        ":" => Token::Colon,
        _ => return None,
    })
}

/// An operator of two characters.
fn joined(first: &Token, second: &str) -> Option<Token> {
    Some(match (first, second) {
        (Token::Lt, "=") => Token::LtEq,
        (Token::Gt, "=") => Token::GtEq,
        (Token::Lt, ">") | (Token::ExclamationMark, "=") => Token::Neq,
        (Token::Pipe, "|") => Token::StringConcat,
        (Token::Colon, ":") => Token::DoubleColon,
        _ => return None,
    })
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::LtEq
        | Token::Gt
        | Token::GtEq
        | Token::StringConcat
        | Token::DoubleColon => true,
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::AT
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::MINUS
                | Keyword::EXCEPT
        ),
        _ => false,
    }
}

/// An unquoted word, in lower case.
fn word(token: Option<&TokenWithSpan>) -> Option<&str> {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.as_str()),
        _ => None,
    }
}

/// Whether the word at this index can be a name there.
fn is_named(tokens: &[TokenWithSpan], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| tokens.get(before));
    before.is_none_or(|before| before.token == Token::Period) || word(before) == Some("as")
}

/// Drops `CONTEXT (…)` and `TRACE` at the end.
fn drop_tails(tokens: &mut Vec<TokenWithSpan>) {
    loop {
        let Some(last) = tokens.len().checked_sub(1) else { return };
        if word(tokens.get(last)) == Some("trace") && !is_named(tokens, last) {
            tokens.truncate(last);
            continue;
        }
        let Some(open) = opening(tokens) else { return };
        match open.checked_sub(1) {
            Some(context) if word(tokens.get(context)) == Some("context") && !is_named(tokens, context) => {
                tokens.truncate(context);
            }
            _ => return,
        }
    }
}

/// The parenthesis that opens what the last token closes.
fn opening(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().rev() {
        match token.token {
            Token::RParen => depth += 1,
            Token::LParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Drops the hints before JOIN: `a INNER NESTED PARALLEL 4 ORDERED JOIN b`.
fn without_hints(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut dropped = vec![false; tokens.len()];
    let mut index = 0;
    while index < tokens.len() {
        let end = hints_end(&tokens, index);
        if end > index && is_join(&tokens, end) && !is_named(&tokens, index) {
            dropped.iter_mut().take(end).skip(index).for_each(|dropped| *dropped = true);
        }
        index = end.max(index + 1);
    }
    tokens.into_iter().zip(dropped).filter(|(_, dropped)| !dropped).map(|(token, _)| token).collect()
}

/// Whether `JOIN`, or the words that say which join it is, are at `index`.
fn is_join(tokens: &[TokenWithSpan], index: usize) -> bool {
    let at = |index: usize| word(tokens.get(index));
    match at(index) {
        Some("join") => true,
        Some("left" | "right" | "full") if at(index + 1) == Some("outer") => at(index + 2) == Some("join"),
        Some("inner" | "cross" | "left" | "right" | "full") => at(index + 1) == Some("join"),
        _ => false,
    }
}

/// The index after the hints that start at `index`.
fn hints_end(tokens: &[TokenWithSpan], mut index: usize) -> usize {
    loop {
        match word(tokens.get(index)) {
            Some("hash" | "merge" | "ordered" | "reverseorder") => index += 1,
            Some("nested") => {
                index += 1;
                if word(tokens.get(index)) == Some("parallel") {
                    index += 1;
                    let number =
                        tokens.get(index).is_some_and(|token| matches!(token.token, Token::Number(..)));
                    index += usize::from(number);
                }
            }
            _ => return index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        let tokens = read(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        tokens.iter().map(|token| token.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn hints_and_tails_are_dropped() {
        for (sql, expected) in [
            ("A inner nested ordered join b", "a inner join b"),
            ("a NESTED PARALLEL 4 REVERSEORDER JOIN b", "a join b"),
            ("a left outer hash join b merge join c", "a left outer join b join c"),
            ("a HASH REVERSEORDER LEFT OUTER JOIN b", "a left outer join b"),
            ("a nested inner join b merge full join c", "a inner join b full join c"),
            ("x.hash join b", "x . \"hash\" join b"),
            ("select hash from t", "select hash from t"),
            ("select 1 context ('a' = 'b', 'c' = '(')", "select 1"),
            ("select 1 TRACE CONTEXT(x) TRACE;", "select 1"),
            ("select a.trace", "select a . \"trace\""),
            ("select 1 as trace", "select 1 as trace"),
            ("select context(1)", "select"),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn tokens_are_read_as_vql() {
        for (sql, expected) in [
            ("a # comment 'x\n + -- y\n b /* ' */", "a + b"),
            ("\"A \"\"b\" `C``d` Ef", "\"A \"b\" \"C`d\" ef"),
            ("'it''s' 'a\\' 'b'", "'it's' 'a\\' 'b'"),
            ("a<=b>=c<>d!=e||f::g", "a <= b >= c <> d <> e || f :: g"),
            ("\u{feff}select 1.5 .5 1e3", "select 1.5 .5 1e3"),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn faults_have_positions() {
        for (sql, near, position) in [
            ("select 'ä", "'ä", 8),
            ("select é ~ 1", "~", 10),
            ("select \"a", "\"a", 8),
            ("select /* x", "/* x", 8),
            ("select 0x1f", "0x1f", 8),
            ("select a | b", "|", 10),
            ("select @a", "@", 8),
            ("select \"\"", "\"\"", 8),
        ] {
            let error = read(sql).unwrap_err();
            assert!(error.message.contains(&format!("near '{near}'")), "{sql}: {error:?}");
            assert_eq!(error.position, Some(position), "{sql}");
        }
        assert_eq!(read("select 1; select 2").unwrap_err().position, Some(9));
        assert!(read(&"+".repeat(MAX_OPERATORS + 1)).is_err());
        assert!(read(&" ".repeat(MAX_BYTES + 1)).is_err());
    }
}
