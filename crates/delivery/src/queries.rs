//! Query runs: SQL over delivery data as a run, with its result stored like that of any other query.

use std::time::Duration;

use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::BoxFuture;
use landreeve_core::source::{
    ByteStream, CancellationToken, Query, QueryStream, SourceError, SourceErrorKind,
};
use landreeve_core::table::{EngineQuery, Variable};
use landreeve_core::{Action, Category, Error, Input, Noun, OpCtx, Permission, Result, RunKind, RunState};
use landreeve_estate::inventory::connect::source_failure;
use landreeve_estate::ops::runs::{RunRef, run_get, submit};
use landreeve_estate::ops::{self, Run};
use landreeve_estate::results::{self, BATCH_BYTES, BATCH_ROWS, Keeping, Wanted};
use landreeve_estate::runs::{Executor, Job, KindSpec, Lane, NewRun, Outcome, PROBE};

use crate::stored::{StoredDataQuery, StoredVariable};
use crate::{Delivery, nouns};

/// The kinds of run that this plane shows as query runs.
pub const KINDS: [RunKind; 2] = [DATA_QUERY.kind, PROBE.kind];

/// A SQL query over this server's delivery data.
pub const DATA_QUERY: KindSpec =
    KindSpec { reserves_memory: true, ..KindSpec::new("data_query", Category::Query) };

const MAX_SQL: usize = 64 * 1_024;
const MAX_VARIABLES: usize = 1_000;
const MAX_VALUES: usize = 10_000;
/// Maximum number of concurrent statements per unit, so that other units get their turn.
const MAX_CONCURRENT: u32 = 2;

/// Submits a statement. The run reports errors in it, except for input that cannot be a statement at all.
pub async fn query_run(
    plane: &Delivery,
    ctx: &OpCtx,
    sql: String,
    variables: Input<Vec<(String, Variable)>>,
) -> Result<Run> {
    plane.estate().require_here(ctx, Noun::RUN, Action::USE).await?;
    plane.estate().require_some(ctx, nouns::DELIVERY, Action::VIEW).await?;
    let variables = variables.checked(|variables, faults| check(&sql, variables, faults))?;
    let input = StoredDataQuery {
        version: 2,
        sql,
        variables: variables
            .iter()
            .map(|(name, value)| (name.clone(), StoredVariable::from(value)))
            .collect(),
    };
    let input = serde_json::to_string(&input).map_err(Error::internal)?;
    let new = NewRun {
        lane: Some(Lane { name: format!("data_query:{}", ctx.authority().ou()), limit: MAX_CONCURRENT }),
        time_limit: Some(plane.options().query_time_limit()),
        ..NewRun::new(&DATA_QUERY, ctx.authority().ou(), input)
    };
    submit(plane.estate(), ctx, new).await
}

fn check(sql: &str, variables: &[(String, Variable)], faults: &mut Faults) {
    if sql.trim().is_empty() {
        faults.push("sql", "required", "is required");
    } else if sql.len() > MAX_SQL {
        faults.push("sql", "too_large", format!("must have at most {MAX_SQL} bytes"));
    } else if sql.contains('\0') {
        faults.push("sql", "character", "must not contain the character U+0000");
    }
    let values: usize = variables
        .iter()
        .map(|(_, value)| match value {
            Variable::Many(values) => values.len(),
            Variable::Null | Variable::One(_) => 1,
        })
        .sum();
    if variables.len() > MAX_VARIABLES || values > MAX_VALUES {
        let message = format!("must have at most {MAX_VARIABLES} names and {MAX_VALUES} values");
        faults.push("variables", "range", message);
    }
}

/// The subtrees whose delivery data the caller can see.
pub(crate) fn reach(ctx: &OpCtx) -> Vec<String> {
    ctx.authority().reach(Permission::new(nouns::DELIVERY, Action::VIEW), 0)
}

/// A query run that the caller can see, and whether its result is still stored.
pub async fn query_run_get(plane: &Delivery, ctx: &OpCtx, which: RunRef) -> Result<Run> {
    run_get(plane.estate(), ctx, which, &KINDS).await
}

/// A token for the whole result, valid for any bearer until it expires.
#[derive(Debug, Clone)]
pub struct ResultGrant {
    pub token: String,
}

/// The purpose of the tokens for this plane's results.
const KEY: &str = "q-";

/// Issues a token for the whole result. The error has the code `execution_not_complete` until the run has ended.
pub async fn result_grant(plane: &Delivery, ctx: &OpCtx, which: RunRef) -> Result<ResultGrant> {
    let run = complete(plane, ctx, which).await?;
    let token = ops::sign_in::data_token(plane.estate(), &format!("{KEY}{}", run.uuid)).await?;
    Ok(ResultGrant { token })
}

/// The result's rows in a format, for the bearer of the token.
pub async fn result_by_token(plane: &Delivery, token: &str, wanted: Wanted) -> Result<ByteStream> {
    let key = ops::sign_in::open_data_token(plane.estate(), token).await?;
    let uuid = key.strip_prefix(KEY).and_then(|uuid| uuid.parse().ok()).ok_or_else(gone)?;
    let opened = results::open(plane.estate(), uuid).await?.ok_or_else(gone)?;
    results::encode(plane.estate(), plane.codec(), opened.kept, &opened.facts, wanted).await
}

/// The result's rows in a format, for the caller.
pub async fn result_open(
    plane: &Delivery,
    ctx: &OpCtx,
    which: RunRef,
    wanted: Wanted,
) -> Result<(ByteStream, u64)> {
    let run = complete(plane, ctx, which).await?;
    let opened = results::open(plane.estate(), run.uuid).await?.ok_or_else(gone)?;
    let rows = opened.facts.rows;
    let bytes = results::encode(plane.estate(), plane.codec(), opened.kept, &opened.facts, wanted).await?;
    Ok((bytes, rows))
}

async fn complete(plane: &Delivery, ctx: &OpCtx, which: RunRef) -> Result<Run> {
    let run = query_run_get(plane, ctx, which).await?;
    if run.kind == DATA_QUERY.kind {
        results::require_readable(ctx, &run, Permission::new(nouns::DELIVERY, Action::VIEW), 0)?;
    }
    if !run.state.is_final() {
        let error =
            Error::conflict(codes::EXECUTION_NOT_COMPLETE, "the query run has not ended yet; try again soon");
        return Err(Error { retry_after: Some(Duration::from_secs(1)), ..error });
    }
    if run.data_expired(plane.estate().now()) {
        return Err(gone());
    }
    if run.state != RunState::Succeeded || run.kind != DATA_QUERY.kind {
        let message = run.error.as_ref().map_or("the query run has no result".to_owned(), |error| {
            format!("the query run has no result: {}", error.message)
        });
        return Err(Error::conflict("query_run_failed", message));
    }
    Ok(run)
}

fn gone() -> Error {
    Error::not_found("run").saying("the result does not exist or has expired: results are kept for 30 days")
}

/// Executes runs of kind `data_query`.
pub struct DataQueryExecutor(pub Delivery);

impl Executor for DataQueryExecutor {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let plane = &self.0;
            let input: StoredDataQuery = serde_json::from_str(&job.run.input).map_err(Error::internal)?;
            let limit = job.run.time_limit.unwrap_or(plane.options().query_time_limit());
            let query = EngineQuery {
                query: statement(input.sql, limit),
                variables: input.variables.into_iter().map(|(name, value)| (name, value.into())).collect(),
                max_rows: Some(plane.options().max_rows.get()),
            };
            // With the submitter's current permissions.
            plane.estate().require_some(job.ctx(), nouns::DELIVERY, Action::VIEW).await?;
            let reach = reach(job.ctx());
            let tables = plane.catalog().seen_by(&reach);
            let stream = plane.engine().query(tables, query, job.token()).await;
            let stream = stream.map_err(|error| source_failure(&error, Some(limit)))?;
            let keeping = Keeping {
                estate: plane.estate(),
                codec: plane.codec(),
                max_bytes: plane.options().max_result_bytes,
                setting: "[delivery] max_result_bytes",
                zone: "UTC".to_owned(),
                reach,
            };
            keeping.keep(stream, job).await
        })
    }
}

pub(crate) fn statement(sql: String, time_limit: Duration) -> Query {
    Query { sql, time_limit, batch_rows: BATCH_ROWS, batch_bytes: BATCH_BYTES, decimals: Vec::new() }
}

/// Runs a statement outside a run, for a request that reads it to the end.
pub(crate) async fn ask(
    plane: &Delivery,
    reach: &[String],
    query: EngineQuery,
    cancel: CancellationToken,
) -> Result<QueryStream> {
    let memory = plane.estate().memory().for_statement().await?;
    let stream = plane.engine().query(plane.catalog().seen_by(reach), query, cancel).await;
    Ok(memory.hold(stream.map_err(|error| query_error(&error))?))
}

/// The error of a statement that runs outside a run. A timeout has the code `query_timed_out`.
pub(crate) fn query_error(error: &SourceError) -> Error {
    match error.kind {
        SourceErrorKind::Query | SourceErrorKind::NotReadOnly | SourceErrorKind::Unsupported => {
            Error::fault("", "sql_error", error.message.clone())
        }
        // A statement that had to wait for others can be retried; one that takes too long would time out every time.
        SourceErrorKind::TimedOut if error.code.as_deref() != Some("busy") => {
            Error::too_large(error.message.clone()).with_code(codes::QUERY_TIMED_OUT)
        }
        SourceErrorKind::Connect
        | SourceErrorKind::Lost
        | SourceErrorKind::TimedOut
        | SourceErrorKind::Cancelled => Error::unavailable("query", error.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use landreeve_core::ErrorKind;

    use super::*;

    #[test]
    fn only_errors_not_caused_by_the_statement_are_retryable() {
        let slow = SourceError::new(SourceErrorKind::TimedOut, "the statement took longer than 30 seconds");
        let error = query_error(&slow);
        assert_eq!((error.kind, error.code), (ErrorKind::TooLarge, codes::QUERY_TIMED_OUT));
        let waited = SourceError { code: Some("busy".to_owned()), ..slow };
        let lost = SourceError::new(SourceErrorKind::Lost, "the SQL engine stopped");
        for error in [waited, lost] {
            assert_eq!(query_error(&error).kind, ErrorKind::Unavailable);
        }
        let wrong = SourceError::new(SourceErrorKind::Query, "no such table");
        assert_eq!(query_error(&wrong).kind, ErrorKind::Invalid);
    }
}
