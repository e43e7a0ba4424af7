//! Reads the catalog of a PostgreSQL database.

use std::collections::HashMap;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use landreeve_core::source::SourceError;
use tokio_postgres::Row;

use super::connect::{Session, query_error};
use crate::errors;

/// Tables (including partitioned and foreign ones), views and materialized views that the user may read. Partitions are
/// left out: their parent contains their rows. The planner's estimate is -1 before the first ANALYZE; for a partitioned
/// table it is the sum of its partitions.
const TABLES: &str = "
    SELECT n.nspname::text, c.relname::text, c.relkind::text,
           CASE WHEN c.relkind = 'p'
                THEN (SELECT sum(p.reltuples) FROM pg_catalog.pg_inherits i
                      JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = c.oid)::float8
                ELSE c.reltuples::float8 END
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
       AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
     ORDER BY 1, 2";

const COLUMNS: &str = "
    SELECT n.nspname::text, c.relname::text, a.attname::text,
           pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           (row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum))::int8
      FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
     ORDER BY 1, 2, 6";

const SCHEMAS: &str = "
    SELECT nspname::text FROM pg_catalog.pg_namespace
     WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_t%'
       AND pg_catalog.has_schema_privilege(oid, 'USAGE') ORDER BY 1";

/// The query that Redshift and CrateDB support too.
const PLAIN_TABLES: &str = "
    SELECT table_schema::text, table_name::text, CASE WHEN table_type = 'VIEW' THEN 'v' ELSE 'r' END, NULL::float8
      FROM information_schema.tables
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'sys', 'blob') ORDER BY 1, 2";

const PLAIN_COLUMNS: &str = "
    SELECT table_schema::text, table_name::text, column_name::text, data_type::text, is_nullable = 'YES',
           ordinal_position::int8
      FROM information_schema.columns
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'sys', 'blob') ORDER BY 1, 2, 6";

pub(super) async fn catalog(session: &Session, row_counts: bool) -> Result<Catalog, SourceError> {
    let plain = session.dialect != SqlDialect::Postgres;
    let (tables, columns) = if plain { (PLAIN_TABLES, PLAIN_COLUMNS) } else { (TABLES, COLUMNS) };
    let mut schemas: Vec<SchemaInfo> = Vec::new();
    if !plain {
        for row in rows(session, SCHEMAS).await? {
            schemas.push(SchemaInfo { name: get(&row, 0)?, tables: Vec::new() });
        }
    }
    let mut columns_of: HashMap<(String, String), Vec<ColumnInfo>> = HashMap::new();
    for row in rows(session, columns).await? {
        let position: i64 = get(&row, 5)?;
        columns_of.entry((get(&row, 0)?, get(&row, 1)?)).or_default().push(ColumnInfo {
            name: get(&row, 2)?,
            data_type: get(&row, 3)?,
            nullable: get(&row, 4)?,
            position: u32::try_from(position).unwrap_or(0),
        });
    }
    for row in rows(session, tables).await? {
        let (schema, name, kind): (String, String, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let estimate: Option<f64> = get(&row, 3)?;
        let kind = if kind == "v" { TableKind::View } else { TableKind::Table };
        let row_count = estimate.filter(|rows| row_counts && *rows >= 0.0 && kind == TableKind::Table);
        let table = TableInfo {
            columns: columns_of.remove(&(schema.clone(), name.clone())).unwrap_or_default(),
            name,
            kind,
            row_count: row_count.map(|rows| rows as u64),
            row_count_exact: false,
        };
        match schemas.iter_mut().find(|known| known.name == schema) {
            Some(known) => known.tables.push(table),
            None => schemas.push(SchemaInfo { name: schema, tables: vec![table] }),
        }
    }
    let default_schema = match rows(session, "SELECT current_schema()::text").await?.first() {
        Some(row) => get(row, 0)?,
        None => None,
    };
    Ok(Catalog { server_version: session.version.clone(), default_schema, schemas })
}

pub(super) async fn rows(session: &Session, sql: &str) -> Result<Vec<Row>, SourceError> {
    session.client.query_typed(sql, &[]).await.map_err(|error| query_error(&error, 0))
}

pub(super) fn get<'a, T: postgres_types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, SourceError> {
    row.try_get(index).map_err(|error| {
        errors::lost(format!("unexpected response from the catalog: {}", errors::chain(&error)))
    })
}
