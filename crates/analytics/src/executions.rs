//! Executions: a query as a run. Submitting expands the parameters, so that it reports all their faults immediately;
//! executing streams the result into its stored form, with bounded memory.

use std::time::Duration;

use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::source::{ByteStream, CancellationToken, ConnectSpec, Query, QueryStream};
use landreeve_core::{
    Action, Category, Error, ErrorKind, Input, Noun, OpCtx, Permission, Result, RunKind, RunState,
};
use landreeve_estate::inventory::connect::{connect_spec, source_failure};
use landreeve_estate::ops::runs::{RunRef, Wait};
use landreeve_estate::ops::{self, Run};
use landreeve_estate::results::{self, BATCH_BYTES, BATCH_ROWS, Keeping};
use landreeve_estate::runs::{Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, PROBE};
use landreeve_estate::upkeep::SCHEMA_REFRESH;

use crate::ids::ReportId;

pub use landreeve_estate::results::{Facts as RowFacts, Wanted};

use crate::lang::InputParameters;
use crate::options::{self, Asking};
use crate::parameters::Statement;
use crate::stored::StoredQuery;
use crate::{Analytics, dashboards, reports};

/// The kinds of run that this plane shows as executions.
pub const KINDS: [RunKind; 3] = [QUERY.kind, SCHEMA_REFRESH.kind, PROBE.kind];

/// A query against a datasource.
pub const QUERY: KindSpec = KindSpec {
    reserves_memory: true,
    keep_record: DAY,
    keep_data: DAY,
    ..KindSpec::new("query", Category::Query)
};

/// Maximum length of a statement.
const MAX_SQL: usize = 1_024 * 1_024;
const DAY: Duration = Duration::from_secs(86_400);

/// An execution, with what is known about its result.
#[derive(Debug, Clone)]
pub struct Execution {
    pub run: Run,
    pub columns: Option<u64>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
}

impl From<Run> for Execution {
    fn from(run: Run) -> Execution {
        let result = results::summary(&run).filter(|_| run.kind == QUERY.kind);
        Execution {
            columns: result.as_ref().map(|result| result.columns),
            rows: result.as_ref().map(|result| result.rows),
            bytes: result.as_ref().map(|result| result.bytes),
            run,
        }
    }
}

/// A statement that a user wrote, with values for its parameters.
#[derive(Debug, Clone)]
pub struct NewExecution {
    pub sql: String,
    pub inputs: InputParameters,
}

/// Runs a statement that a user wrote.
pub async fn execution_run(
    plane: &Analytics,
    ctx: &OpCtx,
    datasource: DatasourceId,
    asked: impl Into<Input<NewExecution>>,
) -> Result<Execution> {
    let datasource = ops::datasources::datasource_for_use(plane.estate(), ctx, datasource).await?;
    let NewExecution { sql, inputs } = asked.into().valid()?;
    let (ou, sql, inputs) = (ctx.authority().ou(), sql.as_str(), &inputs);
    let statement = Statement { sql, datasource: &datasource, ou, dashboard: None, inputs };
    submit(plane, ctx, statement, None).await
}

/// Runs the statement of a report; its dashboard's defaults apply where there are no inputs.
pub async fn report_run(
    plane: &Analytics,
    ctx: &OpCtx,
    report: ReportId,
    inputs: Input<InputParameters>,
) -> Result<Execution> {
    let report = reports::report_get(plane, ctx, report).await?;
    let inputs = inputs.valid()?;
    let id = report.details.datasource;
    let id = id.ok_or_else(|| {
        Error::conflict("no_datasource", "the report's datasource was deleted; choose another")
    })?;
    let datasource = ops::datasources::datasource_for_use(plane.estate(), ctx, id).await?;
    let dashboard = match report.details.dashboard {
        Some(id) => dashboards::load(&mut plane.estate().store().read().await?, id).await?,
        None => None,
    };
    let statement = Statement {
        sql: &report.details.sql,
        datasource: &datasource,
        ou: report.ou,
        dashboard: dashboard.as_ref(),
        inputs: &inputs,
    };
    submit(plane, ctx, statement, Some(report.id)).await
}

async fn submit(
    plane: &Analytics,
    ctx: &OpCtx,
    statement: Statement<'_>,
    report: Option<ReportId>,
) -> Result<Execution> {
    if statement.sql.trim().is_empty() {
        return Err(Error::fault("sql_query", "required", "is required"));
    }
    if statement.sql.len() > MAX_SQL {
        return Err(Error::fault("sql_query", "too_large", format!("must have at most {MAX_SQL} bytes")));
    }
    let datasource = statement.datasource;
    let expanded = options::expand(plane, ctx, statement, &mut Asking::default()).await?;
    let input = StoredQuery {
        version: 3,
        datasource: datasource.id.0,
        report: report.map(|id| id.0),
        sql: expanded.sql,
        zone: expanded.shown_zone.name().to_owned(),
    };
    let new = NewRun {
        noun: Some((Noun::DATASOURCE, datasource.id.0)),
        lane: Some(Lane {
            name: format!("query:{}", datasource.id),
            limit: datasource.details.max_concurrent,
        }),
        time_limit: Some(plane.options().query_time_limit()),
        ..NewRun::new(&QUERY, ctx.authority().ou(), serde_json::to_string(&input).map_err(Error::internal)?)
    };
    ops::runs::submit(plane.estate(), ctx, new).await.map(Execution::from)
}

pub async fn execution_get(plane: &Analytics, ctx: &OpCtx, which: RunRef) -> Result<Execution> {
    ops::runs::run_get(plane.estate(), ctx, which, &KINDS).await.map(Execution::from)
}

/// Waits for the end of an execution that was submitted or read after the wait began.
pub async fn execution_wait(
    plane: &Analytics,
    ctx: &OpCtx,
    execution: Execution,
    wait: Wait,
) -> Result<Execution> {
    wait.until_ended(plane.estate(), ctx, execution.run).await.map(Execution::from)
}

pub async fn execution_cancel(plane: &Analytics, ctx: &OpCtx, which: RunRef) -> Result<Execution> {
    ops::runs::run_cancel(plane.estate(), ctx, which, &KINDS).await.map(Execution::from)
}

/// The key and token for an execution's data on the data server.
#[derive(Debug, Clone)]
pub struct DataGrant {
    pub key: String,
    pub token: String,
    /// Time of the data, in seconds since 1970.
    pub timestamp: i64,
}

/// `None` if the execution has no data, because it is still running or did not succeed.
pub async fn execution_data(plane: &Analytics, ctx: &OpCtx, which: RunRef) -> Result<Option<DataGrant>> {
    let run = ops::runs::run_get(plane.estate(), ctx, which, &KINDS).await?;
    if run.kind != QUERY.kind || run.state != RunState::Succeeded {
        return if run.data_expired(plane.estate().now()) { Err(gone()) } else { Ok(None) };
    }
    if run.data_expired(plane.estate().now()) {
        return Err(gone());
    }
    let permission = Permission::new(Noun::DATASOURCE, Action::USE);
    results::require_readable(ctx, &run, permission, run.noun_id().unwrap_or_default())?;
    let key = format!("r-{}", run.uuid);
    let token = ops::sign_in::data_token(plane.estate(), &key).await?;
    let timestamp = run.started_at.unwrap_or(run.submitted_at).as_second();
    Ok(Some(DataGrant { key, token, timestamp }))
}

fn gone() -> Error {
    Error::not_found("data")
        .saying("there is no such data: it is kept for 24 hours after the execution completed")
}

/// The data key and token for the schema of a datasource, or of one schema in it.
pub async fn schema_grant(
    plane: &Analytics,
    ctx: &OpCtx,
    datasource: DatasourceId,
    name: Option<&str>,
) -> Result<DataGrant> {
    let seen = ops::datasources::datasource_get(plane.estate(), ctx, datasource).await?;
    let id = plane.estate().hash_ids().encode_plain(seen.datasource.id);
    let key = match name {
        Some(name) => format!("s-{id}-{}", hex::encode(name)),
        None => format!("s-{id}"),
    };
    let token = ops::sign_in::data_token(plane.estate(), &key).await?;
    let timestamp = seen.datasource.schema_updated_at.map_or(0, jiff::Timestamp::as_second);
    Ok(DataGrant { key, token, timestamp })
}

fn unhex(text: &str) -> Option<String> {
    String::from_utf8(hex::decode(text).ok()?).ok()
}

/// What a data key refers to, for the bearer of its token.
pub enum Data {
    /// Rows as stored, with what the encoder must know.
    Rows { kept: ByteStream, facts: RowFacts },
    /// A schema. `one` is the only schema requested.
    Schema { catalog: landreeve_core::schema::Catalog, one: Option<String>, timestamp: i64 },
}

/// Opens the data that a token allows.
pub async fn data_open(plane: &Analytics, key: &str) -> Result<Data> {
    if let Some(rest) = key.strip_prefix("r-") {
        let uuid = rest.parse().map_err(|_| gone())?;
        return rows_open(plane, uuid).await;
    }
    let rest = key.strip_prefix("s-").ok_or_else(gone)?;
    let (id, one) = match rest.split_once('-') {
        Some((id, name)) => (id, Some(unhex(name).ok_or_else(gone)?)),
        None => (rest, None),
    };
    let id = plane.estate().hash_ids().decode_plain::<DatasourceId>(id).ok_or_else(gone)?;
    let found = ops::datasources::schema_by_token(plane.estate(), id).await?;
    let (catalog, read_at) = found.ok_or_else(|| {
        Error::not_found("schema").saying("the schema has not been read yet; refresh the datasource first")
    })?;
    if let Some(name) = &one
        && !catalog.schemas.iter().any(|schema| schema.name == *name)
    {
        return Err(Error::not_found("schema"));
    }
    Ok(Data::Schema { catalog, one, timestamp: read_at.as_second() })
}

async fn rows_open(plane: &Analytics, uuid: uuid::Uuid) -> Result<Data> {
    let opened = results::open(plane.estate(), uuid).await?.ok_or_else(gone)?;
    Ok(Data::Rows { kept: opened.kept, facts: opened.facts })
}

/// The rows in a format, streaming.
pub async fn rows_encode(
    plane: &Analytics,
    kept: ByteStream,
    facts: &RowFacts,
    wanted: Wanted,
) -> Result<ByteStream> {
    results::encode(plane.estate(), plane.codec(), kept, facts, wanted).await
}

/// Executes runs of kind `query`.
pub struct QueryExecutor(pub Analytics);

impl Executor for QueryExecutor {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(self.query(job))
    }
}

impl QueryExecutor {
    async fn query(&self, job: &Job) -> Outcome {
        let estate = self.0.estate();
        let input: StoredQuery = serde_json::from_str(&job.run.input).map_err(Error::internal)?;
        let datasource = ops::datasources::load(estate, DatasourceId(input.datasource)).await?;
        if !datasource.details.enabled {
            return Err(Failure::new(ErrorKind::Conflict, "disabled", "the datasource is disabled"));
        }
        // With the submitter's current permissions.
        let datasource = ops::datasources::datasource_for_use(estate, job.ctx(), datasource.id).await?;
        let reach = ops::datasources::reach(job.ctx(), &datasource);
        let spec = connect_spec(estate.outbound(), datasource.endpoint(), &reach).await?;
        let limit = job.run.time_limit.unwrap_or(self.0.options().query_time_limit());
        let stream = start(&self.0, spec, input.sql.clone(), limit, job.token()).await;
        let stream = stream.map_err(|error| source_failure(&error, Some(limit)))?;
        let keeping = Keeping {
            estate,
            codec: self.0.codec(),
            max_bytes: self.0.options().max_result_bytes,
            setting: "[analytics] max_result_bytes",
            zone: input.zone,
            reach,
        };
        keeping.keep(stream, job).await
    }
}

async fn start(
    plane: &Analytics,
    spec: ConnectSpec,
    sql: String,
    limit: Duration,
    cancel: CancellationToken,
) -> Result<QueryStream, landreeve_core::source::SourceError> {
    let driver = plane.estate().driver(spec.database_type).map_err(|error| {
        landreeve_core::source::SourceError::new(
            landreeve_core::source::SourceErrorKind::Unsupported,
            error.message,
        )
    })?;
    let query = Query {
        sql,
        time_limit: limit,
        batch_rows: BATCH_ROWS,
        batch_bytes: BATCH_BYTES,
        decimals: Vec::new(),
    };
    plane.estate().connections().query(&*driver, spec, query, cancel).await
}
