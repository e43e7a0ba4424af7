//! Lets DataFusion read a plane's table: columns, conditions and limits are pushed down to it.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use landreeve_core::source::{CancellationToken, Permit};
use landreeve_core::table::{Applies, Comparison, Condition, Filter, Scan, Test, Value};

use crate::explain::Recorder;
use crate::scan::{Read, ScanExec};

pub struct Provider {
    pub read: Read,
    pub batch_rows: usize,
    /// The statement's token.
    pub cancel: CancellationToken,
    /// For EXPLAIN.
    pub recorder: Recorder,
}

impl Provider {
    /// A filter as the table takes it, and how it applies it.
    fn applied(&self, schema: &SchemaRef, filter: &Expr) -> (Applies, Option<Filter>) {
        let filter = if self.read.table.nests() {
            nested(schema, filter)
        } else {
            condition(schema, filter).map(Filter::One)
        };
        (filter.as_ref().map_or(Applies::No, |filter| self.applies(filter)), filter)
    }

    fn applies(&self, filter: &Filter) -> Applies {
        let all = |filters: &[Filter]| {
            let found: Vec<Applies> = filters.iter().map(|filter| self.applies(filter)).collect();
            match found.iter().all(|applies| *applies == Applies::Exact) {
                true => Applies::Exact,
                false if found.contains(&Applies::No) => Applies::No,
                false => Applies::Superset,
            }
        };
        match filter {
            Filter::One(condition) => self.read.table.applies(condition),
            Filter::All(filters) | Filter::Any(filters) => all(filters),
            // What is left out of a superset would be too much of its opposite.
            Filter::Not(filter) if self.applies(filter) == Applies::Exact => Applies::Exact,
            Filter::Not(_) => Applies::No,
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.read.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let schema = self.read.table.schema();
        let mut most = if self.read.table.nests() { MAX_CONDITIONS } else { usize::MAX };
        let applied = filters.iter().map(|filter| {
            let (applies, filter) = self.applied(&schema, filter);
            let size = filter.as_ref().map_or(0, size);
            match applies {
                Applies::No => TableProviderFilterPushDown::Unsupported,
                _ if size > most => TableProviderFilterPushDown::Unsupported,
                Applies::Exact | Applies::Superset => {
                    most -= size;
                    if applies == Applies::Exact {
                        TableProviderFilterPushDown::Exact
                    } else {
                        TableProviderFilterPushDown::Inexact
                    }
                }
            }
        });
        Ok(applied.collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.read.table.schema();
        let columns = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let (mut conditions, mut nested) = (Vec::with_capacity(filters.len()), Vec::new());
        // Rows that a later filter drops must not count towards a limit here.
        let mut exact = true;
        for filter in filters {
            let (applies, filter) = self.applied(&schema, filter);
            exact &= applies == Applies::Exact;
            match filter.filter(|_| applies != Applies::No) {
                Some(Filter::One(condition)) => conditions.push(condition),
                Some(filter) => nested.push(filter),
                None => {}
            }
        }
        let limit = limit.filter(|_| exact);
        let scan = Scan {
            conditions,
            filters: nested,
            limit: limit.map(|limit| limit as u64),
            batch_rows: self.batch_rows,
            columns,
            partition: 0,
            permit: Permit::default(),
            cancel: self.cancel.clone(),
        };
        if let Some(sent) = self.read.table.sent(&scan) {
            self.recorder.add(sent);
        }
        let schema = Arc::new(schema.project(&scan.columns)?);
        Ok(Arc::new(ScanExec::new(&self.read, &scan, &schema)?))
    }
}

/// Maximum number of conditions that a source is sent for one scan: databases limit the depth of an expression.
const MAX_CONDITIONS: usize = 200;

/// The number of conditions in a filter.
fn size(filter: &Filter) -> usize {
    match filter {
        Filter::One(_) => 1,
        Filter::All(filters) | Filter::Any(filters) => filters.iter().map(size).sum(),
        Filter::Not(filter) => size(filter),
    }
}

/// Conditions that are joined; `None` if the port cannot express one of them.
fn nested(schema: &SchemaRef, expr: &Expr) -> Option<Filter> {
    if let Some(condition) = condition(schema, expr) {
        return Some(Filter::One(condition));
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let both = vec![nested(schema, left)?, nested(schema, right)?];
            match op {
                Operator::And => Some(Filter::All(both)),
                Operator::Or => Some(Filter::Any(both)),
                _ => None,
            }
        }
        Expr::Not(inner) => Some(Filter::Not(Box::new(nested(schema, inner)?))),
        Expr::InList(list) if list.negated => {
            let positive = Expr::InList(InList { negated: false, ..list.clone() });
            Some(Filter::Not(Box::new(Filter::One(condition(schema, &positive)?))))
        }
        Expr::Between(between) => {
            let compare = |op, bound: &Expr| {
                let sides = BinaryExpr::new(between.expr.clone(), op, Box::new(bound.clone()));
                condition(schema, &Expr::BinaryExpr(sides)).map(Filter::One)
            };
            let both = Filter::All(vec![
                compare(Operator::GtEq, &between.low)?,
                compare(Operator::LtEq, &between.high)?,
            ]);
            Some(if between.negated { Filter::Not(Box::new(both)) } else { both })
        }
        _ => None,
    }
}

/// A condition that the port can express; `None` for all others.
fn condition(schema: &SchemaRef, expr: &Expr) -> Option<Condition> {
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => schema.index_of(&column.name).ok(),
        _ => None,
    };
    let (column, test) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let comparison = comparison(*op)?;
            match (place(left), place(right)) {
                (Some(column), None) => (column, Test::Compare(comparison, value(right)?)),
                (None, Some(column)) => (column, Test::Compare(turned(comparison), value(left)?)),
                _ => return None,
            }
        }
        Expr::InList(list) if !list.negated => {
            let values = list.list.iter().map(value).collect::<Option<Vec<_>>>()?;
            (place(&list.expr)?, Test::OneOf(values))
        }
        Expr::IsNull(inner) => (place(inner)?, Test::IsNull),
        Expr::IsNotNull(inner) => (place(inner)?, Test::IsNotNull),
        Expr::Column(_) => (place(expr)?, Test::Compare(Comparison::Equal, Value::Boolean(true))),
        Expr::Not(inner) => (place(inner)?, Test::Compare(Comparison::Equal, Value::Boolean(false))),
        _ => return None,
    };
    Some(Condition { column, test })
}

const fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// The same comparison with its sides swapped.
const fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Equal | Comparison::NotEqual => comparison,
    }
}

fn value(expr: &Expr) -> Option<Value> {
    let Expr::Literal(value, _) = expr else { return None };
    Some(match value {
        ScalarValue::Boolean(Some(value)) => Value::Boolean(*value),
        ScalarValue::Int8(Some(value)) => Value::Integer(i64::from(*value)),
        ScalarValue::Int16(Some(value)) => Value::Integer(i64::from(*value)),
        ScalarValue::Int32(Some(value)) => Value::Integer(i64::from(*value)),
        ScalarValue::Int64(Some(value)) => Value::Integer(*value),
        ScalarValue::Float64(Some(value)) => Value::Float(*value),
        ScalarValue::Decimal128(Some(unscaled), _, scale) => {
            Value::Decimal { unscaled: *unscaled, scale: *scale }
        }
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => Value::Text(text.clone()),
        ScalarValue::Date32(Some(days)) => Value::Date(*days),
        ScalarValue::TimestampMicrosecond(Some(micros), Some(_)) => Value::Instant(*micros),
        ScalarValue::TimestampMicrosecond(Some(micros), None) => Value::DateTime(*micros),
        _ => return None,
    })
}
