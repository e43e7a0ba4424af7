//! What the columns of a relation are in its source. This decides which conditions mean the same there and here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use jiff::Timestamp;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::DatasourceId;
use landreeve_core::schema::{LogicalType, logical_type, native_type};
use landreeve_core::table::{Applies, Comparison, Test, Value};
use uuid::Uuid;

/// A column of a source, as far as conditions on it are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Integer,
    Decimal,
    Boolean,
    Date,
    DateTime,
    Instant,
    Uuid,
    Text,
    /// Its conditions are not sent, except whether it is NULL.
    Other,
}

/// The kinds of a relation's columns.
pub fn of(dialect: SqlDialect, schema: &Schema) -> Vec<ColumnKind> {
    schema.fields().iter().map(|field| kind(dialect, field)).collect()
}

fn kind(dialect: SqlDialect, field: &Field) -> ColumnKind {
    let native = native_type(field);
    // SQLite stores dates, times, booleans and decimals in any form.
    let dynamic = dialect == SqlDialect::Sqlite;
    match logical_type(field) {
        // MySQL takes 99 for the year 1999.
        LogicalType::Integer | LogicalType::UnsignedBig if native != "year" => ColumnKind::Integer,
        LogicalType::Text if is_text(dialect, native) => ColumnKind::Text,
        LogicalType::Decimal if !dynamic => ColumnKind::Decimal,
        LogicalType::Boolean if !dynamic => ColumnKind::Boolean,
        LogicalType::Date if !dynamic => ColumnKind::Date,
        LogicalType::DateTime if !dynamic => ColumnKind::DateTime,
        // MySQL's depends on the time zone of its session.
        LogicalType::Instant if !dynamic && dialect != SqlDialect::MySql => ColumnKind::Instant,
        LogicalType::Uuid if !dynamic => ColumnKind::Uuid,
        _ => ColumnKind::Other,
    }
}

/// Whether a text equals the column's value if, and perhaps also if not, it does here. PostgreSQL refuses texts that an
/// enumeration does not have, and a SQLite column without such a type may hold numbers.
fn is_text(dialect: SqlDialect, native: &str) -> bool {
    match dialect {
        SqlDialect::Sqlite => ["char", "clob", "text"].iter().any(|word| native.contains(word)),
        SqlDialect::MySql => matches!(native, "char" | "varchar" | "text"),
        _ => matches!(native, "text" | "name") || native.starts_with("character"),
    }
}

/// How a source applies a test of a column of this kind, which has this type in the view.
pub fn applies(dialect: SqlDialect, kind: ColumnKind, data_type: &DataType, test: &Test) -> Applies {
    let values: &[Value] = match test {
        // For MySQL a zero date is NULL if its column cannot be.
        Test::IsNull | Test::IsNotNull => {
            let dated = matches!(kind, ColumnKind::Date | ColumnKind::DateTime | ColumnKind::Other);
            let told = dialect != SqlDialect::MySql || !dated;
            return if told { Applies::Exact } else { Applies::No };
        }
        Test::Compare(_, value) => std::slice::from_ref(value),
        Test::OneOf(values) => values,
    };
    let equality = !matches!(
        test,
        Test::Compare(
            Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual,
            _
        )
    );
    let all = |fits: fn(&Value) -> bool| {
        if values.iter().all(fits) { Applies::Exact } else { Applies::No }
    };
    match (kind, data_type) {
        (
            ColumnKind::Integer | ColumnKind::Decimal,
            DataType::Int32 | DataType::Int64 | DataType::Decimal128(..),
        ) => {
            let fits: fn(&Value) -> bool = match dialect {
                SqlDialect::Sqlite => |value| matches!(value, Value::Integer(_)),
                _ => |value| matches!(value, Value::Integer(_) | Value::Decimal { .. }),
            };
            match (all(fits), dialect, kind) {
                // A text or a blob in the column is greater than any number, and so is NaN; here they are no numbers.
                (Applies::Exact, SqlDialect::Sqlite, _)
                | (Applies::Exact, SqlDialect::Postgres | SqlDialect::Redshift, ColumnKind::Decimal) => {
                    Applies::Superset
                }
                (applies, ..) => applies,
            }
        }
        (ColumnKind::Boolean, DataType::Boolean) if equality => {
            all(|value| matches!(value, Value::Boolean(_)))
        }
        (ColumnKind::Date, DataType::Date32) => all(|value| matches!(value, Value::Date(_))),
        (ColumnKind::DateTime, DataType::Timestamp(TimeUnit::Microsecond, None)) => {
            all(|value| matches!(value, Value::DateTime(_)))
        }
        (ColumnKind::Instant, DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
            all(|value| matches!(value, Value::Instant(_)))
        }
        (ColumnKind::Uuid, DataType::Utf8) => all(is_uuid),
        (ColumnKind::Text, DataType::Utf8) if equality && !is_negative(test) => {
            // PostgreSQL's char(n) ignores blanks at the end of the column only, databases end a text at a NUL, and refuse
            // characters that the column or the database cannot have.
            let plain = |value: &Value| matches!(value, Value::Text(text) if text.is_ascii() && !text.contains('\0') && !text.ends_with(' '));
            // A collation may find more than what is equal here, and never less.
            if values.iter().all(plain) { Applies::Superset } else { Applies::No }
        }
        _ => Applies::No,
    }
}

const fn is_negative(test: &Test) -> bool {
    matches!(test, Test::Compare(Comparison::NotEqual, _))
}

/// Whether a text is a UUID as sources return it, so that its order is that of the bytes.
fn is_uuid(value: &Value) -> bool {
    matches!(value, Value::Text(text) if Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == *text))
}

/// The kinds that were found out last, by the statement that describes a relation.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<Relation, Answer>>);

/// A relation of a version of a datasource.
type Relation = (DatasourceId, i64, String);

/// When the source was asked, and what it said.
type Answer = (Timestamp, Arc<[ColumnKind]>);

/// How many are known at a time.
const KNOWN: usize = 4_096;
/// For how long: a column's type may be changed in the source.
const FRESH: Duration = Duration::from_secs(300);

impl Known {
    pub fn get(&self, relation: &Relation, now: Timestamp) -> Option<Arc<[ColumnKind]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, kinds) = known.get(relation)?;
        let age = Duration::try_from(now.duration_since(*since)).ok()?;
        (age < FRESH).then(|| Arc::clone(kinds))
    }

    pub fn put(&self, relation: Relation, now: Timestamp, kinds: Arc<[ColumnKind]>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(relation, (now, kinds));
    }
}

#[cfg(test)]
mod tests {
    use landreeve_core::schema::describe;

    use super::*;

    fn column(dialect: SqlDialect, logical: LogicalType, native: &str) -> ColumnKind {
        kind(dialect, &describe(Field::new("c", DataType::Utf8, true), logical, native))
    }

    #[test]
    fn kinds_of_columns() {
        use LogicalType as L;
        use SqlDialect::{MySql, Postgres, Sqlite};
        for (dialect, logical, native, expected) in [
            (Postgres, L::Integer, "bigint", ColumnKind::Integer),
            (MySql, L::UnsignedBig, "bigint unsigned", ColumnKind::Integer),
            (MySql, L::Integer, "year", ColumnKind::Other),
            (Sqlite, L::Integer, "integer", ColumnKind::Integer),
            (Postgres, L::Decimal, "numeric", ColumnKind::Decimal),
            (Sqlite, L::Decimal, "numeric", ColumnKind::Other),
            (Postgres, L::Number, "double precision", ColumnKind::Other),
            (Postgres, L::Text, "text", ColumnKind::Text),
            (Postgres, L::Text, "character(3)", ColumnKind::Text),
            (Postgres, L::Text, "mood", ColumnKind::Other),
            (Postgres, L::Text, "citext", ColumnKind::Other),
            (Postgres, L::Uuid, "uuid", ColumnKind::Uuid),
            (Postgres, L::Instant, "timestamp with time zone", ColumnKind::Instant),
            (MySql, L::Instant, "timestamp", ColumnKind::Other),
            (MySql, L::DateTime, "datetime(6)", ColumnKind::DateTime),
            (MySql, L::Text, "enum", ColumnKind::Other),
            (MySql, L::Text, "varchar", ColumnKind::Text),
            (Sqlite, L::Text, "varchar(20)", ColumnKind::Text),
            (Sqlite, L::Text, "any", ColumnKind::Other),
            (Sqlite, L::Date, "date", ColumnKind::Other),
            (Sqlite, L::Boolean, "boolean", ColumnKind::Other),
            (Postgres, L::Json, "jsonb", ColumnKind::Other),
        ] {
            assert_eq!(column(dialect, logical, native), expected, "{dialect:?} {native}");
        }
    }

    #[test]
    fn what_a_source_applies() {
        use Applies::{Exact, No, Superset};
        let is = |value: Value| Test::Compare(Comparison::Equal, value);
        let less = |value: Value| Test::Compare(Comparison::Less, value);
        let not = |value: Value| Test::Compare(Comparison::NotEqual, value);
        let text = |text: &str| Value::Text(text.to_owned());
        let decimal = || Value::Decimal { unscaled: 150, scale: 2 };
        let money = || DataType::Decimal128(8, 2);
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for (dialect, kind, data_type, test, expected) in [
            (SqlDialect::Postgres, ColumnKind::Integer, DataType::Int64, less(Value::Integer(1)), Exact),
            (SqlDialect::Postgres, ColumnKind::Integer, DataType::Utf8, is(text("1")), No),
            (SqlDialect::Postgres, ColumnKind::Text, DataType::Int64, is(Value::Integer(1)), No),
            (SqlDialect::Postgres, ColumnKind::Decimal, money(), less(decimal()), Superset),
            (SqlDialect::Postgres, ColumnKind::Decimal, DataType::Int64, is(Value::Integer(1)), Superset),
            (SqlDialect::MySql, ColumnKind::Decimal, money(), less(decimal()), Exact),
            (SqlDialect::Sqlite, ColumnKind::Integer, money(), less(decimal()), No),
            (SqlDialect::Sqlite, ColumnKind::Integer, DataType::Int64, less(Value::Integer(1)), Superset),
            (SqlDialect::MySql, ColumnKind::Date, DataType::Date32, Test::IsNull, No),
            (SqlDialect::MySql, ColumnKind::Integer, DataType::Int64, Test::IsNull, Exact),
            (SqlDialect::Postgres, ColumnKind::Other, DataType::Float64, is(Value::Float(0.0)), No),
            (SqlDialect::Postgres, ColumnKind::Other, DataType::Float64, Test::IsNull, Exact),
            (SqlDialect::Postgres, ColumnKind::Boolean, DataType::Boolean, is(Value::Boolean(true)), Exact),
            (SqlDialect::MySql, ColumnKind::Integer, DataType::Boolean, is(Value::Boolean(true)), No),
            (SqlDialect::MySql, ColumnKind::Date, DataType::Date32, less(Value::Date(1)), Exact),
            (SqlDialect::MySql, ColumnKind::DateTime, micros(None), less(Value::DateTime(1)), Exact),
            (SqlDialect::MySql, ColumnKind::DateTime, micros(Some("UTC")), less(Value::Instant(1)), No),
            (SqlDialect::Postgres, ColumnKind::Instant, micros(Some("UTC")), less(Value::Instant(1)), Exact),
            (SqlDialect::Postgres, ColumnKind::Uuid, DataType::Utf8, less(text(id)), Exact),
            (SqlDialect::Postgres, ColumnKind::Uuid, DataType::Utf8, is(text("x")), No),
            (SqlDialect::Postgres, ColumnKind::Uuid, DataType::Utf8, is(text(&id.to_uppercase())), No),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, is(text("ab")), Superset),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, not(text("ab")), No),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, less(text("ab")), No),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, is(text("ab ")), No),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, is(text("\u{e4}b")), No),
            (SqlDialect::MySql, ColumnKind::Text, DataType::Utf8, is(text("a\0")), No),
        ] {
            assert_eq!(applies(dialect, kind, &data_type, &test), expected, "{dialect:?} {kind:?} {test:?}");
        }
    }
}
