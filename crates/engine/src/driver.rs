//! Catalogs as datasources, behind the same port as the users' databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{Field, SchemaRef};
use futures_util::StreamExt as _;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::{Catalog as Described, ColumnInfo, SchemaInfo, TableInfo, native_type};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Query, QueryStream, ServerInfo, SessionZone, SourceError,
    SourceErrorKind, Target,
};
use landreeve_core::table::{Catalog, EngineQuery, Listed, Readable, SqlEngine};

const BATCH: usize = 1_024;

pub struct EngineDriver {
    pub engine: Arc<dyn SqlEngine>,
    /// By the name in `Target::Tables`.
    pub catalogs: BTreeMap<String, Arc<dyn Catalog>>,
}

impl EngineDriver {
    fn tables(&self, spec: &ConnectSpec) -> Result<Readable, SourceError> {
        let wrong = |message: String| SourceError::new(SourceErrorKind::Connect, message);
        match &spec.target {
            Target::Tables { catalog, reader } => {
                let known = self.catalogs.get(catalog);
                let catalog = known.ok_or_else(|| wrong(format!("unknown catalog {catalog:?}")))?;
                Ok(Readable { catalog: Arc::clone(catalog), reader: reader.clone() })
            }
            Target::Network { .. } | Target::File(_) => {
                Err(wrong("this datasource is built into the server and has no address".to_owned()))
            }
        }
    }

    /// The columns of a table: those that its catalog knows, or those that a statement finds.
    async fn columns(
        &self,
        spec: &ConnectSpec,
        listed: &Listed,
        cancel: &CancellationToken,
    ) -> Result<Vec<ColumnInfo>, SourceError> {
        if let Some(columns) = &listed.columns {
            return Ok(described(columns));
        }
        let name = &listed.name;
        let query = Query {
            sql: format!("SELECT * FROM {}.{} LIMIT 0", quoted(&name.schema), quoted(&name.name)),
            time_limit: spec.connect_timeout,
            batch_rows: BATCH,
            batch_bytes: BATCH * BATCH,
            decimals: Vec::new(),
        };
        let stream = self.query(spec, query, cancel.clone()).await?;
        let described = described(&stream.schema);
        // Read to the end, so that it does not count as cancelled.
        stream.batches.for_each(|_| async {}).await;
        Ok(described)
    }
}

impl Driver for EngineDriver {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        Box::pin(async move {
            let known = self.tables(spec)?;
            // Fails if there is no such database.
            tokio::select! {
                listed = known.catalog.list(&known.reader) => drop(listed?),
                () = cancel.cancelled() => return Err(crate::error::cancelled()),
            }
            let version = format!("Landreeve {} (DataFusion)", env!("CARGO_PKG_VERSION"));
            Ok(ServerInfo { version, zone: SessionZone::AsAsked })
        })
    }

    /// Returns no row counts, because they differ from reader to reader.
    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        _: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Described, SourceError>> {
        Box::pin(async move {
            let known = self.tables(spec)?;
            let default = known.catalog.default_schema(&known.reader).to_owned();
            let listed = tokio::select! {
                listed = known.catalog.list(&known.reader) => listed?,
                () = cancel.cancelled() => return Err(crate::error::cancelled()),
            };
            // The default schema is listed even if it is empty.
            let names: BTreeSet<&String> =
                listed.iter().map(|listed| &listed.name.schema).chain([&default]).collect();
            let mut schemas = Vec::new();
            for schema in names {
                let mut tables = Vec::new();
                for listed in listed.iter().filter(|listed| listed.name.schema == *schema) {
                    tables.push(TableInfo {
                        name: listed.name.name.clone(),
                        kind: listed.kind,
                        row_count: None,
                        row_count_exact: false,
                        columns: self.columns(spec, listed, &cancel).await?,
                    });
                }
                tables.sort_by(|left, right| left.name.cmp(&right.name));
                schemas.push(SchemaInfo { name: schema.clone(), tables });
            }
            let server_version = self.test(spec, cancel).await?.version;
            Ok(Described { server_version, default_schema: Some(default.clone()), schemas })
        })
    }

    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            let query = EngineQuery { query, variables: Vec::new(), max_rows: None };
            self.engine.query(self.tables(spec)?, query, cancel).await
        })
    }

    /// There are no connections.
    fn forget(&self, _: DatasourceId) {}
}

fn described(schema: &SchemaRef) -> Vec<ColumnInfo> {
    let column = |(field, position): (&Arc<Field>, u32)| ColumnInfo {
        name: field.name().clone(),
        data_type: native_type(field).to_owned(),
        nullable: true,
        position,
    };
    schema.fields().iter().zip(1..).map(column).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
