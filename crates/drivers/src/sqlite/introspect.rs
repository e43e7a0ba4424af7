//! Reads the catalog of a SQLite file.

use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use landreeve_core::source::SourceError;
use rusqlite::Connection;

use super::open::error;

pub(super) fn catalog(connection: &Connection, row_counts: bool) -> Result<Catalog, SourceError> {
    let tables = tables(connection, row_counts).map_err(|failure| error(&failure, None))?;
    Ok(Catalog {
        server_version: rusqlite::version().to_owned(),
        default_schema: Some("main".to_owned()),
        schemas: vec![SchemaInfo { name: "main".to_owned(), tables }],
    })
}

fn tables(connection: &Connection, row_counts: bool) -> rusqlite::Result<Vec<TableInfo>> {
    let mut listed = connection.prepare(
        "SELECT name, type = 'view' FROM pragma_table_list
          WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
          ORDER BY name",
    )?;
    let names: Vec<(String, bool)> =
        listed.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut tables = Vec::with_capacity(names.len());
    for (name, is_view) in names {
        let columns = columns(connection, &name);
        // A view may refer to a table that is gone; it is still listed, without columns.
        let columns = if is_view { columns.unwrap_or_default() } else { columns? };
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let row_count = if row_counts && !is_view {
            let count: i64 =
                connection.query_row(&format!("SELECT count(*) FROM {quoted}"), [], |row| row.get(0))?;
            u64::try_from(count).ok()
        } else {
            None
        };
        let kind = if is_view { TableKind::View } else { TableKind::Table };
        tables.push(TableInfo { name, kind, row_count_exact: row_count.is_some(), row_count, columns });
    }
    Ok(tables)
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let mut listed = connection
        .prepare("SELECT name, type, \"notnull\" = 0 AND pk = 0, cid + 1 FROM pragma_table_info(?1)")?;
    listed
        .query_map([table], |row| {
            let data_type: String = row.get(1)?;
            Ok(ColumnInfo {
                name: row.get(0)?,
                data_type: data_type.to_ascii_lowercase(),
                nullable: row.get(2)?,
                position: row.get(3)?,
            })
        })?
        .collect()
}
