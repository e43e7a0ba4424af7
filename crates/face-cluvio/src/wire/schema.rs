//! The schema of a datasource, as the data server shows it.

use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use serde::Serialize;
use utoipa::ToSchema;

/// All schemas of a datasource.
#[derive(Debug, Serialize, ToSchema)]
pub struct FullSchema<'a> {
    schemas: Vec<Schema<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Schema<'a> {
    #[schema(example = "public")]
    name: &'a str,
    default: bool,
    tables: Vec<Table<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Table<'a> {
    #[schema(example = "orders")]
    name: &'a str,
    /// `table` or `view`.
    kind: &'static str,
    row_count: Option<u64>,
    row_count_exact: bool,
    columns: Vec<Column<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Column<'a> {
    #[schema(example = "o_orderdate")]
    name: &'a str,
    #[serde(rename = "type")]
    #[schema(example = "date")]
    data_type: &'a str,
    nullable: bool,
    position: u32,
}

pub fn render(catalog: &Catalog) -> FullSchema<'_> {
    FullSchema { schemas: catalog.schemas.iter().map(|schema| of(catalog, schema)).collect() }
}

/// The schema with a name.
pub fn render_one<'a>(catalog: &'a Catalog, name: &str) -> Option<Schema<'a>> {
    catalog.schemas.iter().find(|schema| schema.name == name).map(|schema| of(catalog, schema))
}

fn of<'a>(catalog: &Catalog, schema: &'a SchemaInfo) -> Schema<'a> {
    Schema {
        name: &schema.name,
        default: catalog.default_schema.as_deref() == Some(&schema.name),
        tables: schema.tables.iter().map(table).collect(),
    }
}

fn table(table: &TableInfo) -> Table<'_> {
    Table {
        name: &table.name,
        kind: match table.kind {
            TableKind::Table => "table",
            TableKind::View => "view",
        },
        row_count: table.row_count,
        row_count_exact: table.row_count_exact,
        columns: table.columns.iter().map(column).collect(),
    }
}

fn column(column: &ColumnInfo) -> Column<'_> {
    Column {
        name: &column.name,
        data_type: &column.data_type,
        nullable: column.nullable,
        position: column.position,
    }
}
