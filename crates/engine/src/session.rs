//! One statement's session: its memory, its catalog with just what the statement names, its plan.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::ViewTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateDefaults};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use landreeve_core::source::SourceError;
use landreeve_core::table::{EngineQuery, Tables};
use tokio::runtime::Handle;

use crate::EngineOptions;
use crate::error::{query as fault, translate};
use crate::functions;
use crate::output::Columns;
use crate::provider::Provider;
use crate::statement;
use crate::yielding::make_yielding;

const CATALOG: &str = "landreeve";
const SCHEMA: &str = "public";

/// A statement under way.
pub struct Started {
    pub schema: SchemaRef,
    pub columns: Columns,
    pub batches: SendableRecordBatchStream,
}

pub async fn start(
    options: &EngineOptions,
    tables: &Tables,
    query: &EngineQuery,
    sources: Handle,
) -> Result<Started, SourceError> {
    let frame = plan(options, tables, query, sources).await?;
    let columns = Columns::of(frame.schema().as_arrow())?;
    let failed = |error: DataFusionError| translate(&error);
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.and_then(make_yielding).map_err(failed)?;
    let batches = execute_stream(plan, context).map_err(failed)?;
    Ok(Started { schema: columns.schema(), columns, batches })
}

pub async fn plan(
    options: &EngineOptions,
    tables: &Tables,
    query: &EngineQuery,
    sources: Handle,
) -> Result<DataFrame, SourceError> {
    let statement = statement::prepare(&query.query.sql, &query.variables)?;
    let context = context(options, query).map_err(|error| translate(&error))?;
    let catalog = CatalogOf { context: &context, tables, sources, batch_rows: query.query.batch_rows };
    catalog.register(&statement, &mut HashSet::new()).await?;
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(|error| translate(&error))?;
    let only_reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reading.verify_plan(&plan).map_err(|error| translate(&error))?;
    Ok(DataFrame::new(state, plan))
}

fn context(options: &EngineOptions, query: &EngineQuery) -> Result<SessionContext, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(false)
        .with_target_partitions(options.threads.max(1))
        .with_batch_size(query.query.batch_rows.max(1));
    config.options_mut().execution.time_zone = Some("+00:00".to_owned());
    let most = NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN);
    let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_bytes), most);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    // By hand, so that neither file formats nor table factories are there.
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(functions::harmless(SessionStateDefaults::default_scalar_functions()))
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build();
    let mut context = SessionContext::new_with_state(state);
    datafusion_functions_json::register_all(&mut context)?;
    functions::all().into_iter().for_each(|function| context.register_udf(function));
    Ok(context)
}

/// Puts what a statement names into the session, views with what they name first.
struct CatalogOf<'a> {
    context: &'a SessionContext,
    tables: &'a Tables,
    sources: Handle,
    batch_rows: usize,
}

impl CatalogOf<'_> {
    async fn register(&self, statement: &Statement, known: &mut HashSet<String>) -> Result<(), SourceError> {
        let state = self.context.state();
        let names = state.resolve_table_references(statement).map_err(|error| translate(&error))?;
        for name in names {
            let outside = name.catalog().is_some_and(|catalog| catalog != CATALOG)
                || name.schema().is_some_and(|schema| schema != SCHEMA);
            if outside {
                return Err(fault(
                    "unknown_table",
                    format!("there is no table {name}: only those of the schema {SCHEMA}"),
                ));
            }
            if !known.insert(name.table().to_owned()) {
                continue;
            }
            self.add(name.table(), known).await?;
        }
        Ok(())
    }

    async fn add(&self, name: &str, known: &mut HashSet<String>) -> Result<(), SourceError> {
        let failed = |error: DataFusionError| translate(&error);
        let place = TableReference::full(CATALOG, SCHEMA, name);
        if let Some((_, table)) = self.tables.tables.iter().find(|(known, _)| *known == name) {
            let provider = Provider {
                table: Arc::clone(table),
                sources: self.sources.clone(),
                batch_rows: self.batch_rows,
            };
            self.context.register_table(place, Arc::new(provider)).map_err(failed)?;
        } else if let Some((_, sql)) = self.tables.views.iter().find(|(known, _)| *known == name) {
            let statement = statement::prepare(sql, &[])?;
            Box::pin(self.register(&statement, known)).await?;
            let plan = self.context.state().statement_to_plan(statement).await.map_err(failed)?;
            let view = ViewTable::new(plan, Some((*sql).to_owned()));
            self.context.register_table(place, Arc::new(view)).map_err(failed)?;
        }
        // What is neither may be a table function or a name of the statement itself; the planner says if not.
        Ok(())
    }
}
