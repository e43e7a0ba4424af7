//! The columns that a view is stored with, and a view's plan with exactly those columns.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use landreeve_core::source::SourceError;
use landreeve_core::table::TableName;

use crate::error::{query, translate};

/// A type as it is stored. DataFusion has several for texts and instants; only one of each is stored.
fn stored_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Date64 => DataType::Date32,
        DataType::Float16 => DataType::Float32,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => stored_type(value),
        other => other.clone(),
    }
}

/// The columns of a planned view.
pub fn stored(schema: &DFSchema) -> Result<SchemaRef, SourceError> {
    let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if fields.iter().any(|known| known.name() == field.name()) {
            let message =
                format!("the view has two columns named {:?}; give one of them an alias", field.name());
            return Err(query("invalid", message));
        }
        let kind = stored_type(field.data_type());
        fields.push(Field::new(field.name(), kind, true).with_metadata(field.metadata().clone()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The view's columns by name, with the types they were stored with.
pub fn as_stored(
    plan: LogicalPlan,
    columns: &SchemaRef,
    view: &TableName,
) -> Result<LogicalPlan, SourceError> {
    let mut exprs = Vec::with_capacity(columns.fields().len());
    for stored in columns.fields() {
        let found = plan.schema().iter().find(|(_, field)| field.name() == stored.name());
        let Some((qualifier, field)) = found else {
            let message =
                format!("the view {view} no longer has the column {:?}; create it again", stored.name());
            return Err(query("invalid_view", message));
        };
        let column = Expr::Column(Column::from((qualifier, field)));
        exprs.push(if field.data_type() == stored.data_type() {
            column
        } else {
            cast(column, stored.data_type().clone()).alias(stored.name())
        });
    }
    let built = LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build);
    built.map_err(|error| invalid(view, translate(&error)))
}

/// The error of a view that can no longer be planned.
pub fn invalid(view: &TableName, error: SourceError) -> SourceError {
    SourceError {
        message: format!("the view {view} is invalid: {}", error.message),
        code: Some("invalid_view".to_owned()),
        // It would be a position in the view's text.
        position: None,
        ..error
    }
}
