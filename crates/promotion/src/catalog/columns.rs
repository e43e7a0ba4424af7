//! The types of columns: VQL's as Arrow's, with what the database calls them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use landreeve_core::schema::{LogicalType, describe};

use crate::vql::ast::{Column, ColumnType, Output, Wrapper};

/// Digits, and digits after the point, of a decimal whose size nothing says.
const DECIMAL: (u8, i8) = (38, 10);

/// The schema of a base view. A decimal has the size of its field in the wrapper, if that says one.
pub fn of_table(columns: &[Column], wrapper: Option<&Wrapper>) -> SchemaRef {
    let fields = columns.iter().map(|column| {
        let field =
            wrapper.and_then(|wrapper| wrapper.outputs.iter().find(|field| field.name == column.name));
        field_of(column, field)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema of an interface view.
pub fn of_interface(columns: &[Column]) -> SchemaRef {
    of_table(columns, None)
}

fn field_of(column: &Column, output: Option<&Output>) -> Field {
    let (data_type, logical) = match column.column_type {
        ColumnType::Int => (DataType::Int32, LogicalType::Integer),
        ColumnType::Long => (DataType::Int64, LogicalType::Integer),
        ColumnType::Float => (DataType::Float32, LogicalType::Number),
        ColumnType::Double => (DataType::Float64, LogicalType::Number),
        ColumnType::Decimal => {
            let (precision, scale) = decimal(column, output);
            (DataType::Decimal128(precision, scale), LogicalType::Decimal)
        }
        ColumnType::Text => (DataType::Utf8, LogicalType::Text),
        ColumnType::Boolean => (DataType::Boolean, LogicalType::Boolean),
        ColumnType::Blob => (DataType::Binary, LogicalType::Binary),
        ColumnType::LocalDate => (DataType::Date32, LogicalType::Date),
        ColumnType::Time => (DataType::Time64(TimeUnit::Microsecond), LogicalType::Time),
        ColumnType::Timestamp => (DataType::Timestamp(TimeUnit::Microsecond, None), LogicalType::DateTime),
        ColumnType::TimestampTz => {
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), LogicalType::Instant)
        }
    };
    // A source may hold NULL although the view says that it does not.
    describe(Field::new(&column.name, data_type, true), logical, column.column_type.as_str())
}

fn decimal(column: &Column, output: Option<&Output>) -> (u8, i8) {
    let of_column = |name: &str| {
        let found = column.properties.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let of_output = |name: &str| output.and_then(|output| output.property(name));
    let size = of_output("sourcetypesize").or_else(|| of_column("sourcetypesize"));
    let scale = of_output("sourcetypedecimals").or_else(|| of_column("sourcetypedecimals"));
    let Some(precision) =
        size.and_then(|size| size.parse::<u8>().ok()).filter(|size| (1..=38).contains(size))
    else {
        return DECIMAL;
    };
    let scale = scale.and_then(|scale| scale.parse::<i8>().ok()).unwrap_or(0);
    if (0..=i8::try_from(precision).unwrap_or(0)).contains(&scale) { (precision, scale) } else { DECIMAL }
}

/// Whether an interface's column can have the values of a column of its implementation.
pub fn can_become(from: &DataType, to: &DataType) -> bool {
    let number = |data_type: &DataType| data_type.is_numeric();
    let text =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let day = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Timestamp(..));
    from == to
        || text(to)
        || (text(from) && number(to))
        || (number(from) && number(to))
        || (day(from) && day(to))
}

/// A type as VQL names it.
pub fn vql_type(field: &Field) -> &'static str {
    match field.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "int",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "long",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "decimal",
        DataType::Boolean => "boolean",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "blob"
        }
        DataType::Date32 | DataType::Date64 => "localdate",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        _ => "text",
    }
}
