//! The SQL parameter language: a statement with places for what a viewer selects, written out for one database.
//!
//! It is a compiler in three steps with typed values between them: `lexer` tells code from literals, `parse` finds
//! parameters and snippets in the code, `expand` (with `bucket` for transformations and `literal` for values) writes
//! SQL. `snippets` runs before the last two, because snippets may hold parameters. `range` and `span` know what a range
//! of time means, `values` what a filter allows, `zone` the clocks. What must not enter: input or output, the time of
//! day (it is an argument), HTTP, the wire's JSON, a vendor's name, and any way for a client's value to become code.
//!
//! # Grammar
//! ```text
//! {[expr]=variable}  {column=variable}  {[expr]=variable.next}  {[expr]=variable.previous}     condition
//! {[expr]:transform} {column:transform}                                                      transformation
//! {variable.start}   {variable.end}                                                          value of a range
//! {variable}                                                                                 plain values (older form)
//! [name]  [name(a, b)]                                                                       snippet
//! ```
//! Blanks may stand inside the braces around each part, not around a point. `expr` is any SQL with balanced brackets, and
//! may hold parameters and snippets; a column may be qualified and quoted. Names are ASCII letters, digits and `_`. All
//! else passes through byte for byte: string literals, quoted identifiers, comments and dollar quotes always, and braces
//! and brackets that do not match: `'{1,2}'`, `arr[1]`, `{fn NOW()}`, and `[name]` where no snippet has that name.
//! A parameter is set off with a blank from what it would otherwise grow together with (`E{v}`, `1-{n}`).
//!
//! # Snippets
//! The text is spliced in verbatim, to a depth of 10, before parameters are looked for; directly inside a parameter's
//! brackets too (`{[name]:day}`). Arguments are SQL and take the places `$1`, `$2`, … in the code of the text, exactly as
//! many as it names. A line comment that a text leaves open is closed with a line break. Built-in snippets are values:
//! a literal, or NULL, and only in code.
//!
//! # Variables
//! `timerange` (and the older `timerange_previous`), `aggregation` and `tz` are built in; see `is_reserved`. The rest are
//! filters. One without a definition is a text input with any number of values. An input wins over the default, also
//! when it selects nothing. Inputs for variables that the statement does not use are not looked at; the three built-in
//! inputs always are.
//!
//! # Conditions
//! | variable | SQL |
//! | --- | --- |
//! | nothing selected, all time | `(1=1)` |
//! | next to a range that is open to that side | `(1=0)`: nothing is there |
//! | `timerange` | `((x) >= '2023-03-16T00:00:00' AND (x) <= '2023-03-22T23:59:59.999999')`, fit for text columns |
//! | date and time range | `x >= TIMESTAMP '…T00:00:00' AND x < TIMESTAMP '…T23:59:59' + INTERVAL '1' SECOND` |
//! | date range | `x >= DATE '2023-04-12' AND x < DATE '2023-04-14' + INTERVAL '1' DAY` |
//! | time range | `x >= TIME '13:00:00' AND x < TIME '13:59:59' + INTERVAL '1' SECOND`; with OR over midnight |
//! | values | `x = 'a'`, `x IN ('a', 'b')` |
//!
//! SQLite compares what `datetime(x)`, `date(x)` or `time(x)` makes of a value with plain text, inclusive at both ends,
//! so that it does not matter how a time was written down. An expression that is no column gets parentheses. So does the whole
//! condition, unless it stands between words that leave its meaning alone (`WHERE … AND`). A value of an open range
//! (`{timerange.start}` of all time) is a typed NULL.
//!
//! # Ranges and the ones next to them
//! How ranges are written: see `Range`. Neighbours of full months are as many full months; of full days as many days;
//! of `last_N_UNITs_now` the N units before or after; of `this_UNIT_now` the same part of the unit before or after; of
//! all others as many seconds. The next time of day of a range that ends now begins with the next full unit. A range ending now
//! ends before the present second. Ranges of dates know no unit below the day, times of day none above the hour.
//!
//! # Time zones
//! The data's zone S (else UTC) is the session's, and what times without a zone are in. Ranges are meant in the
//! dashboard's zone D (else S): seconds are true instants, days are D's days. They are compared on the wall of S; dates and times of
//! day are never moved. Aggregations follow D's calendar. **A bucket of a day or more is a DATE, which nobody converts
//! later; a finer one is something that the conversion of the result still turns into D exactly once**:
//!
//! | | day and coarser, D given | hour and finer, D given | `{[x]:tz}` |
//! | --- | --- | --- | --- |
//! | PostgreSQL | `DATE_TRUNC('day', (x)::timestamptz AT TIME ZONE 'D')::date` | `DATE_TRUNC('hour', (x)::timestamptz, 'D')`, an instant | `((x)::timestamptz AT TIME ZONE 'D')` |
//! | Redshift | the same | `(DATE_TRUNC('hour', … AT TIME ZONE 'D') AT TIME ZONE 'D')`, an instant | the same |
//! | CrateDB | `DATE_TRUNC('day', 'D', x)`, an instant | the same | the same |
//! | MySQL, MariaDB | `DATE(CONVERT_TZ(x, 'S', 'D'))`, … | a DATETIME of S: the minutes of D's wall are taken off | `CONVERT_TZ(x, 'S', 'D')` |
//! | SQLite | `landreeve_trunc('day', landreeve_tz(x, 'S', 'D'))` | the same, text on D's wall, which nobody converts | `landreeve_tz(x, 'S', 'D')` |
//!
//! Without D: PostgreSQL `DATE_TRUNC('day', (x)::timestamp)::date`, Redshift `DATE_TRUNC('day', x)`, MySQL `DATE(x)` and so on,
//! SQLite `landreeve_trunc('day', x)`. `all_time` is one constant NULL.
//!
//! The driver registers for SQLite: `landreeve_tz(ts, from, to)`, which reads a time as SQLite does (a text with an offset or
//! `Z` is an instant, whatever `from` says; an hour that comes twice is the first one; one left out is read with the old
//! offset) and gives `YYYY-MM-DD HH:MM:SS` with a fraction if there was one; and `landreeve_trunc(unit, ts)` with the names of
//! `Aggregation`, which gives `YYYY-MM-DD` from `day` on and `YYYY-MM-DD HH:MM:SS` below. Both give NULL for what is no time.
//!
//! A MySQL server without zone tables has a session at UTC and a `CONVERT_TZ` that gives NULL. There conversions are written out:
//! `(x + INTERVAL (CASE WHEN x < TIMESTAMP '2024-03-31T01:00:00' THEN 3600 … END) SECOND)`, with every change of
//! clocks in the range with which the same expression is compared, else in all ranges of the statement. Without a
//! range that is bounded on both sides that is a fault. `x` is taken to be on S's wall, which is true of DATETIME columns,
//! and of TIMESTAMP columns only if S is UTC.
//!
//! # Faults
//! One per problem. Field `sql`: `unknown` (transformation), `selector`, `arguments`, `cycle`, `depth`, `too_large`,
//! `zone_tables`. Fields `parameters.timerange`, `.aggregation`, `.tz`, `.filters.NAME`: `range`, `enum` (no such option or
//! aggregation), `not_allowed`, `time_zone`, `type`, `too_many`, `duplicate`, `nul`, `reserved`.

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

/// A statement ready for the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    pub sql: String,
    pub usage: Usage,
    /// The zone in which times of the result are to be shown.
    pub shown_zone: Zone,
}

/// Writes the SQL of a dialect out of a statement of the parameter language. The error has a fault for each problem:
/// with the field `sql` for the text, `parameters.…` for an input.
pub fn expand(sql: &str, dialect: SqlDialect, env: &Environment) -> Result<Expanded, Error> {
    let spliced = snippets::splice(sql, dialect, &env.snippets);
    let mut expander = expand::Expander::new(env, dialect);
    let spliced_faults = spliced.faults;
    if spliced.sql.len() > snippets::MAX_BYTES {
        let message = format!("is longer than {} bytes with its snippets", snippets::MAX_BYTES);
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
