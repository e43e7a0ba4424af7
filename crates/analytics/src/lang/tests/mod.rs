//! Tests the language from the outside: a statement and inputs in, SQL or faults out.

mod conditions;
mod faults;
mod passing;
mod snippets;
mod transformations;

use jiff::Timestamp;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::SessionZone;

use super::*;

pub const PG: SqlDialect = SqlDialect::Postgres;
pub const MY: SqlDialect = SqlDialect::MySql;
pub const LITE: SqlDialect = SqlDialect::Sqlite;
pub const RS: SqlDialect = SqlDialect::Redshift;
pub const CRATE: SqlDialect = SqlDialect::CrateDb;
pub const DIALECTS: [SqlDialect; 5] = [PG, RS, CRATE, MY, LITE];

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// On the day of the documented example.
pub fn env() -> Environment {
    Environment::new(at("2023-03-22T15:30:00Z"))
}

pub fn zone(name: &str) -> Option<Zone> {
    Some(Zone::find(name).unwrap())
}

pub fn zoned(data: &str, dashboard: &str) -> Environment {
    Environment { data_zone: zone(data), dashboard_zone: zone(dashboard), ..env() }
}

pub fn timerange(text: &str) -> Environment {
    with_timerange(env(), text)
}

pub fn with_timerange(mut env: Environment, text: &str) -> Environment {
    env.inputs.timerange = Some(text.to_owned());
    env
}

pub fn without_tables(mut env: Environment) -> Environment {
    env.session_zone = SessionZone::UtcForLackOfZoneTables;
    env
}

pub fn text(values: &[&str]) -> Vec<Scalar> {
    values.iter().map(|value| Scalar::Text((*value).to_owned())).collect()
}

pub fn number(digits: &str) -> Scalar {
    Scalar::Number(digits.to_owned())
}

pub fn input(mut env: Environment, variable: &str, values: Vec<Scalar>) -> Environment {
    env.inputs.filters.push((variable.to_owned(), values));
    env
}

pub fn filter(mut env: Environment, variable: &str, control: Control) -> Environment {
    env.filters.insert(variable.to_owned(), FilterDef { control, default: Vec::new() });
    env
}

/// A filter whose input is a single text.
pub fn ranged(variable: &str, control: Control, range: &str) -> Environment {
    input(filter(env(), variable, control), variable, text(&[range]))
}

#[track_caller]
pub fn check(dialect: SqlDialect, env: &Environment, sql: &str, expected: &str) {
    match expand(sql, dialect, env) {
        Ok(expanded) => assert_eq!(expanded.sql, expected, "{dialect:?}: {sql}"),
        Err(error) => panic!("{dialect:?}: {sql}: {:?}", error.faults),
    }
}

/// The faults, as `field code`.
#[track_caller]
pub fn check_faults(dialect: SqlDialect, env: &Environment, sql: &str, expected: &[&str]) {
    let error = expand(sql, dialect, env).unwrap_err();
    assert_eq!(error.kind, landreeve_core::ErrorKind::Invalid);
    let faults: Vec<String> =
        error.faults.iter().map(|fault| format!("{} {}", fault.field, fault.code)).collect();
    assert_eq!(faults, expected, "{sql}: {:?}", error.faults);
}
