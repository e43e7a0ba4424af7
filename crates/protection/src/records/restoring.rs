//! Rows of a backup by a SELECT: the first of them at once, or all of them kept for a day, to be downloaded with a link.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::schema::{logical_type, native_type};
use landreeve_core::source::{ByteStream, CancellationToken, EncodeOptions, QueryStream, ResultFormat};
use landreeve_core::{Action, Category, Error, OpCtx, Page, PageOf, Permission, Result, RunState};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::{Narrow, Origin, OwnedAct, RunFilter, runs, sign_in};
use landreeve_estate::results::{self, Keeping, Wanted};
use landreeve_estate::runs::{Executor, Job, KindSpec, NewRun, Outcome, Run, list};
use serde_json::Value;
use uuid::Uuid;

use super::{RecordQuery, query_error, record_query, usable};
use crate::backups::{self, Backup};
use crate::nouns::RECORD;
use crate::plane::{Protection, RECORDS};
use crate::stored::StoredRecords;

const DAY: Duration = Duration::from_secs(86_400);
/// Rows of a preview, how long it may take, and the bytes of its rows.
pub const PREVIEW_ROWS: usize = 100;
const PREVIEW_TIME: Duration = Duration::from_secs(30);
const PREVIEW_BYTES: usize = 8 * 1_024 * 1_024;
/// Maximum length of a statement.
pub const MAX_SQL: usize = 64 * 1_024;

pub const RECORD_RESTORE: KindSpec = KindSpec {
    pool: RECORDS,
    reserves_memory: true,
    time_limit: Some(Duration::from_secs(3_600)),
    keep_record: DAY.saturating_mul(90),
    keep_data: DAY,
    ..KindSpec::new("record_restore", Category::Restore)
};

/// A SELECT over the tables of a backup's database.
#[derive(Debug, Clone)]
pub struct NewRecords {
    pub backup: Uuid,
    pub database: String,
    pub sql: String,
}

/// The first rows of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Name, and type as the database or SQL calls it.
    pub columns: Vec<(String, String)>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// A result that is kept.
#[derive(Debug, Clone)]
pub struct Records {
    pub run: RunId,
    pub uuid: Uuid,
    pub backup: Uuid,
    pub resource: Uuid,
    pub database: String,
    pub sql: String,
    pub rows: u64,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A result that is being downloaded.
pub struct Download {
    pub uuid: Uuid,
    pub csv: ByteStream,
}

/// The backup, if the caller may read its rows and it has this database.
async fn readable(plane: &Protection, ctx: &OpCtx, new: &NewRecords) -> Result<Backup> {
    let backup = usable(plane, ctx, new.backup).await?;
    backups::require_record(plane, ctx, &backup).await?;
    if backup.asset.database() != new.database {
        let message = format!("the backup has no database {}", new.database);
        return Err(Error::not_found("database").saying(message));
    }
    Ok(backup)
}

async fn begun(
    plane: &Protection,
    ctx: &OpCtx,
    new: &NewRecords,
    cancel: CancellationToken,
) -> Result<QueryStream> {
    let (backup, sql) = (new.backup, new.sql.clone());
    let asked = RecordQuery { backup, sql, time_limit: PREVIEW_TIME, max_rows: None };
    let memory = plane.estate().memory().for_statement().await?;
    Ok(memory.hold(record_query(plane, ctx, asked, cancel).await?))
}

/// The first rows, as texts.
pub async fn record_preview(plane: &Protection, ctx: &OpCtx, new: NewRecords) -> Result<Preview> {
    readable(plane, ctx, &new).await?;
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let reading = async {
        let mut stream = begun(plane, ctx, &new, cancel).await?;
        let columns = stream.schema.fields().iter().map(|field| {
            let native = native_type(field);
            let shown = if native.is_empty() { logical_type(field).as_str() } else { native };
            (field.name().clone(), shown.to_owned())
        });
        let columns = columns.collect();
        let rows = first_rows(plane, &mut stream).await?;
        Ok(Preview { columns, rows })
    };
    let late =
        || Error::fault("sql", "timeout", "took longer than 30 seconds; restore its rows without a preview");
    tokio::time::timeout(PREVIEW_TIME, reading).await.map_err(|_| late())?
}

/// Texts are those of a download, so they go the same way.
async fn first_rows(plane: &Protection, stream: &mut QueryStream) -> Result<Vec<Vec<Option<String>>>> {
    let codec = plane.codec();
    let mut writer = codec.writer(&stream.schema).map_err(Error::internal)?;
    let (mut kept, mut left, mut bytes) = (Vec::new(), PREVIEW_ROWS, 0);
    while left > 0 {
        let Some(batch) = stream.batches.next().await else { break };
        let batch = batch.map_err(|error| query_error(&error))?;
        let batch = batch.slice(0, left.min(batch.num_rows()));
        left -= batch.num_rows();
        kept.push(writer.write(&batch).map_err(Error::internal)?);
        bytes += kept.last().map_or(0, bytes::Bytes::len);
        if bytes > PREVIEW_BYTES {
            let message = "has rows that are too large for a preview; restore them without one";
            return Err(Error::fault("sql", "too_large", message));
        }
    }
    kept.push(writer.finish().map_err(Error::internal)?);
    let options = EncodeOptions {
        format: ResultFormat::Json,
        envelope: None,
        time_zone: TimeZone::UTC,
        row_count: None,
        most_rows: None,
        csv_separator: b',',
        integers_as_strings: true,
    };
    let kept: ByteStream = Box::pin(futures_util::stream::iter(kept.into_iter().map(Ok)));
    let chunks: Vec<bytes::Bytes> =
        codec.encode(kept, options).try_collect().await.map_err(Error::internal)?;
    let rows: Vec<Vec<Value>> = serde_json::from_slice(&chunks.concat()).map_err(Error::internal)?;
    let text = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

/// Starts to read all rows, which are kept for a day.
pub async fn record_restore_start(plane: &Protection, ctx: &OpCtx, new: NewRecords) -> Result<Run> {
    let backup = readable(plane, ctx, &new).await?;
    // What is wrong with the statement is said now, not by a run that fails.
    let cancel = CancellationToken::new();
    drop(begun(plane, ctx, &new, cancel.clone()).await?);
    cancel.cancel();
    let input = StoredRecords::new(&backup, new.sql).as_json()?;
    let new = NewRun { noun: Some((RECORD, backup.id.0)), ..NewRun::new(&RECORD_RESTORE, backup.ou, input) };
    runs::submit(plane.estate(), ctx, new).await
}

/// Reads rows and keeps them.
pub struct RestoringRecords(pub Protection);

impl Executor for RestoringRecords {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (plane, estate) = (&self.0, self.0.estate());
            let input = StoredRecords::parse(&job.run.input)?;
            let time_limit = job.run.time_limit.unwrap_or(DAY);
            let asked = RecordQuery { backup: input.backup, sql: input.sql, time_limit, max_rows: None };
            let stream = record_query(plane, job.ctx(), asked, job.token()).await?;
            let keeping = Keeping {
                estate,
                codec: plane.codec(),
                max_bytes: plane.options().max_result_bytes,
                setting: "[protection] max_result_bytes",
                zone: "UTC".to_owned(),
                reach: Vec::new(),
            };
            keeping.keep(stream, job).await
        })
    }
}

/// A grant for a single datasource covers the rows of its backups.
const PLACE: Place = Place::named(
    "runs.ou_id",
    "runs.noun_id IN (SELECT b.id FROM backups b JOIN assets a ON a.id = b.asset_id \
     JOIN datasources d ON d.uuid = a.uuid WHERE d.id IN ($$))",
);

/// Limits a list of results.
#[derive(Debug, Clone, Default)]
pub struct RecordsFilter {
    pub uuid: Option<Uuid>,
    pub runs: Option<Vec<RunId>>,
}

/// The results that can still be downloaded, the newest first.
pub async fn records_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &RecordsFilter,
    page: Page,
) -> Result<PageOf<Records>> {
    let estate = plane.estate();
    estate.require_some(ctx, RECORD, Action::USE).await?;
    let visibility = Visibility::of(ctx, Permission::new(RECORD, Action::USE));
    let (now, uuid) = (estate.now(), asked.uuid);
    let since = now.checked_sub(jiff::SignedDuration::from_hours(24)).map_err(Error::internal)?;
    let narrow = Narrow(std::sync::Arc::new(move |wanted| {
        // What cannot be said as SQL is not shown.
        let seen = visibility.condition(wanted, &PLACE).unwrap_or_else(|_| "1 = 0".to_owned());
        wanted.and(&seen);
        wanted.and_value("runs.finished_at > $$", since);
        if let Some(uuid) = uuid {
            wanted.and_value("runs.uuid = $$", uuid);
        }
    }));
    let filter = RunFilter {
        kinds: vec![RECORD_RESTORE.kind],
        states: vec![RunState::Succeeded],
        ids: asked.runs.clone(),
        narrow: Some(narrow),
        ..RunFilter::default()
    };
    let mut conn = estate.store().read().await?;
    let found = list::list(&mut conn, &Visibility::below(ctx), &filter, page).await?;
    let items = found.items.iter().map(shown).collect::<Result<Vec<_>>>()?;
    Ok(PageOf { items, offset: found.offset, limit: found.limit, total: found.total })
}

fn shown(run: &Run) -> Result<Records> {
    let StoredRecords { backup, resource, database, sql, .. } = StoredRecords::parse(&run.input)?;
    let ended = run.finished_at.unwrap_or(run.updated_at);
    Ok(Records {
        run: run.id,
        uuid: run.uuid,
        backup,
        resource,
        database,
        sql,
        rows: results::summary(run).map_or(0, |summary| summary.rows),
        started_at: run.started_at.unwrap_or(run.submitted_at),
        expires_at: ended.checked_add(run.keep_data).map_err(Error::internal)?,
    })
}

pub async fn records_get(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Records> {
    let asked = RecordsFilter { uuid: Some(uuid), runs: None };
    let found = records_page(plane, ctx, &asked, Page::first(1)).await?;
    found.items.into_iter().next().ok_or_else(gone)
}

fn gone() -> Error {
    Error::not_found("result").saying("there are no such restored records, or no longer")
}

/// The token of a link to a result. Anyone who has it can download the rows until they expire.
pub async fn record_token(plane: &Protection, records: &Records) -> Result<String> {
    sign_in::link_token(plane.estate(), &records.uuid.to_string(), records.expires_at).await
}

/// Opens the result that a link is for. `origin` says from where it is asked for.
pub async fn record_download(
    plane: &Protection,
    origin: Origin,
    (uuid, token): (Uuid, &str),
) -> Result<Download> {
    let estate = plane.estate();
    let subject = sign_in::open_link_token(estate, token).await.map_err(|_| gone())?;
    if subject != uuid.to_string() {
        return Err(gone());
    }
    let system = sign_in::system(estate);
    let which = runs::RunRef::Uuid(uuid);
    let run = runs::run_get(estate, &system, which, &[RECORD_RESTORE.kind]).await.map_err(|_| gone())?;
    let opened = results::open(estate, uuid).await?.ok_or_else(gone)?;
    let ctx = sign_in::for_link(estate, origin, run.ou).await?;
    let act = OwnedAct::new("downloaded", RECORD, run.id.0, uuid.to_string());
    estate.change(&ctx, act, |_| Box::pin(async { Ok(()) })).await?;
    let wanted =
        Wanted { format: ResultFormat::Csv, envelope: None, integers_as_strings: false, most_rows: None };
    let csv = results::encode(estate, plane.codec(), opened.kept, &opened.facts, wanted).await?;
    Ok(Download { uuid, csv })
}
