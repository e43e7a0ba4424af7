//! The SQL parameter language: statements with parameters for what a viewer selects, compiled to SQL for one database.
//!
//! It is a compiler in three steps with typed values between them: `lexer` separates code from literals, `parse` finds
//! parameters and snippets in the code, `expand` (with `bucket` for transformations and `literal` for values) writes
//! SQL. `snippets` runs before the last two, because snippets can contain parameters. `range` and `span` interpret time
//! ranges, `values` checks what a filter allows, `zone` handles time zones. Does not belong here: I/O, the current time
//! (it is an argument), HTTP, the JSON wire format, a vendor's name, or any way for a client's value to become code.
//!
//! # Grammar
//! ```text
//! {[expr]=variable}  {column=variable}  {[expr]=variable.next}  {[expr]=variable.previous}     condition
//! {[expr]:transform} {column:transform}                                                      transformation
//! {variable.start}   {variable.end}                                                          value of a range
//! {variable}                                                                                 plain values (older form)
//! [name]  [name(a, b)]                                                                       snippet
//! ```
//! Inside the braces, whitespace is allowed around each part, but not around a dot. `expr` is any SQL with balanced
//! brackets, and can contain parameters and snippets; a column can be qualified and quoted. Names are ASCII letters,
//! digits and `_`. Everything else passes through byte for byte: string literals, quoted identifiers, comments and
//! dollar quotes always, and braces and brackets that do not match: `'{1,2}'`, `arr[1]`, `{fn NOW()}`, and `[name]` if
//! no snippet has that name. An expansion is separated by a space from text that it would otherwise merge with (`E{v}`,
//! `1-{n}`).
//!
//! # Snippets
//! The text is inserted verbatim, to a depth of 10, before parameters are parsed; also directly inside a parameter's
//! brackets (`{[name]:day}`). Arguments are SQL and replace `$1`, `$2`, … in the code of the text; there must be
//! exactly as many as it names. A line comment left open at the end of a text is closed with a line break. Built-in
//! snippets are values: a literal, or NULL, and only in code.
//!
//! # Variables
//! `timerange` (and the older `timerange_previous`), `aggregation` and `tz` are built in; see `is_reserved`. The rest
//! are filters. One without a definition is a text input with any number of values. An input takes precedence over the
//! default, even if it selects nothing. Inputs for variables that the statement does not use are ignored; the three
//! built-in inputs are always checked.
//!
//! # Conditions
//! | variable | SQL |
//! | --- | --- |
//! | nothing selected, all time | `(1=1)` |
//! | the range before or after one that is open to that side | `(1=0)`: there is none |
//! | `timerange` | `((x) >= '2023-03-16T00:00:00' AND (x) <= '2023-03-22T23:59:59.999999')`, also works for text columns |
//! | date and time range | `x >= TIMESTAMP '…T00:00:00' AND x < TIMESTAMP '…T23:59:59' + INTERVAL '1' SECOND` |
//! | date range | `x >= DATE '2023-04-12' AND x < DATE '2023-04-14' + INTERVAL '1' DAY` |
//! | time range | `x >= TIME '13:00:00' AND x < TIME '13:59:59' + INTERVAL '1' SECOND`; with OR across midnight |
//! | values | `x = 'a'`, `x IN ('a', 'b')` |
//!
//! SQLite compares `datetime(x)`, `date(x)` or `time(x)` with plain text, inclusive at both ends, so that the format of
//! a stored time does not matter. An expression that is not a column gets parentheses. So does the whole condition,
//! unless it is between words that do not change its meaning (`WHERE … AND`). A value of an open range
//! (`{timerange.start}` of all time) is a typed NULL.
//!
//! # Ranges and their neighbours
//! For the format of ranges see `Range`. Neighbours of full months are the same number of full months; of full days the
//! same number of days; of `last_N_UNITs_now` the N units before or after; of `this_UNIT_now` the same part of the unit
//! before or after; of all others the same number of seconds. For times of day, the next part of a range that ends now
//! starts with the next full unit. A range ending now ends before the current second. Date ranges have no unit smaller
//! than the day, time ranges none larger than the hour.
//!
//! # Time zones
//! The data zone S (default: UTC) is the zone of the session and of times without a zone. Ranges are in the dashboard's
//! zone D (default: S): seconds are true instants, days are D's days. They are compared as local times of S; dates and
//! times of day are never converted. Aggregations follow D's calendar. **A bucket of a day or more is a DATE, which is
//! not converted later; a finer one is a value that the conversion of the result still converts to D exactly once**:
//!
//! | | day and coarser, D given | hour and finer, D given | `{[x]:tz}` |
//! | --- | --- | --- | --- |
//! | PostgreSQL | `DATE_TRUNC('day', (x)::timestamptz AT TIME ZONE 'D')::date` | `DATE_TRUNC('hour', (x)::timestamptz, 'D')`, an instant | `((x)::timestamptz AT TIME ZONE 'D')` |
//! | Redshift | the same | `(DATE_TRUNC('hour', … AT TIME ZONE 'D') AT TIME ZONE 'D')`, an instant | the same |
//! | CrateDB | `DATE_TRUNC('day', 'D', x)`, an instant | the same | the same |
//! | MySQL, MariaDB | `DATE(CONVERT_TZ(x, 'S', 'D'))`, … | a DATETIME in S: the minutes of D's local time are subtracted | `CONVERT_TZ(x, 'S', 'D')` |
//! | SQLite | `landreeve_trunc('day', landreeve_tz(x, 'S', 'D'))` | the same, text in D's local time, which is not converted | `landreeve_tz(x, 'S', 'D')` |
//!
//! Without D: PostgreSQL `DATE_TRUNC('day', (x)::timestamp)::date`, Redshift `DATE_TRUNC('day', x)`, MySQL `DATE(x)`
//! and so on, SQLite `landreeve_trunc('day', x)`. `all_time` is one constant NULL.
//!
//! For SQLite the driver registers `landreeve_tz(ts, from, to)`, which parses a time as SQLite does (text with an
//! offset or `Z` is an instant, whatever `from` is; a repeated hour is the first one; a skipped one is read with the
//! old offset) and returns `YYYY-MM-DD HH:MM:SS`, with a fraction if there was one; and `landreeve_trunc(unit, ts)`
//! with the names of `Aggregation`, which returns `YYYY-MM-DD` for `day` and coarser and `YYYY-MM-DD HH:MM:SS` for
//! finer units. A value that is not a time is an error.
//!
//! A MySQL server without zone tables has a session in UTC and a `CONVERT_TZ` that returns NULL. There conversions are
//! written out: `(x + INTERVAL (CASE WHEN x < TIMESTAMP '2024-03-31T01:00:00' THEN 3600 … END) SECOND)`, with every
//! clock change in the range with which the same expression is compared, otherwise in all ranges of the statement.
//! Without a range that is bounded on both sides this is a fault. `x` is assumed to be local time in S, which is true
//! for DATETIME columns, and for TIMESTAMP columns only if S is UTC.
//!
//! # Faults
//! One per problem. Field `sql`: `unknown` (transformation), `selector`, `arguments`, `cycle`, `depth`, `too_large`,
//! `zone_tables`. Fields `parameters.timerange`, `.aggregation`, `.tz`, `.filters.NAME`: `range`, `enum` (no such
//! option or aggregation), `not_allowed`, `time_zone`, `type`, `too_many`, `duplicate`, `nul`, `reserved`.

mod bucket;
mod env;
mod expand;
mod lexer;
mod literal;
mod parse;
mod range;
mod snippets;
mod span;
mod usage;
mod values;
mod zone;

use landreeve_core::Error;
use landreeve_core::datasource::SqlDialect;

pub use env::{
    Aggregation, Control, Environment, FilterDef, InputParameters, Scalar, Snippets, ValueType, ZoneChoice,
    is_reserved,
};
pub use lexer::is_name;
pub use range::{Endpoint, Range, Relative, Unit};
pub use span::WeekStart;
pub use usage::{Usage, analyse};
pub use zone::Zone;

use values::Bad;

/// A statement that is ready for the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    pub sql: String,
    pub usage: Usage,
    /// The zone in which the result's times are shown.
    pub shown_zone: Zone,
}

/// Compiles a statement of the parameter language to SQL of a dialect. The error has a fault for each problem: its
/// field is `sql` for the text, `parameters.…` for an input.
pub fn expand(sql: &str, dialect: SqlDialect, env: &Environment) -> Result<Expanded, Error> {
    let spliced = snippets::splice(sql, dialect, &env.snippets);
    let mut expander = expand::Expander::new(env, dialect);
    let spliced_faults = spliced.faults;
    if spliced.sql.len() > snippets::MAX_BYTES {
        let message = format!("is longer than {} bytes once its snippets are expanded", snippets::MAX_BYTES);
        expander.fault("sql".to_owned(), Bad::new("too_large", message));
        return Err(Error::invalid([spliced_faults, expander.faults].concat()));
    }
    let nodes = parse::parse(&spliced.sql, dialect, &|name| env.snippets.builtin.contains_key(name));
    let expanded = expander.statement(&nodes);
    let faults = [spliced_faults, expander.faults].concat();
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    let usage = usage::usage(&nodes, spliced.used, spliced.direct);
    Ok(Expanded { sql: expanded, usage, shown_zone: expander.zones.shown })
}

#[cfg(test)]
mod tests;
