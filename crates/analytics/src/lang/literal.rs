//! Values as SQL literals that no value can break out of. Everything a client sends enters a statement through this
//! file.

use jiff::civil;
use landreeve_core::datasource::SqlDialect;

/// A value whose type has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    Text(String),
    /// Plain digits, optionally with a sign and a point; see `plain_number`.
    Number(String),
    Boolean(bool),
    Date(civil::Date),
    /// Local time in the data zone.
    DateTime(civil::DateTime),
    Time(civil::Time),
    Null,
}

impl Literal {
    pub fn sql(&self, dialect: SqlDialect) -> String {
        match self {
            Literal::Text(value) => text(value, dialect),
            Literal::Number(digits) => digits.clone(),
            Literal::Boolean(true) => "TRUE".to_owned(),
            Literal::Boolean(false) => "FALSE".to_owned(),
            Literal::Date(value) => typed("DATE", &value.to_string(), dialect),
            Literal::DateTime(value) if dialect == SqlDialect::Sqlite => {
                format!("'{} {}'", value.date(), value.time())
            }
            Literal::DateTime(value) => typed("TIMESTAMP", &value.to_string(), dialect),
            Literal::Time(value) => typed("TIME", &value.to_string(), dialect),
            Literal::Null => "NULL".to_owned(),
        }
    }
}

/// SQLite has no time types: there times are text, in the format of its own functions.
fn typed(name: &str, value: &str, dialect: SqlDialect) -> String {
    if dialect == SqlDialect::Sqlite { format!("'{value}'") } else { format!("{name} '{value}'") }
}

/// The caller has already rejected U+0000, which no database accepts.
pub fn text(value: &str, dialect: SqlDialect) -> String {
    let doubled = value.replace('\'', "''");
    match dialect {
        SqlDialect::Sqlite | SqlDialect::Engine => format!("'{doubled}'"),
        // Doubled quotes, because `\'` would end the literal under NO_BACKSLASH_ESCAPES.
        SqlDialect::MySql => format!("'{}'", doubled.replace('\\', "\\\\")),
        _ if !value.contains('\\') => format!("'{doubled}'"),
        // Backslashes are always escapes in it, whatever the session or a literal before it says.
        SqlDialect::Postgres | SqlDialect::CrateDb => format!("E'{}'", doubled.replace('\\', "\\\\")),
        // In Redshift a plain literal may or may not treat backslashes as escapes, so it contains none.
        SqlDialect::Redshift => format!("('{}')", doubled.replace('\\', "' || CHR(92) || '")),
    }
}

/// A number as SQL: all its digits, without an exponent. `None` if the text is not a number, or has more than a
/// thousand digits.
pub fn plain_number(text: &str) -> Option<String> {
    const MAX_DIGITS: usize = 1000;
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.len() > MAX_DIGITS {
        return None;
    }
    if mantissa.contains('.') && fraction.is_empty() {
        return None;
    }
    // The position of the point in the digits.
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    if point.unsigned_abs() > MAX_DIGITS as u64 {
        return None;
    }
    let (whole, fraction) = match usize::try_from(point) {
        Ok(point) if point <= digits.len() => {
            let (whole, fraction) = digits.split_at(point);
            (whole.to_owned(), fraction.to_owned())
        }
        Ok(point) => (format!("{digits}{}", "0".repeat(point - digits.len())), String::new()),
        Err(_) => (String::new(), format!("{}{digits}", "0".repeat(usize::try_from(-point).ok()?))),
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = if exponent == 0 { fraction.as_str() } else { fraction.trim_end_matches('0') };
    let zero = digits.bytes().all(|byte| byte == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lexer::{Kind, lex};
    use super::*;

    const DIALECTS: [SqlDialect; 6] = [
        SqlDialect::Postgres,
        SqlDialect::Redshift,
        SqlDialect::CrateDb,
        SqlDialect::MySql,
        SqlDialect::Sqlite,
        SqlDialect::Engine,
    ];

    /// A string literal as the database reads it.
    fn decode(literal: &str, dialect: SqlDialect) -> String {
        let escape = literal.starts_with('E');
        let backslash = escape || matches!(dialect, SqlDialect::MySql | SqlDialect::Redshift);
        let body = literal.strip_prefix('E').unwrap_or(literal);
        let body = body.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
        let mut chars = body.chars();
        let mut value = String::new();
        while let Some(char) = chars.next() {
            value.push(match char {
                '\\' if backslash => chars.next().unwrap(),
                '\'' => {
                    assert_eq!(chars.next(), Some('\''), "an open quote in {literal}");
                    '\''
                }
                other => other,
            });
        }
        value
    }

    fn check_text(value: &str, before: &str) {
        for dialect in DIALECTS {
            let sql = text(value, dialect);
            let statement = format!("{before}{sql}\n, 1");
            let tokens = lex(&statement, dialect);
            let mut texts = String::new();
            for token in tokens.iter().filter(|token| token.at >= before.len()) {
                match token.kind {
                    Kind::Text => texts.push_str(&decode(token.text, dialect)),
                    // `CHR(92)`
                    Kind::Word => {
                        assert_eq!((token.text, dialect), ("CHR", SqlDialect::Redshift));
                        texts.push('\\');
                    }
                    Kind::Number => assert!(matches!(token.text, "92" | "1"), "{sql}"),
                    Kind::Punct => assert!(matches!(token.text, "(" | ")" | "|" | ","), "{sql}"),
                    Kind::Space => {}
                    _ => panic!("{token:?} in {sql}"),
                }
            }
            assert_eq!(texts, value, "{dialect:?} {sql}");
        }
    }

    #[test]
    fn escapes_texts_that_would_break_out() {
        for value in
            ["", "'", "''", "\\", "\\'", "'\\", "' OR 1=1 --", "\\' OR 1=1 #", "a\\\\'b", "$$", "*/", "ü'é"]
        {
            check_text(value, "");
            check_text(value, "SELECT ");
        }
        assert_eq!(text("O'Hara", SqlDialect::Postgres), "'O''Hara'");
        assert_eq!(text("a\\'b", SqlDialect::Postgres), "E'a\\\\''b'");
        assert_eq!(text("a\\'b", SqlDialect::MySql), "'a\\\\''b'");
        assert_eq!(text("a\\'b", SqlDialect::Sqlite), "'a\\''b'");
        assert_eq!(text("a\\'b", SqlDialect::Redshift), "('a' || CHR(92) || '''b')");
    }

    proptest! {
        #[test]
        fn a_text_cannot_break_out(value in "[a'\\\\ \"`$\\-#/*\n;{}\\[\\]é]{0,24}") {
            check_text(&value, "x = ");
        }

        #[test]
        fn numbers_keep_their_value(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            for text in [number.to_string(), format!("{number:e}"), format!("{number:?}")] {
                let plain = plain_number(&text).unwrap();
                prop_assert_eq!(plain.parse::<f64>().unwrap(), number, "{}", plain);
                prop_assert!(plain.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-'));
            }
        }
    }

    #[test]
    fn numbers() {
        for (text, plain) in [
            ("0", "0"),
            ("-0", "0"),
            ("42", "42"),
            ("-1.50", "-1.50"),
            ("1e3", "1000"),
            ("1.25e1", "12.5"),
            ("25e-1", "2.5"),
            ("5E-3", "0.005"),
            ("+7", "7"),
            ("007", "7"),
            ("12e0", "12"),
            ("1.10e1", "11"),
            ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ] {
            assert_eq!(plain_number(text).as_deref(), Some(plain), "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1e",
            "1e5000",
            "0x10",
            "1 ",
            "1;--",
            "NaN",
            "inf",
            "1e99999999999",
            "--1",
            "1.2.3",
        ] {
            assert_eq!(plain_number(text), None, "{text}");
        }
    }
}
