//! Reads the catalog of a MySQL server from its information schema. Our schema is what MySQL calls a database.

use std::collections::HashMap;

use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use landreeve_core::source::SourceError;
use mysql_async::prelude::Queryable;

use super::connect::{Session, query_error};

const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

/// Engines that keep an exact row count; the others return an estimate.
const EXACT_ENGINES: [&str; 3] = ["MyISAM", "Aria", "MEMORY"];

/// Schema, name, type, engine, rows.
type ListedTable = (String, String, String, Option<String>, Option<u64>);

pub(super) async fn catalog(session: &mut Session, row_counts: bool) -> Result<Catalog, SourceError> {
    let version = session.version.clone();
    let conn = &mut session.conn;
    let default_schema: Option<Option<String>> =
        conn.query_first("SELECT DATABASE()").await.map_err(|error| query_error(&error))?;
    let names: Vec<String> = conn
        .query(format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {OWN} ORDER BY SCHEMA_NAME"
        ))
        .await
        .map_err(|error| query_error(&error))?;
    let columns: Vec<(String, String, String, String, String, u32)> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, ORDINAL_POSITION
               FROM information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN {OWN}
              ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await
        .map_err(|error| query_error(&error))?;
    // Some servers open every table to count rows, so we ask for counts only if they are wanted.
    let count = if row_counts { "TABLE_ROWS" } else { "NULL" };
    let tables: Vec<ListedTable> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, {count}
               FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN {OWN} ORDER BY TABLE_SCHEMA, TABLE_NAME"
        ))
        .await
        .map_err(|error| query_error(&error))?;
    let mut columns_of: HashMap<(String, String), Vec<ColumnInfo>> = HashMap::new();
    for (schema, table, name, data_type, nullable, position) in columns {
        let column = ColumnInfo { name, data_type, nullable: nullable == "YES", position };
        columns_of.entry((schema, table)).or_default().push(column);
    }
    let mut schemas: Vec<SchemaInfo> =
        names.into_iter().map(|name| SchemaInfo { name, tables: Vec::new() }).collect();
    for (schema, name, kind, engine, rows) in tables {
        let kind = if kind.contains("VIEW") { TableKind::View } else { TableKind::Table };
        let row_count = rows.filter(|_| kind == TableKind::Table);
        let exact = engine.is_some_and(|engine| EXACT_ENGINES.contains(&engine.as_str()));
        let columns = columns_of.remove(&(schema.clone(), name.clone())).unwrap_or_default();
        let table =
            TableInfo { name, kind, row_count, row_count_exact: exact && row_count.is_some(), columns };
        if let Some(known) = schemas.iter_mut().find(|known| known.name == schema) {
            known.tables.push(table);
        }
    }
    Ok(Catalog { server_version: version, default_schema: default_schema.flatten(), schemas })
}
