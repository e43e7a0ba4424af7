//! The document with the rows of an execution: what is around the rows, which the encoder writes as they are read.

use std::io;

use landreeve_core::schema::{LogicalType, logical_type, native_type};
use landreeve_core::source::{Envelope, JsonColumn};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema::{FullSchema, Schema};

/// What a data key gives.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape of what is streamed")]
pub enum DataDocument<'a> {
    Rows(RowsDocument<'a>),
    FullSchema(FullSchema<'a>),
    Schema(Schema<'a>),
}

/// The rows of an execution.
#[derive(Serialize, ToSchema)]
pub struct RowsDocument<'a> {
    columns: Vec<RowsColumn<'a>>,
    /// Number of rows of the execution.
    row_count: u64,
    /// Whether rows were left out.
    truncated: bool,
    /// Unix seconds: when the query ran.
    timestamp: i64,
    /// Instants are shown in this zone.
    time_zone: &'a str,
    /// Each row is an array with a value for each column.
    rows: Vec<Vec<serde_json::Value>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RowsColumn<'a> {
    #[schema(example = "count(*)")]
    name: &'a str,
    #[serde(rename = "type")]
    #[schema(
        pattern = "^(text|integer|number|boolean|date|datetime|time|interval|json|binary|unknown)$",
        example = "integer"
    )]
    kind: &'static str,
    /// `string` if numbers are written as strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    /// Whether times have an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    zoned: Option<bool>,
    /// The database's name of the type.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(required = false)]
    native_type: &'a str,
}

/// Everything before the rows.
#[derive(Debug, Serialize)]
struct Head<'a> {
    columns: Vec<RowsColumn<'a>>,
    row_count: u64,
    truncated: bool,
    timestamp: i64,
    time_zone: &'a str,
}

/// What the document says about its rows.
#[derive(Debug, Clone)]
pub struct Rows {
    pub row_count: u64,
    pub truncated: bool,
    pub timestamp: i64,
    pub time_zone: String,
}

impl Envelope for Rows {
    fn head(&self, columns: &[JsonColumn<'_>], out: &mut Vec<u8>) -> io::Result<()> {
        let head = Head {
            columns: columns.iter().map(column).collect(),
            row_count: self.row_count,
            truncated: self.truncated,
            timestamp: self.timestamp,
            time_zone: &self.time_zone,
        };
        serde_json::to_writer(&mut *out, &head)?;
        // The object goes on with the rows.
        out.pop();
        out.extend_from_slice(b",\"rows\":");
        Ok(())
    }

    fn tail(&self) -> &[u8] {
        b"}"
    }
}

fn column<'a>(column: &JsonColumn<'a>) -> RowsColumn<'a> {
    let logical = logical_type(column.field);
    RowsColumn {
        name: column.field.name(),
        kind: word(logical),
        encoding: column.quoted.then_some("string"),
        zoned: (logical == LogicalType::Instant).then_some(true),
        native_type: native_type(column.field),
    }
}

const fn word(logical: LogicalType) -> &'static str {
    match logical {
        LogicalType::Text | LogicalType::Uuid => "text",
        LogicalType::Integer | LogicalType::UnsignedBig => "integer",
        LogicalType::Number | LogicalType::Decimal => "number",
        LogicalType::Boolean => "boolean",
        LogicalType::Date => "date",
        LogicalType::Instant | LogicalType::DateTime => "datetime",
        LogicalType::Time => "time",
        LogicalType::Interval => "interval",
        LogicalType::Json => "json",
        LogicalType::Binary => "binary",
        LogicalType::Other => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::{DataType, Field};
    use landreeve_core::schema::describe;

    #[test]
    fn the_head_is_exact() {
        let field =
            |name: &str, logical, native| describe(Field::new(name, DataType::Utf8, true), logical, native);
        let fields = [
            (field("n", LogicalType::Integer, "n"), true),
            (field("t\"\\\n\u{1}\u{7f}\u{e9}", LogicalType::Text, ""), false),
            (field("at", LogicalType::Instant, "timestamp"), false),
            (field("d", LogicalType::Decimal, "n"), true),
            (field("o", LogicalType::Other, "n"), false),
        ];
        let columns: Vec<JsonColumn<'_>> =
            fields.iter().map(|(field, quoted)| JsonColumn { field, quoted: *quoted }).collect();
        let rows = Rows {
            row_count: 2,
            truncated: false,
            timestamp: 1_712_237_090,
            time_zone: "Europe/Berlin".to_owned(),
        };
        let mut out = b"before".to_vec();
        rows.head(&columns, &mut out).unwrap();
        let expected = concat!(
            r#"before{"columns":[{"name":"n","type":"integer","encoding":"string","native_type":"n"},"#,
            r#"{"name":"t\"\\\n\u0001"#,
            "\u{7f}\u{e9}",
            r#"","type":"text"},{"name":"at","type":"datetime","zoned":true,"native_type":"timestamp"},"#,
            r#"{"name":"d","type":"number","encoding":"string","native_type":"n"},"#,
            r#"{"name":"o","type":"unknown","native_type":"n"}],"row_count":2,"truncated":false,"#,
            r#""timestamp":1712237090,"time_zone":"Europe/Berlin","rows":"#,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(rows.tail(), b"}");
    }
}
