//! What a statement in VQL can use: functions, settings, and rewrites of plans.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::functions::sum::Sum;
use super::{functions, textual};
use crate::bounds::operators::Operators;
use crate::bounds::{Bounds, aggregate, scalar};

/// DataFusion's and the engine's functions that mean the same in VQL, or that callers can use.
const SHARED: [&str; 16] = [
    "at_time_zone",
    "btrim",
    "character_length",
    "coalesce",
    "current_date",
    "date_part",
    "date_trunc",
    "date_trunc_in",
    "lower",
    "ltrim",
    "now",
    "nullif",
    "replace",
    "rtrim",
    "strpos",
    "upper",
];
const AGGREGATES: [&str; 7] = ["avg", "count", "max", "min", "stddev", "string_agg", "var"];
const WINDOWS: [&str; 4] = ["lag", "lead", "rank", "row_number"];

pub fn configure(options: &mut ConfigOptions) {
    let parser = &mut options.sql_parser;
    // A literal with a point is a decimal, so that comparing it with a decimal column is exact.
    parser.parse_float_as_decimal = true;
    parser.map_string_types_to_utf8view = false;
    parser.collect_spans = true;
    options.execution.time_zone = Some("UTC".to_owned());
}

pub fn scalar_functions(bounds: &Arc<Bounds>) -> Vec<Arc<ScalarUDF>> {
    let shared = SessionStateDefaults::default_scalar_functions().into_iter().chain(crate::functions::all());
    let is_shared = |function: &Arc<ScalarUDF>| SHARED.contains(&function.name());
    // The engine's own `strpos` comes after DataFusion's and replaces it.
    let all = shared.filter(is_shared).chain(functions::all());
    all.filter_map(|function| scalar::bounded(function, bounds).map(Arc::new)).collect()
}

pub fn aggregate_functions(bounds: &Arc<Bounds>) -> Vec<Arc<AggregateUDF>> {
    let defaults = SessionStateDefaults::default_aggregate_functions().into_iter();
    let known = defaults.filter(|function| AGGREGATES.contains(&function.name()));
    aggregate::bounded(known.chain([Arc::new(AggregateUDF::from(Sum::new()))]).collect(), bounds)
}

pub fn window_functions() -> Vec<Arc<WindowUDF>> {
    let defaults = SessionStateDefaults::default_window_functions().into_iter();
    defaults.filter(|function| WINDOWS.contains(&function.name())).collect()
}

pub fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    SessionStateDefaults::default_expr_planners()
}

pub fn rewrites(bounds: &Arc<Bounds>) -> Result<Vec<Arc<dyn FunctionRewrite + Send + Sync>>> {
    Ok(vec![Arc::new(textual::Textual), Arc::new(Operators::new(bounds)?)])
}
