//! The session of one statement: its memory, a catalog with only what the statement names, its plan.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::catalog::MemorySchemaProvider;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::ViewTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry as _, SendableRecordBatchStream, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use landreeve_core::source::{CancellationToken, SourceError};
use landreeve_core::table::{EngineQuery, Flavour, Readable, TableName, Tables, Variable, View};
use tokio::runtime::Handle;

use crate::admission::Admission;
use crate::bounds::operators::{self, Operators};
use crate::bounds::{Bounds, aggregate, scalar};
use crate::error::{query as fault, stopped, translate};
use crate::explain::{self, Recorder};
use crate::flavour::POSTGRESQL;
use crate::output::Columns;
use crate::provider::Provider;
use crate::scan::{self, Read};
use crate::vql::{self, Writer};
use crate::yielding::make_yielding;
use crate::{AbortOnDrop, EngineOptions, Place, functions, growth, names, reading, statement, subqueries};

const CATALOG: &str = "landreeve";

/// What a statement can name, and where that is read.
pub struct Sources {
    tables: Readable,
    /// The threads that own the connections of catalogs and tables.
    handle: Handle,
    cancel: CancellationToken,
    /// For EXPLAIN.
    recorder: Recorder,
    admission: Admission,
    /// Of a statement that runs.
    place: Option<Arc<Place>>,
}

impl Sources {
    /// Must be called on those threads.
    pub fn new(tables: Readable, cancel: CancellationToken, place: Option<Arc<Place>>) -> Sources {
        Sources {
            tables,
            handle: Handle::current(),
            cancel,
            recorder: Recorder::default(),
            admission: Admission::default(),
            place,
        }
    }

    fn default_schema(&self) -> &str {
        self.tables.catalog.default_schema(&self.tables.reader)
    }

    fn flavour(&self) -> Flavour {
        self.tables.catalog.flavour()
    }

    async fn resolve(&self, names: Vec<TableName>) -> Result<Tables, SourceError> {
        let Readable { catalog, reader } = self.tables.clone();
        self.away(async move { catalog.resolve(&reader, &names).await }).await
    }

    /// Waits for a catalog on the threads that own its connections. One of virtual databases may wait for a source, and
    /// meanwhile the engine has a place for another statement.
    async fn away<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        let mut working = AbortOnDrop(self.handle.spawn(work));
        let done = match &self.place {
            Some(place) if self.flavour() == Flavour::Vql => place.leave(&mut working.0).await?,
            _ => (&mut working.0).await,
        };
        done.map_err(|_| stopped())?
    }

    /// Waits for the connections that a plan needs.
    async fn admit(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<(), SourceError> {
        let wanted = scan::connections(plan).map_err(|error| translate(&error))?;
        if wanted.is_empty() {
            return Ok(());
        }
        let (catalog, asked) = (Arc::clone(&self.tables.catalog), wanted.clone());
        self.admission.grant(&wanted, self.away(async move { catalog.admit(asked).await }).await?);
        Ok(())
    }
}

/// A running statement.
pub struct Started {
    pub schema: SchemaRef,
    pub columns: Columns,
    pub max_value: u64,
    pub batches: SendableRecordBatchStream,
}

pub async fn start(
    options: &EngineOptions,
    sources: &Sources,
    query: &EngineQuery,
) -> Result<Started, SourceError> {
    let (frame, bounds, explains) = planned(options, sources, query).await?;
    let failed = |error: DataFusionError| translate(&error);
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.map_err(failed)?;
    operators::verify(&plan).map_err(failed)?;
    let plan = make_yielding(plan, options.memory_bytes / 2).map_err(failed)?;
    bounds.planned();
    // Types that several selects have together are decided on the way to this plan.
    let columns = match explains {
        true => Columns::of(&explain::schema())?,
        false => Columns::of(&plan.schema())?,
    };
    let batches = match explains {
        true => explain::rows(&sources.recorder, &plan).map_err(failed)?,
        false => {
            sources.admit(&plan).await?;
            execute_stream(plan, context).map_err(failed)?
        }
    };
    Ok(Started { schema: columns.schema(), columns, max_value: bounds.max_value(), batches })
}

/// Checks a statement without running it.
pub async fn plan(
    options: &EngineOptions,
    sources: &Sources,
    query: &EngineQuery,
) -> Result<(), SourceError> {
    planned(options, sources, query).await.map(drop)
}

async fn planned(
    options: &EngineOptions,
    sources: &Sources,
    query: &EngineQuery,
) -> Result<(DataFrame, Arc<Bounds>, bool), SourceError> {
    let flavour = sources.flavour();
    let explained = if flavour == Flavour::Vql { explain::explained(&query.query.sql) } else { None };
    let sql = explained.as_deref().unwrap_or(&query.query.sql);
    let statement = prepare(sql, flavour, Writer::Caller, &query.variables)?;
    let schema = sources.default_schema();
    let (context, bounds) =
        context(options, query, schema, flavour, &sources.cancel).map_err(|error| translate(&error))?;
    let catalog = CatalogOf { context: &context, sources, batch_rows: query.query.batch_rows };
    catalog.register(&statement, schema, None, &mut HashMap::new()).await?;
    let state = context.state();
    let plan = read_plan(&state, statement, flavour).await;
    let plan = plan.map_err(|error| match flavour {
        Flavour::Postgres => translate(&error),
        Flavour::Vql => vql::located(sql, &error),
    })?;
    let only_reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reading.verify_plan(&plan).map_err(|error| translate(&error))?;
    growth::check(&plan)?;
    subqueries::check(&plan)?;
    Ok((DataFrame::new(state, plan), bounds, explained.is_some()))
}

fn prepare(
    sql: &str,
    flavour: Flavour,
    writer: Writer,
    variables: &[(String, Variable)],
) -> Result<Statement, SourceError> {
    match flavour {
        Flavour::Postgres => statement::prepare(sql, &POSTGRESQL, variables),
        Flavour::Vql => vql::prepare(sql, writer, variables),
    }
}

/// What a statement says, before anything is decided about it.
async fn read_plan(
    state: &SessionState,
    statement: Statement,
    flavour: Flavour,
) -> Result<LogicalPlan, DataFusionError> {
    let plan = state.statement_to_plan(planned_form(statement)).await?;
    match flavour {
        Flavour::Postgres => Ok(plan),
        Flavour::Vql => vql::rows::align(plan),
    }
}

fn planned_form(statement: Statement) -> DfStatement {
    DfStatement::Statement(Box::new(statement))
}

fn context(
    options: &EngineOptions,
    query: &EngineQuery,
    schema: &str,
    flavour: Flavour,
    cancel: &CancellationToken,
) -> Result<(SessionContext, Arc<Bounds>), DataFusionError> {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, schema)
        .with_information_schema(false)
        .with_target_partitions(options.threads.max(1))
        .with_batch_size(query.query.batch_rows.max(1));
    config.options_mut().execution.time_zone = Some("+00:00".to_owned());
    if flavour == Flavour::Vql {
        vql::session::configure(config.options_mut());
    }
    // Each sorted part reserves this much, and a table may have many parts.
    let aside = config.options().execution.sort_spill_reservation_bytes;
    config.options_mut().execution.sort_spill_reservation_bytes = aside.min(options.memory_bytes / 64);
    let most = NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN);
    let pool: Arc<dyn MemoryPool> =
        Arc::new(TrackConsumersPool::new(FairSpillPool::new(options.memory_bytes), most));
    let bounds = Bounds::new(options.max_value_bytes, &pool, cancel.clone());
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_bytes);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk).build_arc()?;
    // Built by hand, so that there are no file formats or table factories.
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners());
    let context = match flavour {
        Flavour::Postgres => in_postgresql(builder, &bounds)?,
        Flavour::Vql => in_vql(builder, &bounds)?,
    };
    Ok((context, bounds))
}

fn in_postgresql(
    builder: SessionStateBuilder,
    bounds: &Arc<Bounds>,
) -> Result<SessionContext, DataFusionError> {
    let state = builder
        .with_aggregate_functions(aggregate::bounded(
            SessionStateDefaults::default_aggregate_functions(),
            bounds,
        ))
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build();
    let mut context = SessionContext::new_with_state(state);
    datafusion_functions_json::register_all(&mut context)?;
    let mut functions: Vec<_> = context.state().scalar_functions().values().cloned().collect();
    functions.extend(SessionStateDefaults::default_scalar_functions());
    functions.extend(functions::all());
    for function in functions {
        match scalar::bounded(Arc::clone(&function), bounds) {
            Some(function) => context.register_udf(function),
            None => context.deregister_udf(function.name()),
        }
    }
    // After those of the JSON functions, so that it sees the calls that they make.
    context.register_function_rewrite(Arc::new(Operators::new(bounds)?))?;
    Ok(context)
}

fn in_vql(builder: SessionStateBuilder, bounds: &Arc<Bounds>) -> Result<SessionContext, DataFusionError> {
    let state = builder
        .with_scalar_functions(vql::session::scalar_functions(bounds))
        .with_aggregate_functions(vql::session::aggregate_functions(bounds))
        .with_window_functions(vql::session::window_functions())
        .build();
    let mut context = SessionContext::new_with_state(state);
    for rewrite in vql::session::rewrites(bounds)? {
        context.register_function_rewrite(rewrite)?;
    }
    Ok(context)
}

/// Maximum nesting of views. A view that refers to itself would never end.
const fn deepest_view(flavour: Flavour) -> usize {
    match flavour {
        Flavour::Postgres => 16,
        Flavour::Vql => 64,
    }
}

/// The number of base tables in each table and view that is registered.
type Known = HashMap<TableName, u64>;

/// The view whose SELECT is registered.
#[derive(Clone, Copy)]
struct Around<'a> {
    view: &'a TableName,
    depth: usize,
    /// Where the view was found.
    found: &'a Tables,
}

/// Registers everything a statement names in the session; for views, what they name comes first.
struct CatalogOf<'a> {
    context: &'a SessionContext,
    sources: &'a Sources,
    batch_rows: usize,
}

impl CatalogOf<'_> {
    /// `schema` is that of unqualified names. Returns the number of base tables in the statement once it is expanded.
    async fn register(
        &self,
        statement: &Statement,
        schema: &str,
        view: Option<Around<'_>>,
        known: &mut Known,
    ) -> Result<u64, SourceError> {
        let depth = view.map_or(0, |around| around.depth);
        let flavour = self.sources.flavour();
        let failed = |error: DataFusionError| translate(&error);
        let form = planned_form(statement.clone());
        let named = self.context.state().resolve_table_references(&form).map_err(failed)?;
        let mut names = Vec::new();
        for name in named {
            if name.catalog().is_some_and(|catalog| catalog != CATALOG) {
                return Err(self.unknown(&name));
            }
            let full = TableName::new(name.schema().unwrap_or(schema), name.table());
            // Views of a virtual database may read others, statements may not.
            if flavour == Flavour::Vql && view.is_none() && full.schema != schema {
                return Err(self.unknown(&name));
            }
            if !known.contains_key(&full) {
                names.push((full, name.schema().is_some(), name));
            }
        }
        if !names.is_empty() {
            let asked = || names.iter().map(|(full, ..)| full.clone()).collect();
            let resolved;
            let found = match view {
                // What a statement names came with everything below it, in one version.
                Some(around) if flavour == Flavour::Vql => around.found,
                _ => {
                    resolved = self.sources.resolve(asked()).await?;
                    &resolved
                }
            };
            for (full, qualified, name) in &names {
                // A view before it in the statement may read it too, and was registered with it.
                if known.contains_key(full) {
                    continue;
                }
                known.insert(full.clone(), 1);
                self.add(full, found, known, depth).await?;
                // An unqualified name may be a table function or defined in the statement; if not, the planner reports
                // it.
                let is_found = found.tables.iter().any(|(found, _)| found == full)
                    || found.views.iter().any(|(found, _)| found == full);
                if *qualified && !is_found && full.schema != self.sources.default_schema() {
                    return Err(match view {
                        Some(around) => {
                            self.invalid(around.view, fault("invalid", format!("View '{full}' not found")))
                        }
                        None => self.unknown(name),
                    });
                }
            }
        }
        let weigh = |name: &ObjectName| known.get(&names::table_name(name, schema)).copied().unwrap_or(1);
        let size = reading::expanded(statement, &weigh);
        size.map_err(|error| view.map_or(error.clone(), |around| self.invalid(around.view, error)))
    }

    /// The error of a view that cannot be planned.
    fn invalid(&self, view: &TableName, error: SourceError) -> SourceError {
        match self.sources.flavour() {
            Flavour::Postgres => error,
            Flavour::Vql => vql::columns::invalid(view, error),
        }
    }

    fn unknown(&self, name: &TableReference) -> SourceError {
        let schema = self.sources.default_schema();
        let message = match self.sources.flavour() {
            Flavour::Postgres => format!(
                "unknown table {name}: use a table of the schema {schema} or of another schema of this datasource"
            ),
            Flavour::Vql => {
                format!(
                    "{name} is in another database: a statement on this datasource names views of {schema}"
                )
            }
        };
        fault("unknown_table", message)
    }

    async fn add(
        &self,
        name: &TableName,
        found: &Tables,
        known: &mut Known,
        depth: usize,
    ) -> Result<(), SourceError> {
        let failed = |error: DataFusionError| translate(&error);
        let place = || TableReference::full(CATALOG, name.schema.as_str(), name.name.as_str());
        if let Some((_, table)) = found.tables.iter().find(|(known, _)| known == name) {
            self.make_schema(&name.schema).map_err(failed)?;
            let provider = Provider {
                read: Read {
                    table: Arc::clone(table),
                    sources: self.sources.handle.clone(),
                    admission: self.sources.admission.clone(),
                },
                batch_rows: self.batch_rows,
                cancel: self.sources.cancel.clone(),
                recorder: self.sources.recorder.clone(),
            };
            self.context.register_table(place(), Arc::new(provider)).map_err(failed)?;
        } else if let Some((_, view)) = found.views.iter().find(|(known, _)| known == name) {
            let deepest = deepest_view(self.sources.flavour());
            if depth == deepest {
                let message =
                    format!("the view {name} is built on more than {deepest} nested views, or on itself");
                return Err(fault("too_deep", message));
            }
            self.make_schema(&name.schema).map_err(failed)?;
            let table = self.expand(name, view, found, known, depth).await?;
            self.context.register_table(place(), Arc::new(table)).map_err(failed)?;
        }
        Ok(())
    }

    /// A view as the plan of its SELECT.
    async fn expand(
        &self,
        name: &TableName,
        view: &View,
        found: &Tables,
        known: &mut Known,
        depth: usize,
    ) -> Result<ViewTable, SourceError> {
        let invalid = |error| self.invalid(name, error);
        let mut statement = prepare(&view.sql, self.sources.flavour(), Writer::View, &[]).map_err(invalid)?;
        let around = Some(Around { view: name, depth: depth + 1, found });
        let size = Box::pin(self.register(&statement, &view.schema, around, known)).await?;
        known.insert(name.clone(), size.max(1));
        if view.schema != self.sources.default_schema() {
            names::qualify(&mut statement, &view.schema);
        }
        let planned = read_plan(&self.context.state(), statement, self.sources.flavour()).await;
        let mut plan = planned.map_err(|error| invalid(translate(&error)))?;
        if let Some(columns) = &view.columns {
            plan = vql::columns::as_stored(plan, columns, name)?;
        }
        Ok(ViewTable::new(plan, Some(view.sql.clone())))
    }

    fn make_schema(&self, name: &str) -> Result<(), DataFusionError> {
        let catalog = self.context.catalog(CATALOG);
        let catalog = catalog.ok_or_else(|| DataFusionError::Internal("no catalog".to_owned()))?;
        if catalog.schema(name).is_none() {
            catalog.register_schema(name, Arc::new(MemorySchemaProvider::new()))?;
        }
        Ok(())
    }
}
