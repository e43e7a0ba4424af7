//! The statement that a scan sends to its source, in the source's dialect.
//!
//! Everything sent is written here, value by value: an identifier or a literal that cannot be written exactly is not sent.

use std::fmt::Write as _;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::decimal;
use landreeve_core::table::{Comparison, Condition, Filter, Test, Value};

use crate::vql::ast::Relation;

/// Maximum number of values in a list.
pub const MAX_VALUES: usize = 1_000;

/// What a scan reads, in the source's names.
pub struct Wanted<'a> {
    pub relation: &'a Relation,
    pub columns: Vec<&'a str>,
    /// Columns and tests; all of them can be written (`condition`).
    pub conditions: Vec<(&'a str, &'a Test)>,
    pub filters: &'a [Filter],
    /// The name of a column in filters.
    pub name: &'a dyn Fn(usize) -> &'a str,
    pub limit: Option<u64>,
}

pub fn select(dialect: SqlDialect, wanted: &Wanted<'_>) -> String {
    let columns: Vec<String> = wanted.columns.iter().map(|column| identifier(dialect, column)).collect();
    // Rows are counted even if no column is needed.
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let mut sql = format!("SELECT {columns} FROM {}", relation(dialect, wanted.relation));
    let single = wanted.conditions.iter();
    let single = single.filter_map(|(column, test)| condition(dialect, &identifier(dialect, column), test));
    let joined = wanted.filters.iter().filter_map(|found| filter(dialect, wanted.name, found));
    let conditions: Vec<String> = single.chain(joined).collect();
    if !conditions.is_empty() {
        let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
    }
    // What is larger is no limit, and no number for every database.
    if let Some(limit) = wanted.limit.filter(|limit| i64::try_from(*limit).is_ok()) {
        let _ = write!(sql, " LIMIT {limit}");
    }
    sql
}

fn relation(dialect: SqlDialect, relation: &Relation) -> String {
    match relation {
        Relation::Table { catalog, schema, name } => {
            let parts: Vec<&str> = match dialect {
                // Its catalogs are its databases, and it has no schemas.
                SqlDialect::MySql => schema.iter().chain(catalog).map(String::as_str).take(1).collect(),
                _ if schema.is_some() => catalog.iter().chain(schema).map(String::as_str).collect(),
                _ => Vec::new(),
            };
            let parts = parts.into_iter().chain([name.as_str()]);
            parts.map(|part| identifier(dialect, part)).collect::<Vec<_>>().join(".")
        }
        // On a line of its own, because it may end with a comment.
        Relation::Sentence(sentence) => {
            format!(
                "({}\n) AS {}",
                sentence.trim().trim_end_matches(';'),
                identifier(dialect, "landreeve_rows")
            )
        }
        Relation::File => String::new(),
    }
}

pub fn identifier(dialect: SqlDialect, name: &str) -> String {
    match dialect {
        // In double quotes SQLite takes the name of a missing column for a text.
        SqlDialect::MySql | SqlDialect::Sqlite => format!("`{}`", name.replace('`', "``")),
        _ => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A test of a column as a condition; `None` if it cannot be written.
pub fn condition(dialect: SqlDialect, column: &str, test: &Test) -> Option<String> {
    Some(match test {
        Test::Compare(comparison, value) => {
            format!("{column} {} {}", operator(*comparison), literal(dialect, value)?)
        }
        Test::OneOf(values) if values.is_empty() => "1 = 0".to_owned(),
        Test::OneOf(values) if values.len() <= MAX_VALUES => {
            let values = values.iter().map(|value| literal(dialect, value)).collect::<Option<Vec<_>>>()?;
            format!("{column} IN ({})", values.join(", "))
        }
        Test::OneOf(_) => return None,
        Test::IsNull => format!("{column} IS NULL"),
        Test::IsNotNull => format!("{column} IS NOT NULL"),
    })
}

/// Joined conditions; `None` if one cannot be written.
fn filter<'a>(dialect: SqlDialect, name: &dyn Fn(usize) -> &'a str, found: &Filter) -> Option<String> {
    let all = |filters: &[Filter], word: &str| {
        let parts: Option<Vec<String>> = filters.iter().map(|part| filter(dialect, name, part)).collect();
        parts.map(|parts| format!("({})", parts.join(word)))
    };
    match found {
        Filter::One(Condition { column, test }) => {
            condition(dialect, &identifier(dialect, name(*column)), test)
        }
        Filter::All(filters) => all(filters, " AND "),
        Filter::Any(filters) => all(filters, " OR "),
        Filter::Not(inner) => Some(format!("NOT ({})", filter(dialect, name, inner)?)),
    }
}

const fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn literal(dialect: SqlDialect, value: &Value) -> Option<String> {
    Some(match value {
        Value::Boolean(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        // The smallest number has no literal of its own everywhere.
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".to_owned(),
        Value::Integer(value) => signed(value.to_string()),
        Value::Decimal { unscaled, scale } => signed(decimal::text(*unscaled, *scale)?),
        Value::Text(text) => text_literal(dialect, text)?,
        Value::Date(days) => format!("DATE '{}'", date(*days)?),
        Value::DateTime(micros) => format!("TIMESTAMP '{}'", time(*micros)?),
        Value::Instant(micros) => format!("TIMESTAMP WITH TIME ZONE '{}+00'", time(*micros)?),
        Value::Float(_) => return None,
    })
}

/// A minus after an operator could begin a comment.
fn signed(number: String) -> String {
    if number.starts_with('-') { format!("({number})") } else { number }
}

/// Years that every source writes and reads alike.
const YEARS: std::ops::RangeInclusive<i16> = 1..=9_999;

fn date(days: i32) -> Option<jiff::civil::Date> {
    let epoch = jiff::civil::date(1970, 1, 1);
    let date = epoch.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    YEARS.contains(&date.year()).then_some(date)
}

fn time(micros: i64) -> Option<String> {
    let time = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(micros).ok()?);
    let fraction = time.subsec_nanosecond() / 1_000;
    YEARS.contains(&time.year()).then(|| {
        let clock = format!("{:02}:{:02}:{:02}.{fraction:06}", time.hour(), time.minute(), time.second());
        format!("{} {clock}", time.date())
    })
}

fn text_literal(dialect: SqlDialect, text: &str) -> Option<String> {
    // Databases end a text there, or refuse it.
    if text.contains('\0') {
        return None;
    }
    let doubled = text.replace('\'', "''");
    Some(match dialect {
        SqlDialect::MySql | SqlDialect::Redshift => format!("'{}'", doubled.replace('\\', "\\\\")),
        _ => format!("'{doubled}'"),
    })
}

#[cfg(test)]
mod tests {
    use landreeve_core::sql::{Kind, Scanner, rules};
    use proptest::prelude::*;

    use super::*;

    const DIALECTS: [SqlDialect; 5] = [
        SqlDialect::Postgres,
        SqlDialect::Redshift,
        SqlDialect::CrateDb,
        SqlDialect::MySql,
        SqlDialect::Sqlite,
    ];

    fn table(schema: Option<&str>, catalog: Option<&str>) -> Relation {
        Relation::Table {
            catalog: catalog.map(str::to_owned),
            schema: schema.map(str::to_owned),
            name: "or\"d`ers".to_owned(),
        }
    }

    #[test]
    fn statements_of_each_dialect() {
        let relation = table(Some("s"), None);
        let tests = [
            ("ID", Test::Compare(Comparison::GreaterOrEqual, Value::Integer(-5))),
            ("a b", Test::OneOf(Vec::new())),
            ("x", Test::IsNull),
        ];
        let wanted = |relation| Wanted {
            relation,
            columns: vec!["ID", "a b"],
            conditions: tests.iter().map(|(column, test)| (*column, test)).collect(),
            filters: &[],
            name: &|_| "",
            limit: Some(7),
        };
        assert_eq!(
            select(SqlDialect::Postgres, &wanted(&relation)),
            "SELECT \"ID\", \"a b\" FROM \"s\".\"or\"\"d`ers\" WHERE \"ID\" >= (-5) AND 1 = 0 AND \"x\" IS NULL LIMIT 7"
        );
        assert_eq!(
            select(SqlDialect::MySql, &wanted(&table(None, Some("c")))),
            "SELECT `ID`, `a b` FROM `c`.`or\"d``ers` WHERE `ID` >= (-5) AND 1 = 0 AND `x` IS NULL LIMIT 7"
        );
        let sentence = Relation::Sentence("select 1 -- one;".to_owned());
        let one = |value| {
            Filter::One(Condition {
                column: 0,
                test: Test::Compare(Comparison::Equal, Value::Integer(value)),
            })
        };
        let joined = [Filter::Any(vec![one(1), Filter::Not(Box::new(Filter::All(vec![one(2), one(3)])))])];
        let none = Wanted {
            relation: &sentence,
            columns: Vec::new(),
            conditions: Vec::new(),
            filters: &joined,
            name: &|_| "a",
            limit: None,
        };
        assert_eq!(
            select(SqlDialect::Sqlite, &none),
            "SELECT 1 FROM (select 1 -- one\n) AS `landreeve_rows` WHERE (`a` = 1 OR NOT ((`a` = 2 AND `a` = 3)))"
        );
    }

    #[test]
    fn values_of_each_type() {
        for (value, expected) in [
            (Value::Integer(i64::MIN), Some("(-9223372036854775807 - 1)")),
            (Value::Decimal { unscaled: -150, scale: 2 }, Some("(-1.50)")),
            (Value::Decimal { unscaled: 7, scale: 3 }, Some("0.007")),
            (Value::Date(0), Some("DATE '1970-01-01'")),
            (Value::Date(-719_162), Some("DATE '0001-01-01'")),
            (Value::Date(-719_163), None),
            (Value::Date(i32::MAX), None),
            (Value::DateTime(1_768_478_400_000_001), Some("TIMESTAMP '2026-01-15 12:00:00.000001'")),
            (Value::DateTime(-1), Some("TIMESTAMP '1969-12-31 23:59:59.999999'")),
            (Value::DateTime(i64::MAX), None),
            (Value::Instant(0), Some("TIMESTAMP WITH TIME ZONE '1970-01-01 00:00:00.000000+00'")),
            (Value::Float(1.5), None),
        ] {
            assert_eq!(literal(SqlDialect::Postgres, &value).as_deref(), expected, "{value:?}");
        }
    }

    proptest! {
        /// A text is one literal for the database, whatever it contains, and a name one name.
        #[test]
        fn values_stay_values(text in "[a'\"`\\\\;/*# -]{0,12}") {
            for dialect in DIALECTS {
                let test = Test::Compare(Comparison::Equal, Value::Text(text.clone()));
                let sql = condition(dialect, &identifier(dialect, &text), &test).unwrap();
                let tokens: Vec<_> =
                    Scanner::new(&sql, rules(dialect)).filter(|token| !token.kind.is_blank()).collect();
                let kinds: Vec<Kind> = tokens.iter().map(|token| token.kind).collect();
                prop_assert_eq!(kinds, vec![Kind::QuotedName, Kind::Symbol, Kind::Text], "{}", sql);
                prop_assert!(tokens.iter().all(|token| token.closed));
            }
        }
    }
}
