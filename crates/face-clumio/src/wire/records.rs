//! Rows of a backup: what is asked for, the first of them, and results that can be downloaded.

use landreeve_core::ids::RunId;
use landreeve_core::{Error, Input, Result};
use landreeve_http::body::{Field, json_object, read_input};
use landreeve_http::extract::decimal;
use landreeve_protection::records::restoring::{MAX_SQL, NewRecords, Preview, Records, RecordsFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backups::RULES;
use super::datasources::uuid;
use super::filter::{Conditions, Op, Rule};
use super::link::{Base, Links};
use super::{ACCOUNT, REGION, time};

pub const FILTER: [Rule; 1] = [Rule::text("task_id", &[Op::In])];

pub fn filter(asked: &Conditions) -> RecordsFilter {
    // An id that is not a number is of no task.
    let id = |text: &str| decimal(text, "task").ok().map(RunId);
    let runs = asked.texts("task_id", Op::In).map(|ids| ids.into_iter().filter_map(id).collect());
    RecordsFilter { uuid: None, runs }
}

/// A SELECT over the tables of a backup.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RecordsRequest {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    source: RecordsSource,
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    target: RecordsTarget,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RecordsSource {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    backup_id: String,
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    database_name: String,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RecordsTarget {
    /// One SELECT.
    #[schema(min_length = 1, max_length = 65536)]
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    query_statement: String,
    /// Whether to answer with the first 100 rows.
    #[expect(
        dead_code,
        reason = "only documents the body; `read_records` parses it and collects all faults"
    )]
    preview: Option<bool>,
}

/// What is asked for, and whether only the first rows are.
pub fn read_records(body: &[u8]) -> Result<(NewRecords, bool)> {
    let body = json_object(body)?;
    let input = read_input(&body, RULES, |body| {
        let source = body.required("source", |field| {
            field.object(|source| {
                let backup = source.required("backup_id", |field| field.text(0..=255));
                (backup, source.required("database_name", |field| field.text(0..=255)))
            })
        });
        let target = body.required("target", |field| {
            field.object(|target| {
                let sql = target.required("query_statement", |field| field.text(1..=MAX_SQL));
                (sql, target.optional("preview", Field::bool).value().unwrap_or_default())
            })
        });
        (source, target)
    });
    let backup = uuid(&input.value().0.0, "backup");
    let ((_, database), (sql, preview)) = Input::valid(input)?;
    Ok((NewRecords { backup: backup?, database, sql }, preview))
}

/// By the request's names.
pub fn named(error: Error) -> Error {
    let mut error = error;
    for fault in &mut error.faults {
        if fault.field == "sql" {
            fault.field = "target.query_statement".to_owned();
        }
    }
    error
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewBody {
    preview_result: PreviewResult,
}

#[derive(Debug, Serialize, ToSchema)]
struct PreviewResult {
    columns: Vec<PreviewColumn>,
    /// At most 100. Every value is a string, or null.
    rows: Vec<Vec<Option<String>>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PreviewColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

impl From<Preview> for PreviewBody {
    fn from(preview: Preview) -> PreviewBody {
        let columns = preview.columns.into_iter().map(|(name, kind)| PreviewColumn { name, kind });
        PreviewBody { preview_result: PreviewResult { columns: columns.collect(), rows: preview.rows } }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RecordsBody {
    id: String,
    task_id: String,
    backup_id: String,
    resource_id: String,
    database_name: String,
    query_statement: String,
    row_count: u64,
    start_timestamp: String,
    expiration_timestamp: String,
    /// Needs no credential.
    download_link: String,
    account_native_id: &'static str,
    aws_region: &'static str,
    #[serde(rename = "_links")]
    links: Links,
}

impl RecordsBody {
    /// `site`: scheme and host as the client knows them.
    pub fn new(base: &Base, site: &str, records: &Records, token: &str) -> RecordsBody {
        let path = format!("/restores/aws/rds-resources/records/{}", records.uuid);
        let download = base.get(&format!("{path}/_download?token={token}"));
        RecordsBody {
            id: records.uuid.to_string(),
            task_id: records.run.to_string(),
            backup_id: records.backup.to_string(),
            resource_id: records.resource.to_string(),
            database_name: records.database.clone(),
            query_statement: records.sql.clone(),
            row_count: records.rows,
            start_timestamp: time(records.started_at),
            expiration_timestamp: time(records.expires_at),
            download_link: format!("{site}{}", download.href()),
            account_native_id: ACCOUNT,
            aws_region: REGION,
            links: Links::new(base.get(&path))
                .and(true, "read-task", || base.get(&format!("/tasks/{}", records.run))),
        }
    }
}
