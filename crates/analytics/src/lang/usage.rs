//! Finds the variables and snippets that a statement uses, without any values. Dashboards find their filters this way.

use landreeve_core::Error;
use landreeve_core::datasource::SqlDialect;

use super::env::{Aggregation, Snippets, TIMERANGE, TIMERANGE_PREVIOUS};
use super::parse::{Form, Node, parse};
use super::snippets::splice;

/// Each list is in order of first use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Includes those inside snippets and the built-in ones: `timerange`, `aggregation`, `tz`.
    pub variables: Vec<String>,
    /// Custom snippets, including those inside snippets.
    pub snippets: Vec<String>,
    /// Custom snippets that the text itself names.
    pub direct_snippets: Vec<String>,
    pub builtin_snippets: Vec<String>,
}

/// Fails if the snippets cannot be expanded: a cycle, too deep, wrong arguments.
pub fn analyse(sql: &str, dialect: SqlDialect, snippets: &Snippets) -> Result<Usage, Error> {
    let spliced = splice(sql, dialect, snippets);
    if !spliced.faults.is_empty() {
        return Err(Error::invalid(spliced.faults));
    }
    let nodes = parse(&spliced.sql, dialect, &|name| snippets.builtin.contains_key(name));
    Ok(usage(&nodes, spliced.used, spliced.direct))
}

pub fn usage(nodes: &[Node<'_>], used: Vec<String>, direct: Vec<String>) -> Usage {
    let mut usage = Usage { snippets: used, direct_snippets: direct, ..Usage::default() };
    collect(nodes, &mut usage);
    usage
}

fn add(list: &mut Vec<String>, name: &str) {
    if !list.iter().any(|known| known == name) {
        list.push(name.to_owned());
    }
}

fn collect(nodes: &[Node<'_>], usage: &mut Usage) {
    for node in nodes {
        let param = match node {
            Node::Text(_) => continue,
            Node::Snippet(call) => {
                add(&mut usage.builtin_snippets, call.name);
                continue;
            }
            Node::Param(param) => param,
        };
        match &param.form {
            Form::Condition { expr, variable, .. } => {
                collect(&expr.nodes, usage);
                add(&mut usage.variables, canonical(variable));
            }
            Form::Transformation { expr, transform, .. } => {
                collect(&expr.nodes, usage);
                if Aggregation::parse(transform).is_none() {
                    add(&mut usage.variables, transform);
                }
            }
            Form::Value { variable, .. } | Form::Legacy { variable } => {
                add(&mut usage.variables, canonical(variable));
            }
        }
    }
}

fn canonical(variable: &str) -> &str {
    if variable == TIMERANGE_PREVIOUS { TIMERANGE } else { variable }
}
