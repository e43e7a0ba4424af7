//! A plane's tables as a datasource: the same port behind which the users' databases stand.

use std::sync::Arc;

use futures_util::StreamExt as _;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::{
    Catalog as Described, ColumnInfo, SchemaInfo, TableInfo, TableKind, native_type,
};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Query, QueryStream, ServerInfo, SessionZone, SourceError,
    SourceErrorKind, Target,
};
use landreeve_core::table::{Catalog, EngineQuery, SqlEngine, Tables};

const BATCH: usize = 1_024;

pub struct EngineDriver {
    pub engine: Arc<dyn SqlEngine>,
    pub catalog: Arc<dyn Catalog>,
}

impl EngineDriver {
    fn tables(&self, spec: &ConnectSpec) -> Result<Tables, SourceError> {
        match &spec.target {
            Target::Estate { subtrees } => Ok(self.catalog.tables(subtrees)),
            Target::Network { .. } | Target::File(_) => Err(SourceError::new(
                SourceErrorKind::Connect,
                "this source is part of the server and has no address",
            )),
        }
    }

    async fn columns(
        &self,
        spec: &ConnectSpec,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<Vec<ColumnInfo>, SourceError> {
        let query = Query {
            sql: format!("SELECT * FROM {name} LIMIT 0"),
            time_limit: spec.connect_timeout,
            batch_rows: BATCH,
            batch_bytes: BATCH * BATCH,
        };
        let stream = self.query(spec, query, cancel.clone()).await?;
        let fields = stream.schema.fields().iter().zip(1..);
        let described = fields.map(|(field, position)| ColumnInfo {
            name: field.name().clone(),
            data_type: native_type(field).to_owned(),
            nullable: true,
            position,
        });
        let described = described.collect();
        // Read to its end, so that it does not count as cancelled.
        stream.batches.for_each(|_| async {}).await;
        Ok(described)
    }
}

impl Driver for EngineDriver {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        Box::pin(async move {
            self.tables(spec)?;
            let version = format!("Landreeve {} (DataFusion)", env!("CARGO_PKG_VERSION"));
            Ok(ServerInfo { version, zone: SessionZone::AsAsked })
        })
    }

    /// Row counts differ from reader to reader, so there are none.
    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        _: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Described, SourceError>> {
        Box::pin(async move {
            let known = self.tables(spec)?;
            let tables = known.tables.iter().map(|(name, _)| (*name, TableKind::Table));
            let views = known.views.iter().map(|(name, _)| (*name, TableKind::View));
            let mut described = Vec::new();
            for (name, kind) in tables.chain(views) {
                let columns = self.columns(spec, name, &cancel).await?;
                let row_count = None;
                described.push(TableInfo {
                    name: name.to_owned(),
                    kind,
                    row_count,
                    row_count_exact: false,
                    columns,
                });
            }
            described.sort_by(|left, right| left.name.cmp(&right.name));
            let server_version = self.test(spec, cancel).await?.version;
            let schema = SchemaInfo { name: "public".to_owned(), tables: described };
            Ok(Described { server_version, default_schema: Some("public".to_owned()), schemas: vec![schema] })
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
