//! Executions on the wire.

use landreeve_analytics::executions::{self as plane, NewExecution};
use landreeve_analytics::lang::InputParameters;
use landreeve_core::{Error, Fault, Input, Result, RunKind, RunState};
use landreeve_estate::ops::RunError;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, parameters};
use crate::input::{Digits, plain};

pub const KIND: &str = "executions";

#[derive(Debug, Serialize, ToSchema)]
pub struct Execution {
    #[schema(example = "02ca5b65-a269-4c45-8d4a-0c74ff3ae670")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "executions")]
    pub kind: &'static str,
    pub attributes: ExecutionAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutionAttributes {
    #[schema(example = "02ca5b65-a269-4c45-8d4a-0c74ff3ae670")]
    pub execution_id: String,
    /// `sql_query`, `schema_update` or `probe`.
    #[schema(example = "sql_query")]
    pub execution_type: &'static str,
    /// `queued`, `starting`, `running`, `completed`, `failed`, `cancelled` or `timed_out`.
    #[schema(example = "starting")]
    pub execution_status: &'static str,
    /// Null until the execution has completed.
    pub result_columns: Option<u64>,
    pub result_rows: Option<u64>,
    /// In bytes, as stored.
    pub result_size: Option<u64>,
    pub created_at: Time,
    pub updated_at: Time,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    /// Why it did not complete, in the database's words if there are any.
    pub error_message: Option<String>,
    /// The database's error code, or ours.
    pub error_code: Option<String>,
    /// Position of the error in the submitted SQL, in characters starting at 1, if the database reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_position: Option<u64>,
}

/// The dialect's word for a kind that it knows; other kinds are not shown in this dialect.
fn kind_word(kind: RunKind) -> &'static str {
    match kind.as_str() {
        "query" => "sql_query",
        "schema_refresh" => "schema_update",
        other => other,
    }
}

const fn status_word(state: RunState) -> &'static str {
    match state {
        RunState::Held | RunState::Queued => "queued",
        RunState::Starting => "starting",
        RunState::Running | RunState::Cancelling => "running",
        // Expired executions are not shown.
        RunState::Succeeded | RunState::Expired => "completed",
        RunState::Failed | RunState::Lost => "failed",
        RunState::Cancelled => "cancelled",
        RunState::TimedOut => "timed_out",
    }
}

pub fn render(execution: &plane::Execution) -> Execution {
    let run = &execution.run;
    let error = run.error.as_ref();
    let code = |error: &RunError| error.source_code.clone().unwrap_or_else(|| error.code.clone());
    Execution {
        id: run.uuid.to_string(),
        kind: KIND,
        attributes: ExecutionAttributes {
            execution_id: run.uuid.to_string(),
            execution_type: kind_word(run.kind),
            execution_status: status_word(run.state),
            result_columns: execution.columns,
            result_rows: execution.rows,
            result_size: execution.bytes,
            created_at: Time(run.submitted_at),
            updated_at: Time(run.updated_at),
            started_at: run.started_at.map(Time),
            completed_at: run.finished_at.map(Time),
            error_message: error.map(|error| error.message.clone()),
            error_code: error.map(code),
            error_position: error.and_then(|error| error.position).map(u64::from),
        },
    }
}

/// The request to run a statement.
pub fn read(body: &[u8]) -> Result<Input<NewExecution>> {
    let digits = Digits::of(body);
    plain(body, false, |fields| {
        let sql = fields.required("sql_query", |field| field.text(0..=usize::MAX));
        let r_query = fields.optional("r_query", |field| field.text(0..=usize::MAX));
        if r_query.value().is_some_and(|script| !script.trim().is_empty()) {
            let message = "is not supported: this server has no R; leave it out, or use SQL";
            fields.fault("r_query", "not_available", message);
        }
        NewExecution { sql, inputs: parameters::member(fields, &digits) }
    })
}

/// The plane's fields as pointers into the body of Run Execution.
pub fn point(error: Error, inputs: &InputParameters) -> Error {
    elsewhere(parameters::point(error, inputs), |fault| Fault { field: "/sql_query".to_owned(), ..fault })
}

/// The same for a report, whose SQL is not in the body.
pub fn point_report(error: Error, inputs: &InputParameters) -> Error {
    elsewhere(parameters::point(error, inputs), |fault| outside("the report's query", fault))
}

/// The same for the options of a filter.
pub fn point_options(error: Error, inputs: &InputParameters) -> Error {
    elsewhere(parameters::point(error, inputs), |fault| outside("the filter's query", fault))
}

/// Maps faults of the statement, and faults of what it uses that is not in the body.
fn elsewhere(error: Error, statement: impl Fn(Fault) -> Fault) -> Error {
    let faults = error.faults.into_iter().map(|fault| match fault.field.as_str() {
        "sql" | "sql_query" => statement(fault),
        "query" => outside("the query of a filter's options", fault),
        "datasource" => {
            Fault { field: String::new(), message: format!("the datasource {}", fault.message), ..fault }
        }
        _ => fault,
    });
    Error { faults: faults.collect(), ..error }
}

fn outside(what: &str, fault: Fault) -> Fault {
    Fault { field: String::new(), message: format!("{what}: {}", fault.message), ..fault }
}

/// The address and token for an execution's data.
#[derive(Debug, Serialize, ToSchema)]
pub struct DataAccess {
    pub data_key: String,
    pub data_access_token: String,
    /// Unix seconds: when the query ran.
    #[schema(example = 1712233090)]
    pub data_timestamp: i64,
}

/// The body of Run Execution, for the reference.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunExecution {
    /// At most 1 MiB.
    #[schema(min_length = 1, max_length = 1048576, example = "select count(*) from orders")]
    sql_query: String,
    /// Must be empty: this server has no R.
    #[schema(required = false, max_length = 0)]
    r_query: String,
    #[schema(required = false)]
    parameters: parameters::InputParametersBody,
}

/// The body of Run Report and Get Drop-Down Filter Options, for the reference.
#[derive(Debug, Serialize, ToSchema)]
pub struct Parameters {
    #[schema(required = false)]
    parameters: parameters::InputParametersBody,
}
