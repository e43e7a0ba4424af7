//! The columns of a result, and the schema of a datasource.

use std::collections::HashMap;

use arrow_schema::Field;

/// What a column means to a client, whatever database it comes from. This alone decides how its values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogicalType {
    Text,
    /// 64 bits or fewer, signed. Unsigned 64-bit columns are `UnsignedBig`.
    Integer,
    UnsignedBig,
    /// IEEE floating point.
    Number,
    /// Exact: an Arrow decimal if the precision is known and always fits, otherwise text with every digit.
    Decimal,
    Boolean,
    Date,
    /// A point in time.
    Instant,
    /// Date and time of day, without a zone.
    DateTime,
    Time,
    /// ISO 8601 duration text (`P1Y2M3DT4H5M6.5S`).
    Interval,
    Json,
    Binary,
    Uuid,
    /// Anything Arrow has no type for, as text from the database.
    Other,
}

impl LogicalType {
    pub const ALL: [LogicalType; 15] = [
        LogicalType::Text,
        LogicalType::Integer,
        LogicalType::UnsignedBig,
        LogicalType::Number,
        LogicalType::Decimal,
        LogicalType::Boolean,
        LogicalType::Date,
        LogicalType::Instant,
        LogicalType::DateTime,
        LogicalType::Time,
        LogicalType::Interval,
        LogicalType::Json,
        LogicalType::Binary,
        LogicalType::Uuid,
        LogicalType::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            LogicalType::Text => "text",
            LogicalType::Integer => "integer",
            LogicalType::UnsignedBig => "unsigned_big",
            LogicalType::Number => "number",
            LogicalType::Decimal => "decimal",
            LogicalType::Boolean => "boolean",
            LogicalType::Date => "date",
            LogicalType::Instant => "instant",
            LogicalType::DateTime => "datetime",
            LogicalType::Time => "time",
            LogicalType::Interval => "interval",
            LogicalType::Json => "json",
            LogicalType::Binary => "binary",
            LogicalType::Uuid => "uuid",
            LogicalType::Other => "other",
        }
    }
}

/// Keys of the Arrow field metadata for what Arrow's own type does not express.
pub const META_LOGICAL: &str = "landreeve.type";
pub const META_NATIVE: &str = "landreeve.native";

/// Values that a date or timestamp column can have and a calendar cannot: represented by the ends of the integer range.
pub const POSITIVE_INFINITY: i64 = i64::MAX;
pub const NEGATIVE_INFINITY: i64 = i64::MIN;
/// MySQL's `0000-00-00`.
pub const ZERO_DATE: i64 = i64::MIN + 1;
/// The same three in a 32-bit date column.
pub const POSITIVE_INFINITY_DAY: i32 = i32::MAX;
pub const NEGATIVE_INFINITY_DAY: i32 = i32::MIN;
pub const ZERO_DAY: i32 = i32::MIN + 1;

/// Marks an Arrow field with its meaning and the database's name of its type.
pub fn describe(field: Field, logical: LogicalType, native: &str) -> Field {
    field.with_metadata(HashMap::from([
        (META_LOGICAL.to_owned(), logical.as_str().to_owned()),
        (META_NATIVE.to_owned(), native.to_owned()),
    ]))
}

pub fn logical_type(field: &Field) -> LogicalType {
    let stored = field.metadata().get(META_LOGICAL);
    stored
        .and_then(|text| LogicalType::ALL.into_iter().find(|known| known.as_str() == text))
        .unwrap_or(LogicalType::Other)
}

pub fn native_type(field: &Field) -> &str {
    field.metadata().get(META_NATIVE).map_or("", String::as_str)
}

/// The schema of a datasource, as its driver read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    pub server_version: String,
    pub default_schema: Option<String>,
    pub schemas: Vec<SchemaInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaInfo {
    pub name: String,
    pub tables: Vec<TableInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    pub name: String,
    pub kind: TableKind,
    pub row_count: Option<u64>,
    pub row_count_exact: bool,
    pub columns: Vec<ColumnInfo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Table,
    View,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    pub name: String,
    /// The database's name for the type (`character varying(20)`).
    pub data_type: String,
    pub nullable: bool,
    /// Starting at 1.
    pub position: u32,
}

impl Catalog {
    /// The rows of all tables that have a count, and whether all those counts are exact.
    pub fn total_rows(&self) -> Option<(u64, bool)> {
        let mut tables =
            self.schemas.iter().flat_map(|schema| &schema.tables).filter(|table| table.row_count.is_some());
        let first = tables.next()?;
        let start = (first.row_count.unwrap_or(0), first.row_count_exact);
        Some(tables.fold(start, |(rows, exact), table| {
            (rows.saturating_add(table.row_count.unwrap_or(0)), exact && table.row_count_exact)
        }))
    }
}
