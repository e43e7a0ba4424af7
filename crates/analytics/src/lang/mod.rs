//! The SQL parameter language.

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
